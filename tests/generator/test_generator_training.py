"""Tokens of any data, made once; a generator trained on them, exported, resumed, and asked for samples."""

import itertools
import json

import numpy as np
import pytest
import tiny_larp
import torch
from clips import encoded, write
from lightning.pytorch import Trainer

import zoo
from zoo.cli import main
from zoo.components.layers.norms import RMSNorm
from zoo.data.action_windows import ActionData
from zoo.data.images import ImageData
from zoo.data.videos import VideoData
from zoo.errors import CheckpointError, ConfigError, InputError, TokenError
from zoo.generator import GeneratorConfig, TokenGenerator
from zoo.generator.data import TokenData
from zoo.generator.training import GeneratorTraining
from zoo.training import Checkpoints, ExactResume, OptimizerConfig
from zoo.training.optim import build_optimizer

TINY = {"width": 16, "num_layers": 1, "num_heads": 2, "mlp_size": 16}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "tokenizer-zoo" / "tokens"


@pytest.fixture
def motion(tmp_path):
    """Smooth actions of 6 episodes, 50 commands each, the last two for testing."""
    path = tmp_path / "motion.npz"
    phases = np.linspace(0, 9, 50)[None, :, None] + np.arange(6)[:, None, None] + np.arange(4)
    actions = (0.4 * np.sin(phases)).astype(np.float32).reshape(-1, 4)
    np.savez(path, actions=actions, lengths=[50] * 6, split=["train"] * 4 + ["test"] * 2, names=list("abcdef"))
    return path


def tokens_of(motion, tokenizer="beast.default", num_steps=40, **options):
    source = ActionData(str(motion), num_steps=num_steps, batch_size=4)
    return TokenData(tokenizer, source, batch_size=3, **options)


def test_tokens_are_those_of_the_tokenizer_and_made_once(motion, cache, monkeypatch):
    data = tokens_of(motion)
    items = data.dataset("train")
    tokenizer = zoo.load("beast.default")
    windows = data.source.dataset("train").windows
    assert len(items) == len(windows) == 8
    for item in range(8):
        count = int(data.source.dataset("train").counts[item])
        expected = tokenizer.encode(windows[item : item + 1], torch.tensor([count]))
        assert items[item][0].tolist() == expected.tolist()[0]
        assert int(items.sizes[item]) == count
    files = {path: path.stat().st_mtime_ns for path in cache.iterdir()}
    assert len(files) == 1

    def refuse(*arguments, **options):
        raise AssertionError("tokens are made again")

    monkeypatch.setattr("zoo.generator.data.encoded", refuse)
    again = tokens_of(motion).dataset("train")
    assert torch.equal(again.ids, items.ids)
    # Another stride, tokenizer, or another file under the same name are other tokens.
    for other in (tokens_of(motion, num_steps=20), tokens_of(motion, "binning.default")):
        with pytest.raises(AssertionError, match="made again"):
            other.dataset("train")
    with np.load(motion) as archive:
        changed = dict(archive)
    np.savez(motion, **{**changed, "actions": changed["actions"] * 0.9})
    with pytest.raises(AssertionError, match="made again"):
        tokens_of(motion).dataset("train")


def test_damaged_files_of_tokens_are_refused(motion, cache):
    tokens_of(motion).dataset("train")
    (path,) = cache.iterdir()
    path.write_bytes(path.read_bytes()[:-8])
    with pytest.raises(CheckpointError, match="delete it, and its tokens are made anew"):
        tokens_of(motion).dataset("train")


def test_items_of_different_lengths_are_padded(motion):
    data = tokens_of(motion, "fast.default")
    items = data.dataset("train")
    lengths = [len(items[i][0]) for i in range(len(items))]
    assert len(set(lengths)) > 1
    batch = data.collate([items[i] for i in range(len(items))])
    assert batch.lengths.tolist() == lengths
    assert (batch.labels == -1).all()
    assert not batch.ids[torch.arange(batch.ids.shape[1]) >= batch.lengths[:, None]].any()


