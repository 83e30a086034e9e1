"""`zoo eval` on one's own robot's data, and suites of one's own."""

import dataclasses
import json

import numpy as np
import pytest
import soundfile
import toy
import yaml
from cli_files import fails, ok
from speech_corpus import write_whisper

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


@pytest.fixture
def speech(tmp_path, monkeypatch):
    """Speech of one's own at two rates, in three forms, models of speech, and quick suites; nothing is in the cache."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    (tmp_path / "mine" / "deep").mkdir(parents=True)
    lines = []
    for number in range(6):
        name, rate = f"{'deep/' if number % 2 else ''}{number}.wav", (16000, 24000)[number % 2]
        time = np.arange(rate * 6 // 10) / rate
        tone = np.sin(2 * np.pi * (150 + 20 * number) * time) * np.sin(9 * time) ** 2
        wave = 0.3 * tone + 0.01 * np.random.default_rng(number).standard_normal(len(time))
        soundfile.write(tmp_path / "mine" / name, wave, rate)
        lines.append({"audio_filepath": name, "text": f"say {number // 2}", "lang": "en", "speaker": f"s{number % 2}"})
    (tmp_path / "mine" / "dev.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    zoo.save(toy.make("speech", codebook_size=64, hop=160), "toy")
    for name in ("noise", "resynthesis", "stab", "invariance"):
        suite = yaml.safe_load(zoo.resources.path("eval", f"{name}.yaml").read_text())
        suite["bootstrap"] = {"num_resamples": 20}
        if name == "resynthesis":
            suite["measures"] = ["wer", "mel_distance"]
        if name == "stab":
            suite |= {"strengths": {"gaussian": [10], "real": [10]}, "contexts": [0.25], "max_context_clips": 1}
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(suite))
    with toy.registered():
        yield tmp_path


FORMS = [("mine", 6), ("mine/dev.json", 6), ("mine/deep/1.wav", 1)]


@pytest.mark.parametrize(("data", "count"), FORMS)
def test_r2_own_speech_in_noise(speech, capsys, data, count):
    read = document(capsys, "noise.yaml", "--data", data, "--models", "./toy")
    name = data.rpartition("/")[2]
    assert read["title"] == f"Tokens of speech in noise: {name}"
    facts = read["data"]
    assert (facts["file"], facts["is_reference"], facts["made_by"]) == (name, False, "")
    assert (facts["utterances"], facts["seconds"]) == (count, pytest.approx(0.6 * count))
    figures = read["models"]["./toy"]
    assert value(figures["ued_gaussian"]) > 0
    for key in ("ued_real", "ued_real_ood", "ued_mean"):
        assert figures[key]["value"] is None
        assert "make them with `zoo data speech`" in figures[key]["reason"]
    assert "Not measured: real, real_ood (there are no recordings of noise" in read["protocol"]


@pytest.mark.parametrize("place", ["mine", "cache/tokenizer-zoo/speech"])
def test_r2_noise_lies_beside_own_speech_or_in_the_cache(speech, capsys, place):
    folder = speech / place
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("noise-test", "noise-ood"):
        soundfile.write(folder / f".{name}.wav", np.random.default_rng(0).standard_normal(8000) * 0.1, 16000)
        (folder / f"{name}.jsonl").write_text(json.dumps({"audio_filepath": f".{name}.wav"}) + "\n")
    read = document(capsys, "noise.yaml", "--data", "mine", "--models", "./toy")
    figures = read["models"]["./toy"]
    assert value(figures["ued_real"]) > 0
    assert value(figures["ued_mean"]) > 0
    assert read["data"]["not_measured"] == {}


def test_r2_an_own_suite_of_speech_lies_beside_its_files(speech, capsys):
    suite = yaml.safe_load((speech / "noise.yaml").read_text())
    suite |= {"title": "Mine", "data": {"file": "dev.json"}, "max_items": 4}
    (speech / "mine" / "own.yaml").write_text(yaml.safe_dump(suite))
    read = document(capsys, "mine/own.yaml", "--models", "./toy")
    assert (read["title"], read["data"]["file"], read["data"]["utterances"]) == ("Mine", "dev.json", 4)
    assert "4 of the data's 6 utterances were measured" in read["protocol"]


@pytest.mark.parametrize(("data", "count"), FORMS)
def test_r2_own_speech_made_again(speech, capsys, data, count):
    read = document(capsys, "resynthesis.yaml", "--data", data, "--models", "./toy")
    assert read["title"] == f"Speech made of its tokens: {data.rpartition('/')[2]}"
    assert read["data"]["heard"]["clips"] == count
    assert read["data"]["is_reference"] is False
    figures = read["models"]["./toy"]
    assert value(figures["mel_distance"]) > 0
    assert figures["wer"]["value"] is None
    reason = "whisper" if data.endswith("json") else "no clip has a transcript in 'en'"
    assert reason in figures["wer"]["reason"]


def test_r2_words_are_read_where_there_are_any(speech, tmp_path_factory):
    whisper = tmp_path_factory.mktemp("whisper")
    write_whisper(whisper)
    lines = (speech / "mine" / "dev.json").read_text().splitlines()
    foreign = lines[0].replace('"en"', '"de"')
    (speech / "mine" / "some.jsonl").write_text("\n".join([foreign, lines[1].replace("say", ""), *lines[2:4]]))
    suite = read_suite("resynthesis.yaml")
    suite = dataclasses.replace(suite, recognizer=dataclasses.replace(suite.recognizer, folder=str(whisper)))
    report = run(suite, models=["./toy"], data=speech / "mine" / "some.jsonl")
    assert report.data["heard"]["clips"] == 4
    assert sorted(report.examples["text"]) == [" 0", "say 1", "say 1"]
    assert report.models["recording"]["wer"].estimate >= 0


@pytest.mark.parametrize(("data", "count"), FORMS)
def test_r2_own_speech_in_stab(speech, capsys, data, count):
    read = document(capsys, "stab.yaml", "--data", data, "--models", "./toy")
    assert read["title"].endswith(f": {data.rpartition('/')[2]}")
    assert (read["data"]["is_reference"], len(read["data"]["clips_disturbed"])) == (False, count)
    (figures,) = read["models"].values()
    assert value(figures["ued@gaussian 10"]) > 0
    assert "no recordings for the part 'noise'" in figures["robustness_noise"]["reason"]
    assert "no sentence is there in several languages" in figures["language_top1"]["reason"]
    if data.endswith("json"):
        assert 0 <= value(figures["speaker_similarity"]) <= 1
    else:
        assert "no text is read by several speakers" in figures["speaker_similarity"]["reason"]


@pytest.mark.parametrize("data", ["mine/dev.json", "mine/deep", "mine/0.wav"])
def test_r2_own_speech_in_other_batches(speech, capsys, data):
    read = document(capsys, "invariance.yaml", "--data", data, "--models", "./toy")
    figures = read["models"]["./toy"]
    assert value(figures["items"]) == {"mine/dev.json": 6, "mine/deep": 3, "mine/0.wav": 1}[data]
    assert value(figures["changed@batch_7"]) == 0
    assert read["data"]["file"] == data.rpartition("/")[2]


def test_r2_a_suite_of_invariance_finds_its_files_beside_it(speech, capsys):
    suite = yaml.safe_load((speech / "invariance.yaml").read_text())
    suite["data"] = {"speech": {"file": "dev.json", "sha256": "", "made_by": ""}}
    (speech / "mine" / "own.yaml").write_text(yaml.safe_dump(suite))
    read = document(capsys, "mine/own.yaml", "--models", "./toy")
    assert read["data"]["items"] == {"speech": 6}
    assert read["data"]["file"] == "dev.json"


@pytest.mark.parametrize("suite", ["noise.yaml", "resynthesis.yaml", "stab.yaml"])
def test_r2_what_speech_cannot_be_measured(speech, capsys, suite):
    def refused(data, message, *more):
        fails(capsys, ["eval", suite, "--models", "./toy", "--data", data, *more], message)

    refused("absent", "absent does not exist: point --data at sound files or a manifest")
    refused("toy", "toy holds no speech")
    refused("mine", "leave it out", "--gripper", "1")
    soundfile.write("two.wav", np.zeros((9000, 2)), 16000)
    refused("two.wav", "two.wav has 2 channels")
    (speech / "x").mkdir()
    (speech / "x" / "list.jsonl").write_text("{}\n")
    refused("x", "if 'list.jsonl' is one, point --data at it")
