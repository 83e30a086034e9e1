"""`zoo fit-actions`: a tokenizer for one's own data, and honest figures about it."""

import json
import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest
import torch
from cli_files import fails, listed, ok

import zoo
from zoo import tokenfile
from zoo.cli import fit_actions, main
from zoo.data.actions import ActionEpisodes, hold_out, read_actions
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.families.binning import BinningConfig
from zoo.families.fast import FastConfig
from zoo.modalities.action import ActionTokenizer

SMALL = ("--horizon", "8", "--num-basis", "6")


def motion(count=12, dofs=3, seed=0):
    """Smooth episodes of different lengths whose last value switches."""
    draw = np.random.default_rng(seed)
    episodes = []
    for length in draw.integers(20, 40, count):
        t = np.linspace(0, 1, length)[:, None]
        phase, speed = draw.uniform(0, 6, (2, dofs))
        episode = np.sin(phase + speed * t)
        episode[:, -1] = np.sign(episode[:, -1])
        episodes.append(episode.astype(np.float32))
    return episodes


def store(path, episodes, **more):
    offsets = np.cumsum([0, *map(len, episodes)])
    np.savez(path, actions=np.concatenate(episodes), offsets=offsets, **more)


@pytest.fixture
def data(tmp_path, monkeypatch):
    """`kitchen.npz` in the working folder, with a control rate; its episodes."""
    monkeypatch.chdir(tmp_path)
    episodes = motion()
    store("kitchen.npz", episodes, control_rate=20.0, dof_names=["x", "y", "grip"])
    return episodes


def fitted(capsys, *arguments):
    """Fit, and return the JSON document that describes the result."""
    capsys.readouterr()
    ok("fit-actions", *arguments, "--json", "--overwrite")
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("family", ["beast", "fast", "binning"])
def test_every_family_fits_and_is_ready_to_use(family, data, capsys):
    settings = SMALL if family == "beast" else SMALL[:2]
    shown = fitted(capsys, "kitchen.npz", "-o", "robot", "--family", family, *settings)
    tok = zoo.load("./robot")
    assert isinstance(tok, ActionTokenizer)
    assert (tok.name, shown["name"], shown["folder"]) == (f"{family}.robot", f"{family}.robot", "robot")
    assert tok.spec.sample_rate == 20.0
    steps = sum(map(len, data))
    assert tok.trained_on == f"12 episodes ({steps} steps) of kitchen.npz"
    ok("encode", "robot", "kitchen.npz", "-o", "x.zoo")
    ok("decode", "x.zoo", "-o", "out")
    assert len(listed("out")) == 12
    report = shown["report"]
    assert (shown["is_held_out"], report["episodes"]) == (True, 1)
    assert 0 < report["normalised_mse"] < 0.05
    assert report["max_error"] == max(report["max_error_per_dof"])


def test_what_is_written_is_fitted_to_all_and_measured_on_what_was_held_out(data, capsys):
    shown = fitted(capsys, "kitchen.npz", "-o", "robot", *SMALL, "--held-out", "0.25")
    config = BeastConfig(3, 8, 6, control_rate=20.0)
    assert tokenfile.fingerprint(zoo.load("./robot")) == tokenfile.fingerprint(BeastTokenizer(config).fit(data))
    held_out = [2, 6, 10]
    rest = [episode for number, episode in enumerate(data) if number not in held_out]
    tok = BeastTokenizer(config).fit(rest)
    ids, bits, errors, squares = 0, 0.0, [], []
    low, high = np.quantile(np.concatenate(rest).astype(np.float64), [0.01, 0.99], axis=0)
    for number in held_out:
        x = torch.from_numpy(data[number])[None]
        tokens = tok.encode(x)
        errors.append((tok.decode(tokens) - x).abs()[0])
        squares.append(torch.from_numpy((errors[-1].numpy() / ((high - low) / 2)) ** 2))
        ids, bits = ids + int(tokens.lengths.sum()), bits + float(tokens.num_bits.sum())
    steps = sum(len(data[number]) for number in held_out)
    report = shown["report"]
    assert (report["episodes"], report["steps"], report["tokens"], report["bits"]) == (3, steps, ids, bits)
    assert report["chunks"] * 18 == ids
    assert report["tokens_per_chunk"] == 18
    assert report["max_error_per_dof"] == pytest.approx(torch.cat(errors).amax(0).tolist())
    assert report["rmse_per_dof"] == pytest.approx(torch.cat(errors).square().mean(0).sqrt().tolist(), rel=1e-5)
    assert report["normalised_mse"] == pytest.approx(float(torch.cat(squares).mean()), rel=1e-4)
    assert report["bit_rate"] == pytest.approx(bits * 20 / steps)
    assert report["compression"] == pytest.approx(32 * 3 * steps / bits)


