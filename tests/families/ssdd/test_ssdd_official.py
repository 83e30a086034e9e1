"""Released files of SSDD: latents and pictures against the formulas written out, halves of files, and broken ones."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import ssdd_plain as plain
import torch
from safetensors.torch import load_file, save_file
from ssdd_counts import PAIRS
from tiny_ssdd import FSQ, make

import zoo
from zoo.checkpoint.diffusers import diffusers_name
from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import GaussianConfig
from zoo.errors import CheckpointError, ConfigError, NotFittedError, TokenError
from zoo.families.autoencoder_kl import AutoencoderKLConfig, AutoencoderKLTokenizer
from zoo.families.autoencoder_kl import official as official_vae
from zoo.families.ssdd import SIZES, SSDDConfig, SSDDTokenizer
from zoo.families.ssdd.config import encoder_config
from zoo.families.ssdd.official import folder as official
from zoo.families.ssdd.official import names
from zoo.hub import parse_uri

SMALL = {"widths": (32, 32, 64, 64), "encoder": (32, 32, 64, 64)}


def pictures(*size, count=1):
    return torch.rand(count, 3, *size, generator=torch.Generator().manual_seed(0))


def write(folder, tensors, name="model.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / name)
    return folder


@pytest.fixture(scope="module")
def released():
    return plain.tensors(**SMALL)


@pytest.fixture
def folder(tmp_path, released):
    return write(tmp_path / "x", released)


class TestNumbers:
    @pytest.mark.parametrize("size", [(64, 64), (32, 48), (144, 16)])  # of the window, smaller, and larger by two bands
    def test_latents_and_pictures_are_those_of_the_formulas(self, folder, released, size):
        tokenizer = zoo.load(folder)
        assert (tokenizer.family, tokenizer.config.steps) == ("ssdd", 8)
        x = pictures(*size)
        with torch.no_grad():
            mean, _ = plain.moments(released, 2 * x - 1)
            noise = torch.randn(1, 3, *size, generator=torch.Generator().manual_seed(1))
            latents = tokenizer.encode_latents(x)
            assert torch.allclose(latents.maps, mean, atol=1e-4)
            for steps in (1, 8) if size == (32, 48) else (1,):
                made = tokenizer.decode_latents(mean, noise=noise, steps=steps, clamp=False)
                expected = (plain.decode(released, mean, noise, steps) + 1) / 2
                assert torch.allclose(made, expected, atol=1e-4)
        assert torch.equal(
            tokenizer.decode_latents(mean, noise=noise), tokenizer.decode_latents(mean, noise=noise, steps=8)
        )

    def test_coarser_latents(self, tmp_path):
        released = plain.tensors(**SMALL | {"encoder": (32, 32, 32, 32, 64), "latents": 3})
        tokenizer, x = zoo.load(write(tmp_path / "x", released)), pictures(32, 64)
        assert tokenizer.config.latent_channels == 3
        with torch.no_grad():
            mean, _ = plain.moments(released, 2 * x - 1)
            assert mean.shape == (1, 3, 2, 4)
            assert torch.allclose(tokenizer.encode_latents(x).maps, mean, atol=1e-4)
            noise = torch.randn(1, 3, 32, 64)
            made = tokenizer.decode_latents(mean, noise=noise, steps=2, clamp=False)
            assert torch.allclose(made, (plain.decode(released, mean, noise, 2) + 1) / 2, atol=1e-4)

    def test_variances_are_those_of_the_formulas(self, folder, released):
        tokenizer, x = zoo.load(folder), pictures(32, 32)
        with torch.no_grad():
            mean, log_variance = plain.moments(released, 2 * x - 1)
            quantized = tokenizer.quantizer(tokenizer.moments(x))
        divergence = 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum((1, 2, 3)).mean()
        assert torch.allclose(quantized.losses["kl"], tokenizer.quantizer.kl_weight * divergence, rtol=1e-4)


class TestLayout:
    def test_published_sizes_have_the_listed_tensors(self):
        config = SSDDConfig(None, encoder_config(8), decoder=SIZES["M"])
        with torch.device("meta"):
            state = SSDDTokenizer(config).state_dict()
            found = {name: tuple(tensor.shape) for name, tensor in names.released_tensors(state).items()}
        wide = SIZES["M"].widths
        expected = dict(plain.shapes(wide, 12, 4, 4, (128, 256, 512, 512)))
        assert found == expected
        assert sum(name.startswith("decoder.") for name in found) == 428
        assert sum(name.startswith("encoder.") for name in found) == 108

    def test_published_sizes_are_told_from_the_tensors(self, tmp_path):
        released = dict(plain.shapes((32, 64, 96, 96), 8, 4, 4, (128, 256, 512, 512)))
        kinds = {name: (shape, torch.float32) for name, shape in released.items()}
        config = official.settings.read(kinds, tmp_path / "F8C4_XS_128.safetensors")
        assert config.decoder == SIZES["XS"]
        assert config == SSDDConfig(None, encoder_config(8), decoder=SIZES["XS"])
        with pytest.raises(CheckpointError, match="named as f16c4 of size XS, and holds f8c4"):
            official.settings.read(kinds, tmp_path / "F16C4_XS_128.safetensors")
        with pytest.raises(CheckpointError, match="mislabelled"):
            official.settings.read(kinds, tmp_path / "demo_f8c4_M_128.safetensors")

    def test_round_trip(self, folder, released, tmp_path):
        path = official.write(zoo.load(folder), tmp_path / "out" / "mine.safetensors")
        again = load_file(path)
        assert again.keys() == released.keys()
        assert all(torch.equal(again[name], tensor) for name, tensor in released.items())

    def test_saved_in_our_layout_it_is_the_same(self, folder, tmp_path):
        tokenizer, x = zoo.load(folder), pictures(32, 32)
        ours = zoo.load(zoo.save(tokenizer, tmp_path / "ours"))
        assert ours.config == tokenizer.config
        assert ours.spec.licence == "CC-BY-NC-4.0"
        assert torch.equal(ours.encode_latents(x).values, tokenizer.encode_latents(x).values)

    def test_a_file_by_its_path(self, folder, tmp_path):
        x = pictures(32, 32)
        expected = zoo.load(folder).encode_latents(x).values
        assert torch.equal(zoo.load(folder / "model.safetensors").encode_latents(x).values, expected)
        assert torch.equal(
            zoo.load(str(folder / "model.safetensors"), family="ssdd").encode_latents(x).values, expected
        )
        below = write(tmp_path / "hub" / "F8C4", load_file(folder / "model.safetensors")).parent
        assert torch.equal(zoo.load(below).encode_latents(x).values, expected)
        write(below / "F8C4", load_file(folder / "model.safetensors"), "other.safetensors")
        with pytest.raises(CheckpointError, match="Nor does it hold"):
            zoo.load(below)
        with pytest.raises(CheckpointError, match="which is meant is not guessed"):
            official.load(below)


class TestHalves:
    def test_the_encoder_alone(self, folder, released, tmp_path):
        x = pictures(32, 32)
        expected = zoo.load(folder).encode_latents(x)
        half = zoo.load(folder, decoder=False)
        alone = zoo.load(write(tmp_path / "e", {n: t for n, t in released.items() if n.startswith("encoder.")}))
        for tokenizer in (half, alone):
            assert torch.equal(tokenizer.encode_latents(x).values, expected.values)
            assert not any(name.startswith("decoder") for name in tokenizer.state_dict())
            with pytest.raises(TokenError, match="without its decoder"):
                tokenizer.decode_latents(expected)

    def test_the_decoder_alone(self, folder, released, tmp_path):
        tensors = {n: t for n, t in released.items() if n.startswith("decoder.")}
        tokenizer = zoo.load(write(tmp_path / "d", tensors))
        maps, noise = torch.randn(1, 4, 4, 4), torch.randn(1, 3, 32, 32)
        expected = zoo.load(folder).decode_latents(maps, noise=noise, steps=1)
        assert torch.equal(tokenizer.decode_latents(maps, noise=noise, steps=1), expected)
        with pytest.raises(TokenError, match="encodes nothing"):
            tokenizer.encode_latents(pictures(32, 32))
        with pytest.raises(CheckpointError, match="nothing to load"):
            zoo.load(tmp_path / "d", decoder=False)
        with pytest.raises(NotFittedError, match="decoder alone"):
            zoo.save(tokenizer, tmp_path / "y")


class TestStableDiffusionsEncoder:
    """Of the models named SDVAE: in diffusers' names, within the file or beside it."""

    @pytest.fixture
    def vae(self):
        torch.manual_seed(0)
        config = AutoencoderKLConfig(32, ConvConfig((32, 32, 32, 64)), GaussianConfig(4))
        return AutoencoderKLTokenizer(config).eval()

    @pytest.fixture
    def decoder(self, released):
        return {n: t for n, t in released.items() if n.startswith("decoder.")}

    def check(self, tokenizer, vae, released):
        x = pictures(32, 32)
        latents = tokenizer.encode_latents(x)
        assert torch.allclose(latents.values, vae.encode_latents(x).values, atol=1e-5)  # not scaled
        noise = torch.randn(1, 3, 32, 32)
        made = tokenizer.decode_latents(latents, noise=noise, steps=1, clamp=False)
        with torch.no_grad():
            assert torch.allclose(made, (plain.decode(released, latents.maps, noise, 1) + 1) / 2, atol=1e-4)

    def test_within(self, vae, decoder, released, tmp_path):
        inside = {f"encoder.vae.{diffusers_name(name)}": tensor for name, tensor in vae.state_dict().items()}
        folder = write(tmp_path / "x", decoder | inside)
        self.check(zoo.load(folder), vae, released)
        assert zoo.load(folder, decoder=False).encode_latents(pictures(32, 32)).grid == (4, 4)
        write(folder, decoder | inside | {"encoder.vae.extra": torch.zeros(1)})
        with pytest.raises(CheckpointError, match="extra"):
            official.load(folder)

    def test_beside(self, vae, decoder, released, tmp_path):
        folder = write(tmp_path / "x", decoder, "decoder.safetensors")
        official_vae.write(vae, tmp_path / "vae")
        shutil.copy(tmp_path / "vae" / "diffusion_pytorch_model.safetensors", folder)
        self.check(zoo.load(folder), vae, released)


