"""`zoo eval` on one's own robot's data, and suites of one's own."""

import json

import numpy as np
import pytest
import yaml
from cli_files import fails, ok

import zoo
from zoo.data.actions import ActionEpisodes, hold_out
from zoo.errors import ConfigError, InputError
from zoo.evaluation import read_suite, run


def motion(count=12, dofs=3, seed=0):
    draw = np.random.default_rng(seed)
    episodes = []
    for length in draw.integers(40, 60, count):
        phase, speed = draw.uniform(0, 6, (2, dofs))
        episode = np.sin(phase + speed * np.linspace(0, 1, length)[:, None])
        episode[:, -1] = 3 + (np.arange(length) % 30 < 15)  # a gripper between 3 and 4
        episodes.append(episode.astype(np.float32))
    return episodes


@pytest.fixture
def work(tmp_path, monkeypatch):
    """A working folder with data of one robot in three forms, a model of it, and a quick suite."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    episodes = motion()
    (tmp_path / "npys").mkdir()
    for number, each in enumerate(episodes):
        np.save(f"npys/ep_{number}.npy", each)
    np.savez("all.npz", **{f"ep_{number}": each for number, each in enumerate(episodes)})
    rows = [f"{n},{','.join(map(str, row))}" for n, each in enumerate(episodes) for row in each]
    (tmp_path / "all.csv").write_text("\n".join(["episode,x,y,grip", *rows]))
    tok = zoo.load("binning").from_config({"num_dofs": 3, "horizon": 10}).fit(episodes)
    zoo.save(tok, "mine", name="binning.mine")
    suite = yaml.safe_load((zoo.resources.path("eval", "action.yaml")).read_text())
    suite |= {"latency_seconds": 0.01, "bootstrap": {"num_resamples": 20}, "variants": []}
    (tmp_path / "quick.yaml").write_text(yaml.safe_dump(suite))
    return tmp_path


def document(capsys, *arguments):
    capsys.readouterr()
    ok("eval", *arguments, "--json")
    return json.loads(capsys.readouterr().out)


def value(figure):
    """Return the estimate of a figure, which stands alone where there is no interval."""
    return figure[0] if isinstance(figure, list) else figure


@pytest.mark.parametrize("data", ["npys", "all.npz", "all.csv"])
def test_r2_own_data_of_every_kind(work, capsys, data):
    read = document(capsys, "quick.yaml", "--data", data, "--models", "./mine")
    assert read["title"] == f"Robot actions of {data}, a tenth of the episodes held out"
    assert read["data"]["file"] == data
    assert (read["data"]["episodes"], read["data"]["is_reference"]) == (1, False)
    figures = read["models"]["./mine"]
    assert "gripper_accuracy" not in figures
    figures = document(capsys, "quick.yaml", "--data", data, "--models", "./mine", "--gripper", "-1")["models"][
        "./mine"
    ]
    assert value(figures["gripper_accuracy"]) == 1


def test_r2_shipped_models_of_another_robot_are_fitted_here(work, capsys):
    read = document(capsys, "quick.yaml", "--data", "npys")
    assert set(read["models"]) == {f"{name}.default, fitted here" for name in ("beast", "fast", "binning")}
    assert all(value(each["mse"]) < 0.05 for each in read["models"].values())


def test_r2_an_own_suite_finds_its_file_beside_it(work, capsys):
    (work / "sub").mkdir()
    (work / "all.npz").rename(work / "sub" / "all.npz")
    suite = {"kind": "action", "title": "Mine", "data": {"file": "all.npz"}, "gripper": [2], "latency_seconds": 0.01}
    (work / "sub" / "mine.yaml").write_text(yaml.safe_dump(suite))
    read = document(capsys, "sub/mine.yaml", "--models", "./mine")
    assert read["title"] == "Mine"
    assert value(read["models"]["./mine"]["gripper_accuracy"]) == 1


def test_r2_all_missing_keys_are_told_at_once(work):
    (work / "x.yaml").write_text("kind: action\ntitle: x\ndata: {}\n")
    with pytest.raises(ConfigError, match="'file'"):
        read_suite(work / "x.yaml")
    (work / "x.yaml").write_text("kind: speech\n")
    with pytest.raises(ConfigError, match=r"keys 'title', 'data', 'noises', 'average', 'models'"):
        read_suite(work / "x.yaml")


def test_r2_what_cannot_be_measured(work, capsys):
    fails(capsys, ["eval", "quick.yaml", "--data", "absent"], "absent does not exist")
    fails(capsys, ["eval", "quick.yaml", "--data", "npys", "--models", "./mine", "--gripper", "7"], "gripper names")
    fails(capsys, ["eval", "quick.yaml", "--data", "npys", "--models", "beast"], "degrees of freedom")
    fails(capsys, ["eval", "quick.yaml", "--gripper", "1"], "does not exist")
    with pytest.raises(InputError, match="at least 2"):
        run(read_suite("quick.yaml"), models=["./mine"], data=work / "npys" / "ep_0.npy")


def test_episodes_held_out_are_spread_and_not_fitted():
    episodes = ActionEpisodes(motion(10), list("abcdefghij"))
    measured, fitted = hold_out(episodes, 0.2)
    assert measured.names == ["c", "h"]
    assert fitted.names == list("abdefgij")
    assert hold_out(episodes, 0) == (episodes, episodes)
    assert len(hold_out(episodes, 1.0)[1].names) == 1