def test_measured_on_what_was_fitted_where_nothing_can_be_held_out(data, capsys):
    np.save("one.npy", data[0])
    for arguments in (["one.npy"], ["kitchen.npz", "--held-out", "0"]):
        shown = fitted(capsys, *arguments, "-o", "robot", *SMALL)
        assert not shown["is_held_out"]
        assert shown["report"]["steps"] == (len(data[0]) if len(arguments) == 1 else sum(map(len, data)))


def test_held_out_episodes_are_spread(data):
    names = [f"{number}" for number in range(12)]
    episodes = ActionEpisodes(data, names)
    for share, expected in ((0.01, ["6"]), (0.1, ["6"]), (0.25, ["2", "6", "10"]), (0.999, names[:11])):
        measured, rest = hold_out(episodes, share)
        assert measured.names == expected or len(measured.names) == len(expected) == 11
        assert sorted(measured.names + rest.names) == sorted(names)
    assert hold_out(episodes, 0.0) == (episodes, episodes)


def test_for_people(data, capsys):
    ok("fit-actions", "kitchen.npz", "-o", "robot", *SMALL, "--gripper", "-1")
    shown = capsys.readouterr()
    assert shown.err == ""
    lines = dict(re.split(" {2,}", line.strip(), maxsplit=1) for line in shown.out.splitlines()[1:])
    assert shown.out.startswith("robot: beast.robot\n")
    assert lines["fitted to"] == f"12 episodes, {sum(map(len, data))} steps of 3 degrees of freedom at 20 Hz"
    assert lines["chunks"] == "8 steps (0.4 s), 6 control points"
    assert lines["measured on"] == "1 episode that was held out"
    assert re.fullmatch(r"[\d.e-]+ \(1 % and 99 % quantiles of the data at -1 and \+1\)", lines["normalised MSE"])
    assert re.fullmatch(r"[\d.]+ \(degree of freedom \d, (x|y|grip)\)", lines["largest error"])
    assert lines["tokens"] == "18 a chunk"
    assert lines["load it"] == 'zoo.load("./robot")'
    assert zoo.load("./robot").config.gripper == (2,)


# Settings


def test_the_number_of_control_points_follows_from_the_data(data, capsys):
    loose, strict = (
        fitted(capsys, "kitchen.npz", "-o", "robot", "--horizon", "16", "--gripper", "2", "--threshold", threshold)
        for threshold in ("0.3", "0.02")
    )
    chosen = [shown["config"]["num_basis"] for shown in (loose, strict)]
    assert chosen[0] < chosen[1]
    for shown, threshold in ((loose, 0.3), (strict, 0.02)):
        tried = {each["num_basis"]: each["mse"] for each in shown["candidates"]}
        assert tried[shown["config"]["num_basis"]] < threshold
    again = fitted(capsys, "kitchen.npz", "-o", "robot", "--horizon", "16", "--num-basis", "auto", "--gripper", "2")
    assert again["config"]["num_basis"] in range(5, 13)
    arguments = ["kitchen.npz", "-o", "r", "--horizon", "16", "--threshold", "1e-9"]
    fails(capsys, ["fit-actions", *arguments], "no number of control points", "Raise the threshold")


def test_settings_reach_the_config(data, capsys):
    beast = ["--degree", "3", "--grid", "anchored", "--boundary", "value", "--gripper", "0,-1"]
    beast += ["--gripper-mode", "spline", "--codebook-size", "64", "--control-rate", "10"]
    config = fitted(capsys, "kitchen.npz", "-o", "a", *SMALL, *beast)["config"]
    expected = {"degree": 3, "grid": "anchored", "boundary": "value", "gripper": [0, 2], "gripper_mode": "spline"}
    expected |= {"codebook_size": 64, "control_rate": 10.0, "num_dofs": 3, "horizon": 8, "num_basis": 6}
    assert {key: config[key] for key in expected} == expected
    config = fitted(
        capsys,
        "kitchen.npz",
        "-o",
        "b",
        "--family",
        "fast",
        "--horizon",
        "8",
        "--scale",
        "5",
        "--bpe-vocab-size",
        "300",
    )["config"]
    assert (config["scale"], config["bpe_vocab_size"], config["control_rate"]) == (5.0, 300, 20.0)
    fitted(capsys, "kitchen.npz", "-o", "c", "--family", "binning", "--horizon", "8", "--codebook-size", "32")
    assert zoo.load("./c").spec.codebook_size == 32
    ok("encode", "a", "kitchen.npz", "-o", "x.zoo")
    assert "the first of each episode is taken" in capsys.readouterr().err