def test_pictures_bring_their_classes(tmp_path):
    from PIL import Image

    for name, colour in (("cat", 10), ("dog", 200)):
        (tmp_path / "train" / name).mkdir(parents=True)
        Image.new("RGB", (64, 64), (colour, 0, 90)).save(tmp_path / "train" / name / "a.png")
    data = TokenData("flextok.nano", ImageData(str(tmp_path)))
    items = data.dataset("train")
    assert [items[i][1] for i in range(2)] == [0, 1]
    assert items.lengths.tolist() == [32, 32]
    assert items.sizes.tolist() == [64 * 64] * 2
    with pytest.raises(ConfigError, match="tokenizes action, and ImageData gives none"):
        TokenData("beast.default", ImageData(str(tmp_path))).dataset("train")


def test_first_frames_of_clips_become_prefixes(tmp_path):
    tokenizer = tiny_larp.make()
    zoo.save(tokenizer, tmp_path / "larp")
    write(tmp_path / "videos" / "val" / "a.mp4", encoded(8, size=(8, 8), options={"crf": "1"}))
    source = VideoData(str(tmp_path / "videos"), num_frames=4, size=8)
    items = TokenData(str(tmp_path / "larp"), source, condition_frames=3).dataset("val")
    clips = torch.stack([source.dataset("val")[place].video for place in range(len(items))])
    assert len(items) == 2
    assert torch.equal(items.ids.view(2, 6).long(), tokenizer.encode(clips).ids)
    assert items.sizes.tolist() == [4 * 8 * 8] * 2
    assert torch.equal(items.prefix.long(), tokenizer.encode(clips[:, :, [0, 1, 2, 2]]).ids)
    trained = GeneratorTraining(str(tmp_path / "larp"), {**TINY, "condition_frames": 3})
    assert trained.generator.config.prefix_tokens == 6
    with pytest.raises(InputError, match="asked for were 5, of 4"):
        TokenData(str(tmp_path / "larp"), source, condition_frames=5).dataset("val")


def module(**config):
    return GeneratorTraining(
        "beast.default",
        {**TINY, "max_tokens": 80, **config},
        optimizer=OptimizerConfig(lr=1e-2, betas=(0.9, 0.95), weight_decay=0.05, total_steps=8),
    )


def run(root, motion, steps, path=None):
    torch.manual_seed(0)
    trainer = Trainer(
        default_root_dir=root,
        max_steps=steps,
        accelerator="cpu",
        callbacks=[ExactResume(), Checkpoints(every_n_steps=1)],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=1,
    )
    trained = module()
    trainer.fit(trained, tokens_of(motion), ckpt_path=path)
    return trained, trainer


def test_a_run_that_goes_on_ends_alike_and_is_exported(motion, tmp_path, quiet_lightning, capsys):
    whole, trainer = run(tmp_path / "whole", motion, 4)
    assert trainer.callback_metrics["val/bits_per_token"] > 0
    run(tmp_path / "parts", motion, 2)
    resumed, _ = run(tmp_path / "parts", motion, 4, tmp_path / "parts" / "checkpoints" / "last.ckpt")
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name
    checkpoint = tmp_path / "whole" / "checkpoints" / "last.ckpt"
    assert main(["export", str(checkpoint), "-o", str(tmp_path / "own"), "--name", "generator.mine"]) == 0
    assert "zoo.load_generator(" in capsys.readouterr().out
    generator = zoo.load_generator(tmp_path / "own")
    assert (generator.config.tokenizer, generator.config.modality) == ("beast.default", "action")
    for name, tensor in whole.generator.state_dict().items():
        assert torch.equal(tensor, generator.state_dict()[name]), name
    other = GeneratorTraining("beast.default", {**TINY, "max_tokens": 80}, weights=str(tmp_path / "own"))
    assert torch.equal(other.generator.embed.weight, generator.embed.weight)


