"""SSDD's decoder for other tokenizers: ids that stay, prefixes, latents of others, training, and what does not fit."""

from dataclasses import replace

import numpy as np
import pytest
import tiny_flextok
import torch
import yaml
from PIL import Image
from tiny_ssdd import CONTINUOUS, DECODER, fill
from tiny_ssdd import make as make_ssdd
from tiny_ssdd_decoder import CONFIG, SOURCE, make

import zoo
from zoo import resources
from zoo.errors import ConfigError, TokenError
from zoo.families.ssdd_decoder import LayoutConfig, SourceConfig, SSDDDecoderConfig, SSDDDecoderTokenizer
from zoo.families.ssdd_decoder.training import SSDDDecoderDistillation, SSDDDecoderTraining

TRAINED = {
    "grid": [4, 4],
    "latent_channels": 3,
    "layout": {"depth": 1, "width": 8, "num_heads": 2},
    "decoder": zoo.config.to_dict(DECODER),
    "steps": 2,
}


def pictures(count):
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(3))


class Batch:
    images = pictures(4)


class FakeTrainer:
    training, testing, world_size = True, False, 1


def test_another_decoder_changes_no_id():
    source, tokenizer, x = tiny_flextok.make(), make(), pictures(40)
    tokens, own = source.encode(x), tokenizer.encode(x)
    assert torch.equal(own.ids, tokens.ids)
    assert own.model == "ssdd_decoder"
    assert tokenizer.spec.codebook_size == source.spec.codebook_size
    # The source's own tokens are decoded, those of another are not.
    made = tokenizer.decode(replace(tokens, model="flextok.tiny"))
    assert torch.equal(made, tokenizer.decode(own))
    with pytest.raises(TokenError, match=r"made by 'flextok\.other'"):
        tokenizer.decode(replace(tokens, model="flextok.other"))


def test_prefixes_are_decoded_each_by_itself():
    tokenizer = make()
    tokens = tokenizer.encode(pictures(3)).truncate(torch.tensor([8, 2, 5]))
    made = tokenizer.decode(tokens, steps=1)
    for row, length in enumerate((8, 2, 5)):
        alone = tokenizer.decode(tokens[row].truncate(length), steps=1)
        assert torch.allclose(made[row], alone[0], atol=1e-5)
    assert not torch.allclose(made[1], tokenizer.decode(tokenizer.encode(pictures(3)), steps=1)[1], atol=1e-3)
    with pytest.raises(TokenError, match="1 to 8 tokens"):
        tokenizer.decode(torch.zeros(1, 9, dtype=torch.int64))


def test_latents_of_a_grid_need_no_layout():
    there = make_ssdd()
    source = SourceConfig("ssdd", zoo.config.to_dict(CONTINUOUS), "ssdd.tiny")
    config = SSDDDecoderConfig(source, (16, 16), (4, 4), 3, None, DECODER)
    tokenizer = make(config, there)
    latents = there.encode_latents(pictures(2))
    assert torch.equal(tokenizer.encode_latents(pictures(2)).values, latents.values)
    tokenizer.decoder.load_state_dict(there.decoder.state_dict())
    made = tokenizer.decode_latents(replace(latents, model="ssdd.tiny"), steps=3)
    assert torch.allclose(made, there.decode_latents(latents, steps=3), atol=1e-6)
    with pytest.raises(ConfigError, match="use encode_latents"):
        tokenizer.encode(pictures(1))


@pytest.mark.parametrize(
    ("make_config", "message"),
    [
        (lambda: replace(CONFIG, layout=None), "which is not"),
        (lambda: replace(CONFIG, image_size=(32, 32), grid=(8, 8)), "the source takes pictures of"),
        (lambda: replace(CONFIG, grid=(8, 8)), "divide them"),
        (lambda: replace(CONFIG, grid=(4, 2)), "divide them"),
        (lambda: replace(CONFIG, steps=0), "steps must be"),
        (lambda: replace(CONFIG, source=SourceConfig("beast", {})), "no tokenizer of images"),
        (lambda: SourceConfig("ssdd_decoder", {}), "is one already"),
        (lambda: LayoutConfig(1, 8, 3), "do not divide"),
        (lambda: LayoutConfig(0, 8, 1), "depth must be"),
    ],
)
def test_what_does_not_fit(make_config, message):
    with pytest.raises(ConfigError, match=message):
        SSDDDecoderTokenizer(make_config())


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return str(zoo.save(tiny_flextok.make(), tmp_path_factory.mktemp("source") / "x", name="flextok.tiny"))


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photographs")
    draw = np.random.default_rng(0)
    (folder / "train").mkdir()
    for number in range(5):
        picture = Image.fromarray(draw.integers(256, size=(20, 24, 3), dtype=np.uint8))
        picture.save(folder / f"train/{number}.png")
    return str(folder)


