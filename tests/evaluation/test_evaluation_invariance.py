"""The suite of invariance, over all modalities: 0 for what keeps the promise, exact counts for what breaks it."""

import dataclasses
import json
from pathlib import Path

import pytest
import soundfile
import tiny_stabletoken
import torch
import toy
import yaml
from PIL import Image
from tiny_flextok import make as make_flextok

import zoo
from zoo.cli import main
from zoo.data.media import read_video, write_mp4
from zoo.errors import ConfigError, InputError, UnknownNameError
from zoo.evaluation import card_section, read_report, read_suite, run, write_report
from zoo.evaluation.suites.invariance.chunking import CUTS
from zoo.evaluation.suites.invariance.config import Chunking
from zoo.evaluation.suites.invariance.runner import WAYS

ROOT = Path(__file__).parents[2]
SAMPLES = ROOT / "zoo" / "data" / "samples"
ALL = [way for way in WAYS if way != "loaded"]


class Leaky(toy.ToySpeech):
    """A tokenizer whose ids depend on how many items are encoded together."""

    family = "leaky"

    def encode(self, x, lengths=None):
        tokens = super().encode(x, lengths)
        shifted = (tokens.ids + len(tokens.ids) - 1) % tokens.codebook_size
        return dataclasses.replace(tokens, ids=shifted * tokens.mask)


