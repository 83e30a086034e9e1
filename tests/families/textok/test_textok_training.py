"""Training of TexTok: its losses by hand, captions that are dropped, two networks, both recipes, and what it learns."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import training_runs as runs
import yaml
from lightning.pytorch import Trainer
from PIL import Image
from tiny_textok import CONFIG, WordStates, picture

import zoo
from zoo.cli import main
from zoo.components.discriminators.images import ImageDiscriminator, ImageDiscriminatorConfig
from zoo.components.text import KnownCaptions
from zoo.data.images import ImageBatch
from zoo.errors import ConfigError, InputError
from zoo.families.textok import TexTokTokenizer
from zoo.families.textok.training import TexTokTraining
from zoo.training.export import tokenizer_of
from zoo.training.optim import OptimizerConfig

RECIPES = Path(__file__).parents[3] / "recipes/textok"
PLAIN = zoo.config.to_dict(CONFIG)
JUDGE = {"channels": 4, "multipliers": [1, 2], "hidden": 8}
CAPTIONS = ["a red ball", "a cat", "two small boats", "a tree"]
IMAGES = torch.stack([picture(seed) for seed in range(4)])
BATCH = ImageBatch(IMAGES, torch.full((4,), -1), CAPTIONS, [""] * 4, [])


class FakeTrainer:
    """The one thing that the losses ask a trainer."""

    def __init__(self, training=True):
        self.training, self.testing, self.world_size = training, False, 1
        self.estimated_stepping_batches = 100


def made(monkeypatch, step=0, config=PLAIN, **arguments):
    torch.manual_seed(0)
    module = TexTokTraining(config, **{"text_cache": None} | arguments)
    if module.tokenizer.config.text_in != "none":
        module.tokenizer.text_encoder = WordStates()
    module.logged = {}
    monkeypatch.setattr(TexTokTraining, "global_step", step)
    monkeypatch.setattr(module, "_trainer", FakeTrainer())
    monkeypatch.setattr(module, "_log", lambda name, value, **_: module.logged.__setitem__(name, float(value.detach())))
    return module


def evaluated(module, batch=BATCH):
    module.eval()
    module._trainer.training = False
    return module.reconstruct(batch)


def test_losses_are_those_of_the_formulas(monkeypatch):
    module = made(monkeypatch)
    pair = evaluated(module)
    tokenizer = module.tokenizer
    text = tokenizer.text_encoder.encode(CAPTIONS)
    codes = tokenizer.quantizer(tokenizer.encoder(2 * IMAGES - 1, text)).codes
    rebuilt = tokenizer.decoder(codes, text)
    torch.testing.assert_close(pair.losses["l2"], (rebuilt - (2 * IMAGES - 1)).square().mean())
    torch.testing.assert_close(pair.losses["l1"], (rebuilt - (2 * IMAGES - 1)).abs().mean())
    torch.testing.assert_close(pair.made, rebuilt)
    assert torch.equal(pair.real, 2 * IMAGES - 1)
    assert {"psnr", "psnr_null", "psnr_shuffled"} <= module.logged.keys()
    assert len({round(module.logged[name], 6) for name in ("psnr", "psnr_null", "psnr_shuffled")}) == 3


def test_the_weights_are_the_default():
    assert TexTokTraining.default_weights == {
        "l2": 1.0,
        "l1": 0.0,
        "perceptual": 0.1,
        "adversarial": 0.1,
        "discriminator": 1.0,
        "r1": 10.0,
        "lecam": 1e-4,
    }


def test_captions_are_dropped_at_the_stated_rate(monkeypatch):
    module = made(monkeypatch, config=PLAIN | {"null_rate": 0.25})
    seen = []
    kept = module.tokenizer.text_of
    monkeypatch.setattr(module.tokenizer, "text_of", lambda rows: seen.extend(map(len, rows)) or kept(rows))
    for _ in range(30):
        with torch.no_grad():
            module.reconstruct(BATCH)
    assert 0.15 < seen.count(0) / len(seen) < 0.37
    seen.clear()
    module._trainer.training = False
    module.reconstruct(BATCH)
    assert seen[:4] == [5, 4, 5, 4], "in evaluation none is, but for the figure of none"
    never = made(monkeypatch, config=PLAIN | {"null_rate": 0.0})
    assert "null" not in never._others([torch.zeros(1, 6)] * 2)


@pytest.mark.parametrize("side", ["both", "encoder", "decoder", "none"])
def test_one_flag_makes_the_twins(monkeypatch, side):
    """Section 11.6 and 11.7: which parts get a gradient, by what sees the caption."""
    module = made(monkeypatch, text_in=side)
    assert module.tokenizer.config == replace(CONFIG, text_in=side)
    module.reconstruct(BATCH).losses["l2"].backward()
    found = {
        part
        for part in ("encoder", "decoder")
        for name, p in getattr(module.tokenizer, part).named_parameters()
        if name == "text.project.weight" and p.grad is not None and bool(p.grad.any())
    }
    assert found == {"both": {"encoder", "decoder"}, "none": set()}.get(side, {side})
    assert module.hparams["text_in"] == side


def test_the_discriminators_losses(monkeypatch):
    """Section 11.9: LeCam and R1 in closed form, on a discriminator that is linear."""
    module = made(monkeypatch, discriminator=JUDGE)
    assert module.discriminator.config == ImageDiscriminatorConfig(16, 4, (1.0, 2.0), 8)
    linear = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(3 * 16 * 16, 1), torch.nn.Flatten(0))
    module.discriminator = linear
    pair = module.reconstruct(BATCH)
    losses = module.discriminator_losses(replace(pair, made=pair.made.detach()))
    weight = linear[1].weight.detach()
    torch.testing.assert_close(losses["r1"], weight.square().sum())
    torch.testing.assert_close(module.loss_weights["r1"] * losses["r1"], 10 * weight.square().sum())
    real, fake = linear(pair.real), linear(pair.made)
    soft = torch.nn.functional.softplus
    torch.testing.assert_close(losses["discriminator"], soft(-real).mean() + soft(fake).mean())
    torch.testing.assert_close(losses["lecam"], real.relu().square().mean() + (-fake).relu().square().mean())
    torch.testing.assert_close(module.adversarial_losses(pair)["adversarial"], soft(-fake).mean())
    again = module.discriminator_losses(pair)["lecam"]
    r, f = 0.001 * real.mean(), 0.001 * fake.mean()
    torch.testing.assert_close(again, (real - f).relu().square().mean() + (r - fake).relu().square().mean())


def test_r1_is_lazy_on_request(monkeypatch):
    always = made(monkeypatch, discriminator=JUDGE)
    full = always.discriminator_losses(always.reconstruct(BATCH))["r1"]
    lazy = made(monkeypatch, discriminator=JUDGE, r1_every=4, discriminator_every=2, adversarial_from=3)
    pair = lazy.reconstruct(BATCH)
    found = {}
    for step in (3, 5, 7, 9, 11):
        monkeypatch.setattr(TexTokTraining, "global_step", step)
        found[step] = lazy.discriminator_losses(pair).get("r1")
    assert [step for step, loss in found.items() if loss is not None] == [3, 11]
    torch.testing.assert_close(found[3], 4 * full)
    none = made(monkeypatch, discriminator=JUDGE, loss_weights={"r1": 0.0})
    assert "r1" not in none.discriminator_losses(pair)


def test_too_long_captions_are_cut_or_stop_it(monkeypatch):
    long = BATCH._replace(captions=["one two three four five six seven eight"] * 4)
    assert made(monkeypatch).reconstruct(long).losses["l2"] > 0
    with pytest.raises(InputError, match="has 10 tokens"):
        made(monkeypatch, cut_captions=False).reconstruct(long)


def test_what_is_shown(monkeypatch):
    module = made(monkeypatch)
    evaluated(module)
    shown = module.media(BATCH)["reconstructions"].pixels
    assert shown.shape == (3, 4 * 16, 4 * 16), "originals, and with captions, without, and with the next one's"
    assert not torch.equal(shown[:, 16:32], shown[:, 48:])
    plain = made(monkeypatch, text_in="none")
    evaluated(plain)
    assert plain.media(BATCH)["reconstructions"].pixels.shape == (3, 2 * 16, 4 * 16)


def test_bad_values_are_refused():
    with pytest.raises(ConfigError, match="r1_every"):
        TexTokTraining(PLAIN, r1_every=0)
    with pytest.raises(ConfigError, match="text_in"):
        TexTokTraining(PLAIN, text_in="neither")


# ------------------------------------------------------------------------------------------------------- what it learns


class Pairs(torch.utils.data.Dataset):
    """Squares whose place and colour the caption says."""

    places, colours = ("left", "right"), ("red", "green", "blue", "white")

    def __len__(self):
        return 8

    def __getitem__(self, index):
        place, colour = divmod(index, 4)
        image = torch.full((3, 8, 8), 0.1)
        value = torch.eye(3)[colour] if colour < 3 else torch.ones(3)
        image[:, :, 4 * place : 4 * place + 4] = value[:, None, None]
        return image, f"{self.colours[colour]} {self.places[place]}"

    @staticmethod
    def collate(items):
        images = torch.stack([image for image, _ in items])
        return ImageBatch(images, torch.full((len(items),), -1), [text for _, text in items], [""] * len(items), [])


def trained(text_in, steps=90, **arguments):
    """Overfit eight pairs with a single token of four codes: two bits, where three are needed."""
    torch.manual_seed(0)
    config = PLAIN | {
        "image_size": 8,
        "num_tokens": 1,
        "quantizer": {"kind": "fsq", "levels": [2, 2]},
        "null_rate": 0.0,
        "text_in": text_in,
    }
    module = TexTokTraining(
        config, optimizer=OptimizerConfig(lr=1e-2, schedule="constant", warmup_steps=0), text_cache=None, **arguments
    )
    if text_in != "none":
        module.tokenizer.text_encoder = WordStates()
    optimizer = torch.optim.Adam(module.tokenizer.parameters(), 1e-2)
    batch = Pairs.collate([Pairs()[i] for i in range(8)])
    module._trainer = FakeTrainer()
    module._log = lambda *_, **__: None
    curve = []
    for _ in range(steps):
        loss = module.reconstruct(batch).losses["l2"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        curve.append(float(loss.detach()))
    return module.eval().tokenizer, batch, curve


def test_captions_are_used_and_beat_none():
    """Section 11.10."""
    tokenizer, batch, curve = trained("both")
    assert curve[-1] < 0.5 * curve[0]

    def error(captions):
        tokens = tokenizer.encode(batch.images, caption=captions)
        return float((tokenizer.decode(tokens) - batch.images).square().mean())

    true, shuffled = error(batch.captions), error(batch.captions[1:] + batch.captions[:1])
    assert shuffled > 2 * true
    plain, _, _ = trained("none")
    without = float((plain.decode(plain.encode(batch.images)) - batch.images).square().mean())
    assert without > 1.2 * true, "two bits cannot say three, and the caption can"


def test_two_networks_train_and_what_is_exported_has_its_captions(tmp_path):
    module = TexTokTraining(
        PLAIN | {"image_size": 8},
        discriminator={"channels": 4, "multipliers": [1], "hidden": 8},
        r1_every=2,
        text_cache=None,
        kept_captions=["red left", "blue right"],
    )
    module.tokenizer.text_encoder = WordStates()
    trainer = Trainer(
        max_steps=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    judge = module.discriminator.first.weight.detach().clone()
    loader = torch.utils.data.DataLoader(Pairs(), 4, collate_fn=Pairs.collate, num_workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Lightning's advice
        trainer.fit(module, loader)
    assert trainer.global_step == 3
    assert not torch.equal(judge, module.discriminator.first.weight)
    trainer.save_checkpoint(tmp_path / "x.ckpt", weights_only=False)
    exported = tokenizer_of(tmp_path / "x.ckpt")
    assert exported.captions.known.captions == ("red left", "blue right")
    image = Pairs()[0][0][None]
    found = exported.encode(image, caption="red left")
    assert found.tolist() == module.tokenizer.eval().encode(image, caption="red left").tolist()
    with pytest.raises(InputError, match="no states of the caption"):
        exported.encode(image, caption="a cat")
    zoo.save(exported, tmp_path / "x")
    assert len(KnownCaptions.from_file(tmp_path / "x/captions.safetensors")) == 2


# ------------------------------------------------------------------------------------------------------------- recipes


def arguments_of(name):
    return yaml.safe_load((RECIPES / f"{name}.yaml").read_text(encoding="utf-8"))["model"]["init_args"]


@pytest.mark.parametrize("name", ["nano", "paper"])
def test_recipes_parse_and_build(name, capsys):
    main(["fit", "--config", f"recipe:textok/{name}", "--print_config"])
    printed = yaml.safe_load(capsys.readouterr().out)
    assert printed["model"]["class_path"].endswith("TexTokTraining")
    with torch.device("meta"):
        tokenizer = TexTokTokenizer.from_config(arguments_of(name)["config"])
    sizes = {"nano": range(1_400_000, 2_800_000), "paper": range(175_000_000, 177_000_000)}
    assert tokenizer.num_parameters in sizes[name]
    json.dumps(printed)


def test_the_paper_s_recipe_is_the_published_model():
    arguments = arguments_of("paper")
    config = zoo.config.from_dict(type(CONFIG), arguments["config"])
    assert config == type(CONFIG)()
    judge = zoo.config.from_dict(ImageDiscriminatorConfig, arguments["discriminator"])
    with torch.device("meta"):
        assert sum(p.numel() for p in ImageDiscriminator(judge).parameters()) == 24_192_385
    assert arguments["optimizer"]["betas"] == [0.0, 0.99]


@pytest.fixture(scope="module")
def drawings(tmp_path_factory):
    """A folder of pictures with captions beside them, and the states of these."""
    folder = tmp_path_factory.mktemp("drawings")
    draw = np.random.default_rng(0)
    for split, count in {"train": 12, "val": 4}.items():
        (folder / split).mkdir()
        for number in range(count):
            coarse = Image.fromarray(draw.integers(256, size=(4, 5, 3), dtype=np.uint8))
            coarse.resize((24, 20), Image.Resampling.BICUBIC).save(folder / f"{split}/{number}.png")
            (folder / f"{split}/{number}.txt").write_text(CAPTIONS[number % 4] + "\n")
    (folder / "states.safetensors").write_bytes(KnownCaptions.of(WordStates(), CAPTIONS).to_bytes())
    return folder


@pytest.fixture
def fit(drawings, quiet_lightning):
    """`fit(folder, **more)` makes three steps of the nano recipe of a tiny model, with a discriminator."""

    def run(folder, **more):
        text = {"kind": "precomputed", "dim": 6, "file": str(drawings / "states.safetensors")}
        values = {
            "data.folder": str(drawings),
            "data.batch_size": "4",
            "data.transforms": json.dumps([{"name": "RandomCrop", "size": 16}]),
            "data.eval_transforms": json.dumps([{"name": "CenterCrop", "size": 16}]),
            "model.config": json.dumps(PLAIN | {"text": text}),
            "model.discriminator": json.dumps(JUDGE),
            "model.kept_captions": json.dumps(CAPTIONS[:2]),
            "model.text_cache": "null",
            "model.optimizer.warmup_steps": "1",
            **more,
        }
        return runs.fit_recipe(RECIPES / "nano.yaml", folder, **values)

    return run


def test_two_processes_train_one_model(fit, tmp_path):
    runs.require_two_processes(fit, tmp_path)


def test_a_killed_run_goes_on_to_the_same_bits(fit, tmp_path):
    """Two networks, captions that are dropped, R1 and LeCam: all that is drawn and averaged comes back."""
    runs.require_resumes(fit, tmp_path)


def test_the_nano_recipe_trains(fit, tmp_path, capsys):
    assert fit(tmp_path) == 0, capsys.readouterr().err
    last = str(tmp_path / "checkpoints/last.ckpt")
    assert main(["export", last, "-o", str(tmp_path / "model"), "--name", "textok.mine"]) == 0
    made = zoo.load(tmp_path / "model")
    tokens = made.encode(IMAGES[:2], caption=CAPTIONS[:2])
    assert tokens.ids.shape == (2, 5)
    assert made.decode(tokens).shape == IMAGES[:2].shape
