"""`zoo fit-actions`: what it keeps of what it found out, and what it tells a user to look at."""

import json

import numpy as np
import pytest
import torch
from cli_files import fails, ok
from test_cli_fit import SMALL, data, motion, store  # noqa: F401 - a fixture

import zoo
from zoo import tokenfile
from zoo.data.actions import ActionEpisodes, read_actions
from zoo.errors import InputError
from zoo.hub.card import card_for


def fit(capsys, *arguments):
    capsys.readouterr()
    ok("fit-actions", *arguments, "--overwrite", "--json")
    shown = capsys.readouterr()
    return json.loads(shown.out), shown.err


# ------------------------------------------------------------------------------------------------------ R5: boundary


@pytest.mark.parametrize("boundary", ["value", "value+velocity"])
def test_r5_boundary_models_by_command_and_by_card(data, capsys, boundary, monkeypatch, tmp_path):  # noqa: F811
    fit(capsys, "kitchen.npz", "-o", "mine", *SMALL, "--degree", "3", "--grid", "anchored", "--boundary", boundary)
    ok("encode", "mine", "kitchen.npz", "-o", "x.zoo")
    tok = zoo.load("./mine")
    episode = torch.from_numpy(data[0])
    start = episode[:1] if boundary == "value" else episode[:1].expand(1, 2, -1)
    stored = tokenfile.load("x.zoo").tokens
    assert stored.tolist()[0] == tok.encode(episode, start=start).tolist()[0]
    np.save("motion.npy", data[0])
    card = card_for(tok).replace('zoo.load("./beast.mine")', 'zoo.load("./mine")')
    names = {}
    exec(card.partition("```python\n")[2].partition("```")[0], names)
    assert names["signal"].shape[1] == len(data[0])
    spoilt = data[0].copy()
    spoilt[3, 1] *= 1e4
    np.save("spoilt.npy", spoilt)
    fails(capsys, ["encode", "mine", "spoilt.npy", "-o", "y.zoo"], "spoilt", "unit")


def test_r5_other_cards_run_as_they_are(data, capsys):  # noqa: F811
    fit(capsys, "kitchen.npz", "-o", "mine", *SMALL)
    np.save("motion.npy", data[0])
    card = card_for(zoo.load("./mine")).replace('zoo.load("./beast.mine")', 'zoo.load("./mine")')
    exec(card.partition("```python\n")[2].partition("```")[0], {})


# --------------------------------------------------------------------------------------------------------- R6: facts


@pytest.mark.parametrize("family", ["beast", "fast", "binning"])
def test_r6_what_was_measured_is_kept_and_on_the_card(data, capsys, family):  # noqa: F811
    options = SMALL if family == "beast" else SMALL[:2]
    document, _ = fit(capsys, "kitchen.npz", "-o", "mine", "--family", family, *options)
    facts = zoo.load("./mine").facts
    assert facts["measured"] == {"is_held_out": True, **document["report"]}
    assert facts["dof_names"] == ["x", "y", "grip"]
    every = np.concatenate(data)
    assert facts["lowest"] == every.min(0).tolist()
    assert facts["highest"] == every.max(0).tolist()
    card = card_for(zoo.load("./mine"))
    assert "No figures were measured" not in card
    assert f"| normalised mse | {document['report']['normalised_mse']:.4g} |" in card
    assert "x, y, grip" in card
    assert "No figures were measured" in card_for(zoo.load("./mine").fit(data))


def test_r6_the_order_of_joints_is_checked(data, capsys):  # noqa: F811
    fit(capsys, "kitchen.npz", "-o", "mine", *SMALL)
    store("other.npz", [each[:, [1, 0, 2]] for each in data], control_rate=20.0, dof_names=["y", "x", "grip"])
    store("same.npz", data, control_rate=20.0, dof_names=["x", "y", "grip"])
    store("unnamed.npz", data, control_rate=20.0)
    fails(capsys, ["encode", "mine", "other.npz", "-o", "x.zoo"], "y, x, grip, in another order", "x, y, grip")
    ok("encode", "mine", "same.npz", "-o", "x.zoo")
    ok("encode", "mine", "unnamed.npz", "-o", "y.zoo")
    tok = zoo.load("./mine")
    with pytest.raises(InputError, match="in another order"):
        tok.encode(read_actions("other.npz"))
    with pytest.raises(InputError, match="others than"):
        tok.encode(ActionEpisodes(data[:1], ["a"], None, ("a", "b", "c")))
    assert tok.encode(read_actions("same.npz")).equal(tok.encode(data))
    fails(capsys, ["fit-actions", "same.npz", "other.npz", "-o", "both", *SMALL], "in another order")


def test_r6_facts_survive_a_save_and_not_a_fit(data, capsys, tmp_path):  # noqa: F811
    fit(capsys, "kitchen.npz", "-o", "mine", *SMALL)
    tok = zoo.load("./mine")
    assert zoo.load(zoo.save(tok, tmp_path / "copy")).facts == tok.facts != {}
    assert tok.fit(data).facts == {}


# -------------------------------------------------------------------------------------------------------- R7: advice


def test_r7_another_control_rate_is_warned_of(data, capsys):  # noqa: F811
    _, said = fit(capsys, "kitchen.npz", "-o", "mine", *SMALL, "--control-rate", "30")
    assert "WARNING" in said
    assert "20 commands a second" in said
    for same in (["--control-rate", "20"], []):
        assert "WARNING" not in fit(capsys, "kitchen.npz", "-o", "mine", *SMALL, *same)[1]


def test_r7_auto_says_what_decided_and_what_to_try(data, capsys, monkeypatch):  # noqa: F811
    episodes = motion(40)
    for each in episodes:
        each[:, 2] = np.where(np.arange(len(each)) % 14 < 7, -1.0, 1.0)
    store("many.npz", episodes, control_rate=20.0, dof_names=["x", "y", "grip"])
    _, said = fit(capsys, "many.npz", "-o", "mine", "--horizon", "16", "--threshold", "0.2")
    assert "degree of freedom 2 (grip) decides" in said
    assert "2 (grip) switches rather than moves: try --gripper 2" in said
    assert "2 (grip) is off by up to" in said
    _, said = fit(capsys, "many.npz", "-o", "mine", *SMALL, "--gripper", "2")
    assert "switches rather than moves" not in said
    assert "auto took" not in said


def test_r3_what_is_not_read_is_named(data, capsys):  # noqa: F811
    store("more.npz", data, qpos=np.zeros((3, 2)))
    assert "not read: qpos" in fit(capsys, "more.npz", "-o", "mine", *SMALL)[1]
    ok("encode", "mine", "more.npz", "-o", "x.zoo")
    assert "not read: qpos" in capsys.readouterr().err


# -------------------------------------------------------------------------------------------------------- R1: clipped


def test_r1_clipping_is_said_loudly(data, capsys):  # noqa: F811
    fit(capsys, "kitchen.npz", "-o", "mine", "--family", "binning", "--horizon", "8")
    np.save("far.npy", data[0] * 4)
    ok("encode", "mine", "far.npy", "-o", "x.zoo")
    assert "clipped: check its unit" in capsys.readouterr().err
    ok("encode", "mine", "kitchen.npz", "-o", "y.zoo")
    assert "clipped" not in capsys.readouterr().err