def test_help_states_the_families_own_defaults(capsys):
    assert main(["fit-actions", "--help"]) == 0
    text = re.sub(r"\s+", " ", capsys.readouterr().out)
    for family, cls in (("beast", BeastConfig), ("fast", FastConfig), ("binning", BinningConfig)):
        defaults = {field.name: field.default for field in fields(cls)}
        for name in fit_actions.settings_of(family) - {"num_basis"}:
            default = {"gripper": "none", "scale": "10"}.get(name, defaults[name])
            assert re.search(rf"--{name.replace('_', '-')} [^()]*\(default: {default}\)", text), name


def test_names_licences_and_origins(data, capsys):
    facts = ["--name", "beast.kitchen", "--licence", "CC-BY-4.0", "--trained-on", "our kitchen"]
    fitted(capsys, "kitchen.npz", "-o", "some folder!", *SMALL, *facts)
    tok = zoo.load(Path("some folder!"))
    assert (tok.name, tok.spec.licence, tok.trained_on) == ("beast.kitchen", "CC-BY-4.0", "our kitchen")
    assert fitted(capsys, "kitchen.npz", "-o", "some folder!", *SMALL)["name"] == "beast.some-folder"
    for name in ("kitchen", "fast.kitchen", "beast.", "beast.a b"):
        fails(capsys, ["fit-actions", "kitchen.npz", "-o", "r", *SMALL, "--name", name], "--name is beast.variant")


# Data


def test_several_sources_make_one_set(data, capsys):
    Path("more").mkdir()
    np.save("more/1.npy", data[0])
    np.save("more/2.npy", data[1])
    np.save("other.npy", np.stack([data[2][:20], data[3][:20]]))
    shown = fitted(capsys, "more", "other.npy", "-o", "robot", *SMALL, "--control-rate", "20")
    assert shown["trained_on"] == f"4 episodes ({len(data[0]) + len(data[1]) + 40} steps) of more, other.npy"
    arguments = ["fit-actions", "more", "kitchen.npz", "-o", "r", *SMALL]
    fails(capsys, arguments, "different control rates", "20 Hz", "unknown")
    np.save("wide.npy", np.zeros((9, 7)))
    fails(capsys, ["fit-actions", "more", "wide.npy", "-o", "r", *SMALL], "'wide' has 7 degrees of freedom", "has 3")


def test_a_split_of_the_data(data, capsys):
    store("split.npz", data, split=np.array(["train"] * 8 + ["test"] * 4))
    shown = fitted(capsys, "split.npz", "-o", "robot", *SMALL, "--split", "train", "--held-out", "0")
    assert shown["report"]["episodes"] == 8
    assert len(read_actions("split.npz", split="test").episodes) == 4


def test_parquet_and_its_columns(data, capsys):
    arrow = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    columns = dict(zip(("x", "y", "z"), data[0].T, strict=True))
    parquet.write_table(arrow.table({"arm": list(data[0]), **columns}), "a.parquet")
    for column, dofs in (("arm", 3), ("x,z", 2)):
        shown = fitted(capsys, "a.parquet", "-o", "robot", *SMALL, "--column", column)
        assert shown["config"]["num_dofs"] == dofs


def test_what_cannot_be_fitted(data, capsys):
    np.save("nan.npy", np.full((20, 2), np.nan))
    np.save("ok.npy", data[0])
    Path("file").write_text("")
    cases = [
        (["none.npy", "-o", "r"], ["'none.npy' does not exist"]),
        (["nan.npy", "-o", "r"], ["holds nan at step 0"]),
        (["file", "-o", "r"], ["not of a kind that actions are read from"]),
        (["ok.npy", "-o", "file"], ["file is a file: give a folder"]),
        (["ok.npy", "-o", "r", "--gripper", "3"], ["--gripper counts degrees of freedom from 0 to 2, got 3"]),
        (["ok.npy", "-o", "r", "--degree", "7"], ["a spline of degree 7 needs num_basis ≥ 8"]),
    ]
    for arguments, parts in cases:
        fails(capsys, ["fit-actions", *arguments, *SMALL], "zoo: error: ", *parts)


def test_a_checkpoint_is_replaced_only_when_asked(data, capsys):
    ok("fit-actions", "kitchen.npz", "-o", "robot", *SMALL)
    before = {name: Path("robot", name).read_bytes() for name in listed("robot")}
    again = ["fit-actions", "kitchen.npz", "-o", "robot", "--horizon", "6", "--family", "binning"]
    fails(capsys, again, "robot holds a checkpoint already: choose another folder, or pass --overwrite")
    assert {name: Path("robot", name).read_bytes() for name in listed("robot")} == before
    ok(*again, "--overwrite")
    assert zoo.load("./robot").family == "binning"