class Placed(toy.ToySpeech):
    """A tokenizer that gives positions, modulo 7, and chunks whose positions start anew."""

    family = "placed"

    def encode(self, x, lengths=None):
        tokens = super().encode(x, lengths)
        return dataclasses.replace(tokens, ids=torch.arange(tokens.ids.shape[1]).expand_as(tokens.ids) % 7)

    def encode_chunks(self, x, *, chunk, left, right):
        return (self.encode(part) for part in x.split(int(chunk * self.config.sample_rate)))


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    tokenizers = {
        "speech": toy.make("speech", codebook_size=64, hop=160),
        "slow": toy.make("speech", codebook_size=64, hop=80, sample_rate=8000),
        "image": toy.make("image"),
        "video": toy.make("video", size=(2, 16, 16)),
        "leaky": Leaky(toy.SpeechConfig(codebook_size=64, hop=160)).eval(),
        "placed": Placed(toy.SpeechConfig(codebook_size=64, hop=160)).eval(),
    }
    for name, tokenizer in tokenizers.items():
        zoo.save(tokenizer, folder / name)
    with toy.registered(*toy.CLASSES.values(), Leaky, Placed):
        yield {name: str(folder / name) for name in tokenizers} | {"action": "beast"}


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """Five pieces of the library's recording with a manifest, pictures, clips, and the library's episodes."""
    folder = tmp_path_factory.mktemp("data")
    wave, rate = soundfile.read(SAMPLES / "austen.flac", dtype="float32")
    for name in ("speech", "image", "video"):
        (folder / name).mkdir()
    lines = []
    for number in range(5):
        piece = wave[number * 8000 : number * 8000 + 3000 + 700 * number]
        soundfile.write(folder / "speech" / f"{number}.flac", piece, rate)
        lines.append({"audio_filepath": f"{number}.flac", "duration": len(piece) / rate, "speaker": "austen"})
    (folder / "speech" / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw = torch.Generator().manual_seed(0)
    for number in range(5):
        picture = torch.randint(256, (8, 8, 3), generator=draw, dtype=torch.uint8)
        Image.fromarray(picture.numpy()).save(folder / "image" / f"{number}.png")
        write_mp4(folder / "video" / f"{number}.mp4", torch.rand(3, 3 + number, 20, 24, generator=draw), 24)
    return {name: folder / name for name in ("speech", "image", "video")} | {"action": SAMPLES / "metaworld_expert.npz"}


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(ROOT / "eval" / "invariance.yaml")
    actions = dataclasses.replace(whole.data.action, split="")
    return dataclasses.replace(
        whole,
        data=dataclasses.replace(whole.data, action=actions),
        bootstrap=dataclasses.replace(whole.bootstrap, num_resamples=50),
    )


@pytest.mark.parametrize(
    ("name", "modality", "items"),
    [
        ("speech", "speech", 5),
        ("slow", "speech", 5),
        ("image", "image", 5),
        ("video", "video", 5),
        ("action", "action", 4),
    ],
)
def test_no_id_changes_in_any_modality(suite, models, data, name, modality, items):
    report = run(suite, models=[models[name]], data=data[modality])
    figures = report.models[models[name]]
    assert report.data["items"] == {modality: items}
    assert figures["items"].estimate == items
    tokenizer = zoo.load(models[name])
    sources = {"action": data["action"]}.get(modality) or sorted(
        path for path in data[modality].iterdir() if path.suffix != ".jsonl"
    )
    if modality == "video":  # scaled and cut in the middle; two windows of 2 frames and one more, or what there is
        sources = [read_video(path, size=(16, 16))[0][:, :5] for path in sources]
    read = tokenizer.as_batch(sources, resample=True)
    encoded = tokenizer.encode(*(part for part in read if part is not None))
    assert figures["ids"].estimate == int(encoded.lengths.sum()) * tokenizer.spec.num_codebooks
    assert "share@loaded" not in figures
    for way in ALL:
        if way == "padded" and modality == "image":
            assert figures["share@padded"].reason == "image is not padded"
            continue
        assert figures[f"share@{way}"].estimate == 0, way
        assert figures[f"changed@{way}"].estimate == 0, way


def test_what_changes_is_counted(suite, models, data):
    """Every id of an item changes that is not encoded alone; of five items in pairs the last is."""
    figures = run(suite, models=[models["leaky"]], data=data["speech"]).models[models["leaky"]]
    lengths = {path.stem: soundfile.info(path).frames for path in data["speech"].glob("*.flac")}
    tokens = {stem: -(-frames // 160) for stem, frames in lengths.items()}
    total = sum(tokens.values())
    assert figures["ids"].estimate == total
    for way in ("batch_7", "batch_32", "padded", "shuffled", "threads_2_batch_32", "saved"):
        assert figures[f"changed@{way}"].estimate == total, way
        assert figures[f"share@{way}"].estimate == 1, way
    assert total - figures["changed@batch_2"].estimate in tokens.values()
    assert 0 < figures["share@batch_2"].low < figures["share@batch_2"].estimate < 1
    assert figures["changed@threads_2"].estimate == 0


def test_a_model_that_there_is_not_is_told_before_another_is_measured(suite, models, data):
    steps = []
    with pytest.raises(UnknownNameError, match="beats"):
        run(suite, models=[models["speech"], "beats"], data=data["speech"], progress=lambda *step: steps.append(step))
    assert not steps


def test_threads_are_left_as_they_were(suite, models, data):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        run(suite, models=[models["leaky"]], data=data["speech"])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_modes_are_rows_of_their_own_for_models_that_have_a_fast_mode(suite, models, data, tmp_path):
    folder = str(zoo.save(tiny_stabletoken.make(), tmp_path / "tiny"))
    (tmp_path / "sounds").mkdir()
    soundfile.write(tmp_path / "sounds" / "long.flac", tiny_stabletoken.speech(16000 * 20).numpy(), 16000)
    assert [mode.name for mode in suite.modes] == ["fast float32", "fast bfloat16"]
    report = run(suite, models=[folder], data=tmp_path / "sounds")
    assert list(report.models) == [folder, f"{folder}, fast float32", f"{folder}, fast bfloat16"]
    ids = {row: figures["ids"].estimate for row, figures in report.models.items()}
    assert len(set(ids.values())) == 1
    assert report.settings[f"{folder}, fast bfloat16"]["mode"]["dtype"] == "bfloat16"
    assert "share@loaded" not in report.models[folder]
    assert all(report.models[folder][f"changed@{way}"].estimate == 0 for way in ALL)
    rounded = report.models[f"{folder}, fast bfloat16"]
    assert rounded["changed@loaded"].estimate > 0  # of 500 with eight bits
    assert rounded["share@loaded"].estimate == rounded["changed@loaded"].estimate / ids[folder]
    none = run(suite, models=[models["speech"]], data=data["speech"])
    assert list(none.models) == [models["speech"]]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modes": [{"name": "a", "dtipe": "float16"}]}, "dtipe"),
        ({"modes": [{"name": "a", "dtype": "float99"}]}, "dtype must name one of torch"),
        ({"max_items": 0}, "at least 1"),
        ({"chunking": {"num_clips": 0}}, "num_clips must be at least 1"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path, changes, message):
    values = yaml.safe_load((ROOT / "eval" / "invariance.yaml").read_text()) | changes
    (tmp_path / "s.yaml").write_text(yaml.safe_dump(values))
    with pytest.raises(ConfigError, match=message):
        read_suite(tmp_path / "s.yaml")


def test_data_that_is_not_there_is_said_to_be_so(suite, models, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"make it with `zoo data speech`"):
        run(suite, models=[models["speech"]])
    without = dataclasses.replace(suite, data=dataclasses.replace(suite.data, video=None))
    with pytest.raises(ConfigError, match="names no data for video: point --data"):
        run(without, models=[models["video"]])
    with pytest.raises(InputError, match="holds nothing to encode"):
        run(suite, models=[models["image"]], data=tmp_path)
    with pytest.raises(ConfigError, match="name at least one model"):
        run(suite, models=[])


def test_pictures_are_brought_to_the_size_that_a_model_takes(suite, tmp_path):
    for number in range(3):
        Image.new("RGB", (20 + number, 40), (80 * number, 9, 99)).save(tmp_path / f"{number}.png")
    (tmp_path / "list.jsonl").write_text("{}\n")  # no picture
    zoo.save(make_flextok(), tmp_path / "model")
    exact = dataclasses.replace(suite, modes=())
    figures = run(exact, models=[str(tmp_path / "model")], data=tmp_path).models[str(tmp_path / "model")]
    assert (figures["items"].estimate, figures["ids"].estimate) == (3, 3 * 8)
    assert figures["share@shuffled"].estimate == 0


def test_long_speech_cut_otherwise(suite, models, tmp_path):
    """Of 1600 positions modulo 7, chunks of 200 start anew alike at 0 and 1400, chunks of 500 and 1000 at 0 alone."""
    wave = 0.1 * torch.randn(8 * 16000, generator=torch.Generator().manual_seed(0))
    lines = []
    for name, source in (("a", "field"), ("b", "field"), ("c", "espeak")):
        soundfile.write(tmp_path / f"{name}.flac", wave.numpy(), 16000)
        speaker = "robot" if source == "espeak" else "person"
        lines.append({"audio_filepath": f"{name}.flac", "duration": 8.0, "speaker": speaker, "source": source})
    (tmp_path / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    cut = dataclasses.replace(suite, chunking=Chunking(seconds=8.5, without=("espeak",)))
    report = run(cut, models=[models["placed"], models["speech"]], data=tmp_path)
    figures = report.models[models["placed"]]
    shares = {key.removeprefix("cut@"): figure.estimate for key, figure in figures.items() if key.startswith("cut@")}
    assert set(shares) == {name for name in CUTS if not name.startswith("overlap")}
    assert shares.pop("later") == 1
    assert shares == {name: {"2": 0.75, "5": 0.6875, "10": 0.375}[name.split("_")[1]] for name in shares}
    assert not any(key.startswith("cut@") for key in report.models[models["speech"]]), "it gives no chunks"
    short = dataclasses.replace(suite, chunking=Chunking(seconds=99.0))
    figures = run(short, models=[models["placed"]], data=tmp_path).models[models["placed"]]
    assert figures["cut@later"].reason == "no speaker of the manifest has 99 s"


def test_the_command_writes_what_the_table_shows(models, data, tmp_path, capsys):
    command = ["eval", "invariance", "--models", models["image"], "--data", str(data["image"])]
    assert main([*command, "--out", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr()
    assert "batches of 32" in shown.out
    assert "not what the published figures are of" in shown.err
    report = read_report(tmp_path / "r.json")
    assert "| share of ids changed: shuffled | 0.00% (0.00% … 0.00%) |" in card_section(report)
    write_report(report, tmp_path / "again.json")
    assert (tmp_path / "again.json").read_text() == (tmp_path / "r.json").read_text()


def test_data_of_one_modality_may_be_the_reference_alone(suite, models, data):
    report = run(suite, models=["binning"], data=data["action"])
    assert report.data["is_reference"] is False
    known = dataclasses.replace(suite.data.action, sha256=report.data["digests"]["action"])
    known = dataclasses.replace(suite, data=dataclasses.replace(suite.data, action=known))
    assert run(known, models=["binning"], data=data["action"]).data["is_reference"] is True