class TestBroken:
    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda w: w.pop("encoder.out_proj.bias"), "encoder.out_proj.bias"),
            (lambda w: w.update(extra=torch.zeros(1)), "extra"),
            (lambda w: w.update({"decoder.conv_out.bias": torch.zeros(4)}), "decoder.conv_out.bias"),
            (lambda w: w.update({"decoder.conv_out.bias": torch.full((3,), torch.nan)}), "decoder.conv_out.bias"),
            (lambda w: w.pop("decoder.conv_in.weight"), "decoder.conv_in.weight"),
            (lambda w: w.update({"encoder.out_proj.weight": torch.zeros(6, 6, 1, 1)}), "6 outputs"),
            (lambda w: w.update({"encoder.out_proj.weight": torch.zeros(6)}), "4 dimensions"),
            (lambda w: w.update({"decoder.conv_in.weight": torch.zeros(32, 3, 3, 3)}), "outputs"),
            (
                lambda w: w.update({"decoder.down_blocks.1.resnets.0.conv1.weight": torch.zeros(40, 32, 3, 3)}),
                "no size",
            ),
            (
                lambda w: w.update(
                    {
                        n: torch.zeros(4, 4, 4)
                        for n in w
                        if n.endswith("blocks.0.relative_position_bias.relative_bias_table")
                    }
                ),
                "odd number",
            ),
        ],
    )
    def test_tensors(self, released, tmp_path, change, message):
        tensors = dict(released)
        change(tensors)
        with pytest.raises(CheckpointError, match=message):
            official.load(write(tmp_path / "x", tensors))

    def test_what_has_no_place_is_not_written(self, tmp_path):
        with pytest.raises(ConfigError, match="no quantizer, here 'fsq'"):
            official.write(make(FSQ), tmp_path / "x.safetensors")
        normalising = replace(SIZES["XS"], latent_mean=(0.0,) * 4, latent_std=(1.0,) * 4)
        with torch.device("meta"):
            tokenizer = SSDDTokenizer(SSDDConfig(decoder=normalising))
        with pytest.raises(ConfigError, match="deviation"):
            official.write(tokenizer, tmp_path / "x.safetensors")


def test_names_of_the_hub_s_files_are_those_of_their_models():
    entries = [zoo.registry.model(name) for name in zoo.list_models(family="ssdd")]
    published = {entry.name: entry for entry in entries if not entry.is_shipped}
    assert len(published) == 25
    for name, entry in published.items():
        location = parse_uri(entry.source)
        assert location.repo_id == "facebook/SSDD"
        stem = Path(location.path).stem
        assert stem.lower() == name.removeprefix("ssdd.").lower()
        kind, size = stem.removeprefix("demo_").lower().split("_")[:2]
        factor, channels = (8, 4) if kind == "sdvae" else map(int, kind.removeprefix("f").split("c"))
        assert entry.num_parameters == PAIRS[factor, channels][size.upper()]
        assert entry.licence == official.LICENCE