class TestTraining:
    @pytest.fixture
    def module(self, source, photographs, monkeypatch):
        torch.manual_seed(0)
        module = SSDDDecoderTraining(TRAINED, source, pictures=photographs, num_measured=4)
        monkeypatch.setattr(module, "_trainer", FakeTrainer())
        monkeypatch.setattr(module, "_log", lambda *_, **__: None)
        return module.train()

    def test_nothing_of_the_source_changes(self, module, source, tmp_path):
        there = zoo.load(source)
        assert module.tokenizer.config.source == SOURCE
        sum(module.losses(Batch).values()).backward()
        assert not module.tokenizer.encoder.training
        assert all(p.grad is None for p in module.tokenizer.encoder.parameters())
        assert module.decoder.project.query.project.weight.grad is not None
        optimizer = torch.optim.SGD([p for p in module.parameters() if p.requires_grad], 0.1)
        optimizer.step()
        made = zoo.load(zoo.save(module.tokenizer.eval(), tmp_path / "x", name="ssdd_decoder.tiny"))
        tokens = there.encode(pictures(20))
        assert torch.equal(made.encode(pictures(20)).ids, tokens.ids)
        assert made.decode(tokens, steps=1).shape == (20, 3, 16, 16)
        assert zoo.load(tmp_path / "x", decoder=False).encode(pictures(2)).ids.equal(tokens.ids[:2])

    def test_codes_are_normalised(self, module):
        config = module.tokenizer.config.decoder
        assert len(config.latent_mean) == len(config.latent_std) == 6
        seen = []
        module.decoder.project.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
        codes = torch.tensor(config.latent_mean) + 2 * torch.tensor(config.latent_std)
        module.tokenizer.latents(codes.expand(1, 8, 6))
        assert torch.allclose(seen[0], torch.tensor(2.0).expand_as(seen[0]), atol=1e-4)

    def test_prefixes_are_trained(self, module):
        lengths = {module.codes(Batch.images).shape[1] for _ in range(30)}
        assert lengths == {1, 2, 4, 8}
        module.any_prefix = False
        assert module.codes(Batch.images).shape == (4, 8, 6)

    def test_it_is_distilled(self, module, tmp_path, monkeypatch):
        folder = zoo.save(module.tokenizer.eval(), tmp_path / "x", name="ssdd_decoder.tiny")
        student = SSDDDecoderDistillation(str(folder))
        monkeypatch.setattr(student, "_trainer", FakeTrainer())
        monkeypatch.setattr(student, "_log", lambda *_, **__: None)
        student.train()
        assert student.tokenizer.config.steps == 1
        sum(student.losses(Batch).values()).backward()
        assert all(p.grad is None for p in (*student.teacher.parameters(), *student.tokenizer.encoder.parameters()))
        assert student.decoder.unet.conv_out.weight.grad.any()
        with pytest.raises(ConfigError, match="is a flextok"):
            SSDDDecoderDistillation("flextok.nano")

    def test_it_starts_from_a_trained_decoder(self, source, photographs, tmp_path):
        first = SSDDDecoderTraining(TRAINED, source, pictures=photographs, num_measured=4)
        fill(first.decoder)
        name = str(zoo.save(first.tokenizer, tmp_path / "first"))
        module = SSDDDecoderTraining(TRAINED, source, decoder=name, pictures=photographs, num_measured=4)
        assert torch.equal(module.decoder.unet.conv_out.weight, first.decoder.unet.conv_out.weight)
        theirs = dict(first.decoder.project.named_parameters())
        assert any(not torch.equal(own, theirs[key]) for key, own in module.decoder.project.named_parameters())
        with pytest.raises(ConfigError, match="have a decoder already"):
            SSDDDecoderTraining(TRAINED, source, name, name, pictures=photographs, num_measured=4)

    def test_what_is_no_source(self):
        with pytest.raises(ConfigError, match="no tokenizer of images"):
            SSDDDecoderTraining(TRAINED, "beast")


def test_the_recipes_name_the_other_and_nothing_else_of_it():
    for name in ("nano_for_flextok", "nano_for_flextok_distil"):
        values = yaml.safe_load((resources.path("recipes") / f"ssdd/{name}.yaml").read_text())["model"]["init_args"]
        assert "perceptual" in values
    values = yaml.safe_load((resources.path("recipes") / "ssdd/nano_for_flextok.yaml").read_text())
    arguments = values["model"]["init_args"]
    assert arguments["source"] == "flextok.nano"
    there = zoo.load("flextok.nano", decoder=False)
    own = {"family": "flextok", "config": zoo.config.to_dict(there.config), "name": there.name}
    config = {"source": own, "image_size": [64, 64], **arguments["config"]}
    with torch.device("meta"):
        made = zoo.registry.family("ssdd_decoder").from_config(config)
    assert sum(p.numel() for p in made.decoder.parameters()) < 1_500_000
