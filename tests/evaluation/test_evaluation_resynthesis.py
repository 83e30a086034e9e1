"""The resynthesis suite on a few synthesised waves: figures by hand, what cannot be measured, the command."""

from __future__ import annotations

import dataclasses
import io
import json
import math
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import toy
import yaml
from speech_corpus import write_whisper
from tiny_stabletoken import TINY_DECODER, make, make_decoder, speech

import zoo
from zoo.cli import main
from zoo.components.audio.mel import griffin_lim
from zoo.data.media import read_audio
from zoo.errors import ConfigError, InputError, TokenError
from zoo.evaluation import card_section, read_report, read_suite, run, table, write_report
from zoo.evaluation.suites.resynthesis.config import Clips, Recognizer
from zoo.evaluation.suites.resynthesis.systems import Function, systems
from zoo.metrics.speech.resynthesis import log_mel_distance
from zoo.metrics.speech.speech_quality import stoi
from zoo.metrics.speech.transcription import Transcriber
from zoo.metrics.tokens.edits import character_error_rate, word_error_rate

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "eval" / "resynthesis.yaml"
RATE = 16000
GRIFFIN_LIM = "zoo.components.audio.mel:griffin_lim"
# Those that are installed wherever the tests run.
LIGHT = ("wer", "mel_distance", "cepstral_distortion", "stoi")


class Half(toy.ToySpeech):
    """Decodes to half the amplitude and half the length; its vocoder gives back what it gets."""

    family = "half"
    has_vocoder = True

    def decode(self, tokens, lengths=None):
        return super().decode(tokens, lengths) / 2

    def output_lengths(self, tokens):
        return super().output_lengths(tokens) // 2

    def vocode(self, wave):
        return wave + 0.001


def halve(wave, sample_rate):
    return wave / 2


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for number in range(9):
        wave = speech(int(RATE * (0.8 + 0.1 * number)), number).clamp(-1, 1)
        soundfile.write(folder / f"{number}.flac", wave.numpy(), RATE)
        lines.append(
            {
                "audio_filepath": f"{number}.flac",
                "duration": len(wave) / RATE,
                "text": "" if number == 7 else f"One red cat, number {number}.",
                "lang": "de" if number == 8 else "en",
                "speaker": f"s{number}",
                "source": "flite" if number < 4 else "kokoro",
            }
        )
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    speaking = make(decoder=TINY_DECODER)
    speaking.decoder.load_state_dict(make_decoder().state_dict())
    tokenizers = {
        "speaking": speaking,
        "mute": make(),
        "toy": toy.make("speech", codebook_size=64, hop=4),
        "slow": toy.make("speech", codebook_size=64, hop=4, sample_rate=8000),
        "half": Half(toy.SpeechConfig(codebook_size=256, hop=1)).eval(),
        "image": toy.make("image"),
    }
    for name, tokenizer in tokenizers.items():
        zoo.save(tokenizer, folder / name)
    with toy.registered(*toy.CLASSES.values(), Half):
        yield {name: str(folder / name) for name in tokenizers}


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whisper")
    write_whisper(folder)
    return folder


@pytest.fixture(scope="module")
def suite(whisper):
    whole = read_suite(SUITE)
    return dataclasses.replace(
        whole,
        heard=Clips(("flite",)),
        unheard=Clips(("kokoro",)),
        measures=LIGHT,
        recognizer=Recognizer(str(whisper), "making it"),
        bootstrap=dataclasses.replace(whole.bootstrap, num_resamples=50),
    )


@pytest.fixture(scope="module")
def report(suite, corpus, models):
    return run(suite, models=[models["toy"], models["half"]], data=corpus)


def waves(corpus, numbers):
    return [read_audio(corpus / f"{number}.flac")[0][0] for number in numbers]


def test_the_recording_is_the_best_there_is(report):
    figures = report.models["recording"]
    assert next(iter(report.models)) == "recording"
    for before in ("", "unheard_"):
        assert figures[f"{before}mel_distance"].estimate == 0
        assert figures[f"{before}cepstral_distortion"].estimate == 0
        assert figures[f"{before}stoi"].estimate == pytest.approx(1, abs=1e-6)
        assert f"{before}real_time_factor" not in figures
    assert report.data["heard"] == {"clips": 4, "seconds": pytest.approx(3.8), "sources": {"flite": 4}}
    # Of five there is one without transcript and one in another language.
    assert report.data["unheard"]["clips"] == 3


