"""Components compute the same whatever the process's default dtype and device are."""

import pytest
import torch
from process_defaults import DTYPES, defaults
from test_quantizer_contract import CONFIGS

from zoo.components.audio.log_mel import LogMel
from zoo.components.audio.mel import MelSpectrum
from zoo.components.discriminators.clips import ClipDiscriminator, ClipDiscriminatorConfig
from zoo.components.discriminators.waves import DiscriminatorConfig, Discriminators
from zoo.components.flow import Path, Solver, draw_noise, draw_times, drop_conditions, sample
from zoo.components.layers.block import BlockConfig
from zoo.components.layers.bspline import derivative_basis
from zoo.components.layers.positions import (
    RelativePositionBias2d,
    relative_sincos,
    sincos_1d,
    sincos_2d,
    sincos_3d,
    sinusoids,
    timestep_embedding,
)
from zoo.components.losses.adversarial import LeCam
from zoo.components.losses.spectral import MultiResolutionSTFT
from zoo.components.prior import CausalConfig, CodePrior, CodePriorConfig, draw_ids
from zoo.components.quantizers import build
from zoo.components.query import (
    GroupTransformerConfig,
    QueryDecoder,
    QueryDecoderConfig,
    QueryEncoder,
    QueryEncoderConfig,
    TokenGroup,
)
from zoo.components.vocoder.config import VocoderConfig
from zoo.components.vocoder.pitch import fundamental_frequency
from zoo.components.vocoder.vocoder import Vocoder
from zoo.process.fresh import fresh

CPU = torch.device("cpu")
SETTINGS = [*({"dtype": dtype} for dtype in DTYPES), {"device": "meta"}]


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=seeded(seed), dtype=torch.float32, device="cpu")


def as_ever(compute, setting):
    """Whether a function's tensors, in whatever it returns, are those of the usual defaults."""
    expected = list(tensors(compute()))
    with defaults(**setting):
        found = list(tensors(compute()))
    assert expected
    return len(expected) == len(found) and all(
        a.dtype == b.dtype and a.device == b.device and torch.equal(a, b) for a, b in zip(expected, found, strict=True)
    )


def tensors(value):
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, dict):
        for part in value.values():
            yield from tensors(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from tensors(part)


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", CONFIGS)
def test_quantizers(name, setting):
    with fresh():
        quantizer = build(CONFIGS[name])
    z = normal(9, quantizer.input_dim, seed=1)

    def compute():
        generator = seeded(2)
        made = [quantizer.train(mode)(z, generator=generator) for mode in (False, True)]
        if not quantizer.num_codebooks:
            return made
        ids = quantizer.ids(z)
        return made, ids, quantizer.codes(ids)

    state = {key: value.clone() for key, value in quantizer.state_dict().items()}
    expected = list(tensors(compute()))
    quantizer.load_state_dict(state)
    with defaults(**setting):
        found = list(tensors(compute()))
    assert [value.dtype for value in found] == [value.dtype for value in expected]
    assert all(map(torch.equal, found, expected))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CONFIGS)
def test_weights_of_quantizers_are_float32(name, dtype):
    with defaults(dtype):
        quantizer = build(CONFIGS[name])
        assert {p.dtype for p in quantizer.parameters()} <= {torch.float32}
        z = torch.zeros(2, quantizer.input_dim, dtype=torch.float32)
        codes = quantizer(z).codes
    assert codes.dtype == torch.float32
    built = {key: value.dtype for key, value in quantizer.named_buffers()}
    assert built == {key: value.dtype for key, value in build(CONFIGS[name]).named_buffers()}


TABLES = {
    "log mel": lambda: dict(
        LogMel(num_mel=8, n_fft=64, hop_length=16, sample_rate=16000, token_samples=32).named_buffers()
    ),
    "mel": lambda: dict(MelSpectrum(8, 16000, 256).named_buffers()),
    "spectral": lambda: dict(MultiResolutionSTFT().named_buffers()),
    "LeCam": lambda: dict(LeCam().named_buffers()),
    "sincos_1d": lambda: sincos_1d(5, 8),
    "sincos_2d": lambda: sincos_2d((2, 3), 8),
    "sincos_3d": lambda: sincos_3d((2, 2, 3), 8),
}


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", TABLES)
def test_tables(name, dtype):
    assert as_ever(TABLES[name], {"dtype": dtype})