def test_the_loss_falls_and_embeddings_do_not_decay(motion):
    trained, data = module(token_dropout=0.0, dropout=0.0, mlp_dropout=0.0), tokens_of(motion)
    optimizer = build_optimizer(trained.optimizer_config, [trained], undecayed=trained.undecayed())
    decaying = {id(p) for group in optimizer.param_groups if group["weight_decay"] for p in group["params"]}
    names = {name for name, p in trained.generator.named_parameters() if id(p) in decaying}
    layer = "stack.layers.0."
    assert names == {
        *(f"{layer}attention.{part}.weight" for part in ("q", "k", "v", "out")),
        *(f"{layer}mlp.{part}.weight" for part in ("gate", "up", "down")),
        "heads.0.weight",
    }
    assert sum(isinstance(part, RMSNorm) for part in trained.generator.modules()) == 3
    items = data.dataset("train")
    batch = data.collate([items[i] for i in range(4)])
    losses = []
    for _ in range(8):
        loss = trained.losses(batch)["cross_entropy"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[0] == pytest.approx(np.log(trained.generator.config.codebook_size), rel=1e-4), "uniform at first"
    assert all(later < earlier for earlier, later in itertools.pairwise(losses))


def test_the_tokens_of_another_tokenizer_are_refused(motion, tmp_path, quiet_lightning):
    trainer = Trainer(
        default_root_dir=tmp_path, max_steps=1, accelerator="cpu", logger=False, enable_progress_bar=False
    )
    with pytest.raises(ConfigError, match=r"tokens of binning.default, and the model is to learn those of beast"):
        trainer.fit(module(), tokens_of(motion, "binning.default"))
    with pytest.raises(ConfigError, match=r"tell the first 0 frames of a clip, and the model is to continue 2"):
        trainer.fit(module(prefix_tokens=4, condition_frames=2), tokens_of(motion))
    with pytest.raises(ConfigError, match=r"lacks max_tokens: items of fast.default have different lengths"):
        GeneratorTraining("fast.default", dict(TINY))
    with pytest.raises(ConfigError, match="size must be one of S, B"):
        GeneratorTraining("beast.default", {"size": "M"})


def generator_of(tokenizer, folder, **config):
    spec = tokenizer.spec
    values = {**TINY, "modality": spec.modality, "codebook_size": spec.codebook_size, "max_tokens": 40, **config}
    return zoo.save(TokenGenerator(GeneratorConfig(**values)).of(tokenizer), folder, name="generator.mine")


def test_samples_are_written_and_depend_on_seed_and_number_alone(tmp_path, capsys):
    tokenizer = zoo.load("beast.default")
    folder = generator_of(tokenizer, tmp_path / "own", num_classes=3)
    arguments = ["generate", str(folder), "--seed", "5"]
    assert main([*arguments, "-o", str(tmp_path / "many"), "--num", "3", "--classes", "1", "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["generator"], told["tokenizer"], told["tokens"]) == ("generator.mine", "beast.default", [40] * 3)
    made = [np.load(path) for path in told["outputs"]]
    assert [motion.shape for motion in made] == [(20, 4)] * 3
    assert not np.array_equal(made[0], made[1])
    assert main([*arguments, "-o", str(tmp_path / "two"), "--classes", "1,1", "--batch-size", "1"]) == 0
    for number in range(2):
        again = np.load(tmp_path / "two" / f"{number:04d}.npy")
        np.testing.assert_allclose(again, made[number], rtol=1e-5, atol=1e-5)  # the decoder rounds by the batch
    assert main([*arguments, "-o", str(tmp_path / "many")]) == 1
    assert "exists already" in capsys.readouterr().err


def test_another_tokenizer_is_refused(tmp_path, capsys):
    folder = generator_of(zoo.load("beast.default"), tmp_path / "own")
    other = zoo.load("beast.default").fit([np.random.default_rng(0).normal(size=(60, 4)).astype(np.float32)])
    zoo.save(other, tmp_path / "other", name="beast.other")
    out = str(tmp_path / "made")
    for name, said in (
        (str(tmp_path / "other"), "which has other weights or settings than beast.other"),
        ("binning.default", "which has other weights or settings than binning.default"),
        ("flextok.nano", "flextok.nano gives image"),
    ):
        assert main(["generate", str(folder), "-o", out, "--tokenizer", name]) == 1
        assert said in capsys.readouterr().err
    assert not (tmp_path / "made").exists()
    with pytest.raises(TokenError, match="other weights or settings"):
        zoo.load_generator(folder).require_made_by(other)
    nameless = zoo.save(
        TokenGenerator(GeneratorConfig(modality="action", codebook_size=256, max_tokens=4, **TINY)),
        tmp_path / "nameless",
        name="generator.mine",
    )
    assert main(["generate", str(nameless), "-o", out]) == 1
    assert "does not say whose tokens it draws" in capsys.readouterr().err