def test_figures_are_those_of_single_clips_by_hand(report, corpus, models, whisper):
    tokenizer = zoo.load(models["toy"])
    read = Transcriber(whisper)
    for before, numbers in (("", range(4)), ("unheard_", range(4, 7))):
        recordings = waves(corpus, numbers)
        decoded = [tokenizer.decode(tokenizer.encode(wave))[0] for wave in recordings]
        pairs = list(zip(decoded, recordings, strict=True))
        texts, heard = [f"one red cat number {n}" for n in numbers], [read(wave, RATE) for wave in decoded]
        figures = {
            "mel_distance": np.mean([log_mel_distance(*pair, RATE) for pair in pairs]),
            "stoi": np.mean([stoi(*pair, RATE) for pair in pairs]),
            "wer": word_error_rate(heard, texts).item(),
            "cer": character_error_rate(heard, texts).item(),
        }
        for name, value in figures.items():
            found = report.models[models["toy"]][before + name]
            assert found.estimate == pytest.approx(value, rel=1e-5)
            assert found.low <= found.estimate <= found.high
    assert report.models[models["toy"]]["mel_distance"].estimate > 1
    assert report.models[models["toy"]]["real_time_factor"].estimate > 0


def test_what_is_missing_at_the_end_is_silence_and_the_vocoder_is_measured_alone(report, corpus, models):
    names = list(report.models)
    assert names[2:] == [f"{models['half']}: vocoder alone", models["half"]]
    recordings = waves(corpus, range(4))
    halved = [torch.cat([wave[: len(wave) // 2] / 2, torch.zeros(len(wave) - len(wave) // 2)]) for wave in recordings]
    by_hand = np.mean([log_mel_distance(*pair, RATE) for pair in zip(halved, recordings, strict=True)])
    assert report.models[models["half"]]["mel_distance"].estimate == pytest.approx(by_hand, rel=0.05)
    alone = np.mean([log_mel_distance((wave + 0.001).clamp(-1, 1), wave, RATE) for wave in recordings])
    vocoder = report.models[names[2]]
    assert vocoder["mel_distance"].estimate == pytest.approx(alone, rel=1e-4)
    assert vocoder["real_time_factor"].estimate > 0
    assert report.settings[names[2]] == report.settings[models["half"]]


def same(a, b):
    """Whether two reports are equal but for the time that things took."""
    models = [
        {
            name: {key: f for key, f in figures.items() if "real_time" not in key}
            for name, figures in report.models.items()
        }
        for report in (a, b)
    ]
    return models[0] == models[1] and dataclasses.replace(a, models={}) == dataclasses.replace(b, models={})


def test_a_second_run_elsewhere_gives_the_same(report, suite, corpus, models, tmp_path):
    for name in ("test.jsonl", *(f"{number}.flac" for number in range(9))):
        (tmp_path / name).write_bytes((corpus / name).read_bytes())
    lines = (tmp_path / "test.jsonl").read_text().splitlines(keepends=True)
    (tmp_path / "test.jsonl").write_text("".join(reversed(lines)))
    assert same(run(suite, models=[models["toy"], models["half"]], data=tmp_path), report)


def test_a_decoder_of_stabletoken(suite, corpus, models):
    heard = dataclasses.replace(suite, unheard=None, measures=("mel_distance", "stoi"))
    report = run(heard, models=[models["speaking"]], data=corpus)
    figures = report.models[models["speaking"]]
    assert figures["mel_distance"].estimate > 3  # its weights are random
    assert figures["stoi"].estimate < 0.6
    assert figures["real_time_factor"].low > 0
    assert not any(key.startswith("unheard") for key in figures)
    assert report.data["unheard"]["clips"] == 0
    with pytest.raises(TokenError, match="has no waveform decoder"):
        run(suite, models=[models["mute"]], data=corpus)


def test_any_function_and_another_rate(suite, corpus, models):
    name = f"{__name__}:halve"
    report = run(dataclasses.replace(suite, measures=("mel_distance",)), models=[name, models["slow"]], data=corpus)
    assert 4 < report.models[name]["mel_distance"].estimate < 6.03
    assert report.settings[name] == {"function": name}
    assert 1 < report.models[models["slow"]]["mel_distance"].estimate < 40


def test_griffin_lim_is_like_the_recording(corpus):
    for recording in (*waves(corpus, [0, 3]), torch.ones(10)):
        made = griffin_lim(recording, RATE)
        assert made.shape == recording.shape
    wave = waves(corpus, [5])[0]
    made = griffin_lim(wave, RATE)
    torch.testing.assert_close(made, griffin_lim(wave, RATE), rtol=0, atol=0)
    noise = wave.square().mean().sqrt() * torch.randn(len(wave), generator=torch.Generator().manual_seed(0))
    assert log_mel_distance(made, wave, RATE) < 0.4 * log_mel_distance(noise, wave, RATE)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("no_such_module:f", "cannot be imported"),
        ("math:no_such_function", "cannot be imported"),
        ("math:pi", "not a function but float"),
    ],
)
def test_functions_that_are_none(name, message):
    with pytest.raises(InputError, match=message):
        list(systems(name))


@pytest.mark.parametrize("made", [torch.zeros(1, 9), torch.full((9,), math.nan)])
def test_functions_that_make_no_wave(made):
    with pytest.raises(InputError, match="f must make a wave of finite samples"):
        Function("f", lambda wave, rate: made)(torch.zeros(9), RATE)


def test_loud_waves_are_clamped_and_long_ones_cut():
    wave = Function("f", lambda wave, rate: torch.full((20,), 3.0))(torch.zeros(9), RATE)
    torch.testing.assert_close(wave, torch.ones(9))


def test_what_cannot_be_measured_is_null_with_the_reason(suite, corpus, monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pesq", None)
    lacking = dataclasses.replace(
        suite, measures=("stoi", "pesq", "wer"), recognizer=Recognizer(str(tmp_path / "none"), "a command")
    )
    report = run(lacking, models=[f"{__name__}:halve"], data=corpus)
    for name in ("pesq", "wer", "cer", "unheard_pesq"):
        figure = report.models["recording"][name]
        assert math.isnan(figure.estimate)
        assert figure.reason
    assert "Make it with `a command`" in report.models["recording"]["wer"].reason
    assert "pip install pesq" in report.protocol
    assert report.data["not_measured"].keys() == {"pesq", "wer"}
    write_report(report, tmp_path / "r.json")
    plain = json.loads((tmp_path / "r.json").read_text())["models"]["recording"]
    assert plain["pesq"]["value"] is None
    assert "NaN" not in (tmp_path / "r.json").read_text()
    section = card_section(report)
    assert "| PESQ, wide band | – | – |" in section
    assert "Not measured: pesq" in section


def test_a_measure_that_is_defined_for_no_clip(suite, corpus, tmp_path):
    line = json.loads((corpus / "test.jsonl").read_text().splitlines()[0])
    (tmp_path / "test.jsonl").write_text(json.dumps(line | {"duration": 0.25}))
    # A quarter of a second is too short for STOI.
    soundfile.write(tmp_path / line["audio_filepath"], waves(corpus, [0])[0][:4000].numpy(), RATE)
    report = run(dataclasses.replace(suite, unheard=None, measures=("stoi",)), models=[], data=tmp_path)
    assert "not defined for any of the 1 clips" in report.models["recording"]["stoi"].reason


def test_what_does_not_fit_is_refused(suite, corpus, models, monkeypatch, tmp_path):
    with pytest.raises(InputError, match="tokenizes image, this suite is for speech"):
        run(suite, models=[models["image"]], data=corpus)
    with pytest.raises(InputError, match="no transcribed clip in 'en' for the group 'unheard', of fillets"):
        run(dataclasses.replace(suite, unheard=Clips(("fillets",))), models=[], data=corpus)
    with pytest.raises(InputError, match="no transcribed clip"):
        run(dataclasses.replace(suite, heard=Clips(("flite",), speakers=("nobody",))), models=[], data=corpus)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"test.jsonl does not exist: make the folder with `zoo data"):
        run(suite)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"heard": {"sources": ["flite"], "max_items": 0}}, "max_items must be at least 1"),
        ({"measures": ["taste"]}, "must be one of 'mel_distance'"),
        ({"voices": 1}, "unknown key 'voices'"),
    ],
)
def test_a_bad_suite_is_refused(tmp_path, change, message):
    path = tmp_path / "s.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(SUITE.read_text()) | change))
    with pytest.raises(ConfigError, match=message):
        read_suite(path)