def _path():
    return sample(lambda x, t: x * t[:, None], normal(2, 3), Path(), Solver(3))


FUNCTIONS = {
    "noise": lambda: draw_noise((2, 3), seeded(), CPU),
    "noise an item": lambda: draw_noise((2, 3), [seeded(), seeded(1)]),
    "no noise": lambda: draw_noise((0, 3), seeded(), CPU),
    "times": lambda: draw_times(4, generator=seeded()),
    "stratified times": lambda: draw_times(4, generator=seeded(), is_stratified=True),
    "dropped": lambda: drop_conditions([normal(8, 2)], [normal(2)], 0.5, seeded()),
    "sinusoids": lambda: sinusoids(normal(4), 8),
    "times as numbers": lambda: timestep_embedding(draw_times(4, generator=seeded()), 8),
    "distances": lambda: relative_sincos(4, 8, CPU),
    "solver": _path,
    "ids": lambda: draw_ids(normal(3, 5), generator=seeded()),
    "splines": lambda: derivative_basis(torch.arange(5, dtype=torch.float64, device="cpu") / 4, 5, 3, 1),
    "pitch": lambda: fundamental_frequency(normal(1, 4000), 16000, 256),
}


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize("name", FUNCTIONS)
def test_functions(name, setting):
    assert as_ever(FUNCTIONS[name], setting)


def _modules():
    groups = (TokenGroup("patches"), TokenGroup("queries"))
    block = GroupTransformerConfig(groups, BlockConfig(12, 3, 20), 2)
    encoder = QueryEncoder(QueryEncoderConfig(block, num_queries=4, output_size=5))
    decoder = QueryDecoder(
        QueryDecoderConfig(
            GroupTransformerConfig((TokenGroup("latents"), TokenGroup("queries")), BlockConfig(12, 3, 20), 2),
            input_size=5,
            output_size=7,
            num_latents=4,
            num_queries=6,
        )
    )
    prior = CodePrior(
        CodePriorConfig(4, transformer=CausalConfig(width=32, num_layers=2, num_heads=2, max_length=12, dropout=0.0))
    )
    vocoder = Vocoder(8, 24000, VocoderConfig(channels=16, pitch_channels=12))
    discriminators = Discriminators(DiscriminatorConfig(channels=2))
    size = {"size": (2, 4, 4), "patch": (1, 2, 2), "width": 8, "num_layers": 1, "num_heads": 2}
    judge = ClipDiscriminator(ClipDiscriminatorConfig(**size))
    bias, stft = RelativePositionBias2d(2, 2), MultiResolutionSTFT()
    codebook = torch.nn.functional.normalize(normal(9, 4), dim=1)
    ids = torch.randint(9, (2, 8), generator=seeded(), device="cpu")
    return {
        "query encoder": lambda: encoder({"patches": normal(2, 6, 12)}),
        "query decoder": lambda: decoder(normal(2, 4, 5)),
        "prior": lambda: (
            prior(codebook[ids]),
            prior.loss(codebook[ids], ids, codebook, replaced=0.5, generator=seeded()),
        ),
        "vocoder": lambda: vocoder(normal(1, 8, 6), seeded()),
        "relative positions": lambda: bias((2, 3)),
        "spectra": lambda: stft(normal(1, 4000), normal(1, 4000, seed=1)),
        "discriminators": lambda: discriminators(normal(1, 4000)),
        "clips": lambda: judge(normal(2, 3, 2, 4, 4)),
    }


@pytest.fixture(scope="module")
def modules():
    with fresh():
        return _modules()


@pytest.mark.parametrize("setting", SETTINGS, ids=str)
@pytest.mark.parametrize(
    "name",
    ["query encoder", "query decoder", "prior", "vocoder", "relative positions", "spectra", "discriminators", "clips"],
)
def test_modules(modules, name, setting):
    with torch.no_grad():
        assert as_ever(modules[name], setting)
