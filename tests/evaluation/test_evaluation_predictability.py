"""Predictability: the same budget for all, bits that are those of what is known, intervals, continued actions."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import tiny_larp
import torch
from clips import encoded, write

import zoo
from zoo import resources
from zoo.cli import main
from zoo.components.layers.normalization import RangeNormalizer
from zoo.errors import ConfigError, InputError
from zoo.evaluation import read_suite
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.suites.predictability.config import Budget, Sized
from zoo.evaluation.suites.predictability.continuation import continued, held
from zoo.evaluation.suites.predictability.runner import crossed
from zoo.evaluation.suites.predictability.training import generator_config, held_out_bits, train
from zoo.generator.data import TokenItems

BOOTSTRAP = Bootstrap(num_resamples=200)
TINY = Sized(width=16, num_layers=1, num_heads=2)


def items(rows):
    return TokenItems(
        torch.tensor([i for row in rows for i in row], dtype=torch.int32),
        torch.tensor([len(row) for row in rows]),
        torch.full((len(rows),), -1),
    )


def test_a_figure_is_a_ratio_with_an_interval_of_seeds_and_items():
    values = np.array([[10.0, 20.0, 30.0], [12.0, 22.0, 32.0]])
    counts = np.array([5.0, 5.0, 10.0])
    figure = crossed(values, counts, BOOTSTRAP)
    assert figure.estimate == pytest.approx(63 / 20)
    assert figure.low < figure.estimate < figure.high
    same = crossed(np.full((2, 3), 4.0), np.full(3, 2.0), BOOTSTRAP)
    assert (same.estimate, same.low, same.high) == pytest.approx((2, 2, 2))
    # Seeds that disagree widen it where items are all alike.
    apart = crossed(np.array([[4.0] * 3, [8.0] * 3]), np.full(3, 2.0), BOOTSTRAP)
    assert (apart.estimate, apart.low, apart.high) == pytest.approx((3, 2, 4))
    assert crossed(values, counts * 0, BOOTSTRAP).reason


def test_training_repeats_and_untrained_bits_are_those_of_chance():
    tokenizer = zoo.load("beast.default")
    rows = items([[i % 7, 3, 2] for i in range(12)])
    config = generator_config(tokenizer, TINY, rows)
    assert (config.max_tokens, config.has_end) == (3, False)
    assert generator_config(tokenizer, TINY, items([[1], [2, 3]])).has_end
    budget = Budget(num_steps=3, batch_size=4, warmup_steps=1)
    before = torch.random.get_rng_state()
    first, again, other = (train(config, rows, budget, seed, lambda step: None) for seed in (0, 0, 1))
    assert torch.equal(torch.random.get_rng_state(), before)
    states = [each.state_dict() for each in (first, again, other)]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert any(not torch.equal(states[0][name], states[2][name]) for name in states[0])
    with torch.no_grad():
        first.heads[0].weight.zero_()
    assert held_out_bits(first, rows).tolist() == pytest.approx([3 * math.log2(config.codebook_size)] * 12)


def test_a_continuation_is_what_the_generator_says_next_decoded():
    tokenizer = zoo.load("beast.default")
    horizon, count = tokenizer.horizon, tokenizer.spec.num_tokens
    steps = torch.linspace(0, 4, 2 * horizon)[None, :, None]
    windows = 0.4 * torch.sin(steps + torch.arange(3)[:, None, None] + torch.arange(4))
    normalizer = RangeNormalizer(4)
    normalizer.set_range(torch.full((4,), -1.0), torch.full((4,), 1.0))
    true = tokenizer.encode(windows).ids
    config = generator_config(tokenizer, TINY, items(true.tolist()))
    generator = train(config, items(true.tolist()), Budget(num_steps=2, warmup_steps=1), 0, lambda step: None)
    with torch.no_grad():
        torch.nn.init.normal_(generator.heads[0].weight)  # ids that are not all alike
        found = continued(generator, tokenizer, windows, normalizer)
        ids = true[:, :count]
        while ids.shape[1] < 2 * count:
            ids = torch.cat([ids, generator(torch.nn.functional.pad(ids, (0, 1)))[:, -1:].argmax(-1)], 1)
        expected = tokenizer.decode(ids)[:, -horizon:]
    assert len(set(ids[:, count:].flatten().tolist())) > 3
    target = windows[:, -horizon:]
    assert not found.failed.any()
    torch.testing.assert_close(
        found.squared_error, (expected - target).double().square().sum((1, 2)), rtol=1e-4, atol=0
    )
    still = held(windows, horizon, normalizer)
    last = windows[:, horizon - 1 : horizon]
    torch.testing.assert_close(still, (last - target).double().square().sum((1, 2)), rtol=1e-5, atol=0)
    # Ids that spell no chunks are counted, and the last command stands for them.
    fast = zoo.load("fast.default")
    prompts = fast.encode(windows)
    rows = items(prompts.tolist())
    generator = train(
        generator_config(fast, TINY, rows), rows, Budget(num_steps=2, warmup_steps=1), 0, lambda step: None
    )
    with torch.no_grad():
        generator.stack.norm.weight.zero_()
    found = continued(generator, fast, windows, normalizer)
    assert found.failed.all()
    torch.testing.assert_close(found.squared_error, still, rtol=1e-5, atol=0)


def measured(folder, data, *models):
    """Run the shipped suite with a budget of nothing; return its report."""
    text = resources.named_suite("predictability").read_text(encoding="utf-8")
    for old, new in (("num_steps: 300", "num_steps: 3"), ("warmup_steps: 20", "warmup_steps: 1")):
        text = text.replace(old, new)
    text = text.replace("seeds: [0, 1, 2]", "seeds: [0, 1]").replace("width: 64", "width: 16")
    (folder / "suite.yaml").write_text(text.replace("num_resamples: 2000", "num_resamples: 50"))
    out = folder / "found.json"
    arguments = ["eval", str(folder / "suite.yaml"), "--data", str(data), "--out", str(out)]
    assert main([*arguments, "--models", *models]) == 0
    return json.loads(out.read_text())


def test_the_suite_runs_on_clips(tmp_path):
    for name, first in (("train/a", 0), ("train/b", 9), ("test/c", 4)):
        write(tmp_path / "clips" / f"{name}.mp4", encoded(8, size=(8, 8), first=first))
    zoo.save(tiny_larp.make(), tmp_path / "larp")
    found = measured(tmp_path, tmp_path / "clips", str(tmp_path / "larp"))
    (figures,) = found["models"].values()
    assert (figures["tokens_per_item"], figures["stored_bits_per_token"], figures["items"]) == (6, 5, 2)
    bits = figures["bits_per_token"][0]
    assert bits == pytest.approx(5, rel=0.2), "nothing was learned"
    assert figures["bits_per_pixel"][0] == pytest.approx(6 * bits / (4 * 8 * 8))


def test_the_suite_runs_on_actions(tmp_path, capsys):
    phases = np.linspace(0, 9, 80)[None, :, None] + np.arange(6)[:, None, None] + np.arange(4)
    actions = (0.4 * np.sin(phases)).astype(np.float32).reshape(-1, 4)
    np.savez(
        tmp_path / "motion.npz",
        actions=actions,
        lengths=[80] * 6,
        split=["train"] * 4 + ["test"] * 2,
        names=list("abcdef"),
        control_rate=80.0,
    )
    found = measured(tmp_path, tmp_path / "motion.npz", "beast.default", "binning.default")
    assert "bits a token, predicted" in capsys.readouterr().out
    for name, count in (("beast.default", 80), ("binning.default", 160)):
        figures = found["models"][name]
        assert figures["tokens_per_item"] == count
        bits, low, high = figures["bits_per_token"]
        assert 0 < low <= bits <= high < 9
        assert figures["bits_per_step"][0] == pytest.approx(bits * count / 40)
        assert figures["bits_per_second"][0] == pytest.approx(bits * count / 40 * 80)
        assert figures["coded_mse"][0] < figures["held_mse"][0]
        assert figures["next_mse"][0] > 0
        assert "bits_per_pixel" not in figures
        assert figures["next_failed"][0] == 0
    settings = [found["settings"][name]["generator"] for name in found["models"]]
    assert settings[0]["width"] == settings[1]["width"] == 16


def test_bad_settings_say_what_is_wrong(tmp_path):
    suite = read_suite(resources.named_suite("predictability"))
    for changes, said in (
        ({"seeds": ()}, "at least one seed"),
        ({"num_chunks": 1}, "2 chunks"),
        ({"max_items": 0}, "one item"),
        ({"max_seconds": 0.0}, "max_seconds must be above 0"),
    ):
        with pytest.raises(ConfigError, match=said):
            replace(suite, **changes)
    with pytest.raises(ConfigError, match="num_steps must be more than warmup_steps"):
        Budget(num_steps=5, warmup_steps=5)
    with pytest.raises(ConfigError, match="names no data for video"):
        replace(suite.data, video=None).of("video", tmp_path)
    with pytest.raises(InputError, match="make it with `zoo data metaworld`"):
        suite.data.of("action", tmp_path / "nothing.npz")