def test_a_report_survives_its_file_and_is_shown(report, models, tmp_path):
    from rich.console import Console

    write_report(report, tmp_path / "r.json")
    assert read_report(tmp_path / "r.json") == report
    assert len(report.examples["text"]) == len(report.examples["recording"]) == 5
    figure = report.models[models["toy"]]["unheard_wer"]
    section = card_section(report)
    assert f"{figure.estimate:.1f} ({figure.low:.1f} … {figure.high:.1f})" in section
    console = Console(width=300, file=io.StringIO())
    console.print(table(report))
    for text in ("recording", "vocoder alone", "word errors %; voices never trained on", "real-time factor"):
        assert text in console.file.getvalue()


def test_the_command(corpus, whisper, tmp_path, capsys):
    settings = yaml.safe_load(SUITE.read_text()) | {
        "bootstrap": {"num_resamples": 20},
        "heard": {"sources": ["flite"], "max_items": 2},
        "unheard": {"sources": ["kokoro"], "max_items": 1, "speakers": ["s5", "s6"]},
        "measures": ["wer", "stoi"],
        "recognizer": {"folder": str(whisper), "made_by": "x"},
    }
    path = tmp_path / "resynthesis.yaml"
    path.write_text(yaml.safe_dump(settings))
    command = ["eval", str(path), "--data", str(corpus), "--models", GRIFFIN_LIM]
    assert main([*command, "--out", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr()
    for text in ("recording", "griffin", "word errors %", "STOI", "real-time factor"):
        assert text in shown.out
    assert "not what the published figures are of" in shown.err
    values = json.loads((tmp_path / "r.json").read_text())
    assert values["data"]["unheard"]["clips"] == 1
    assert values["models"][GRIFFIN_LIM]["stoi"][0] > 0.6
