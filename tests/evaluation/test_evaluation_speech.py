"""The speech suite on a tiny corpus: UED as counted by hand, the same whatever is measured beside it, the command."""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch
import toy
import yaml

import zoo
from zoo.cli import main
from zoo.components.quantizers import VotingLFQConfig
from zoo.data.manifest import Utterance, read_manifest
from zoo.data.perturbations.noise import EVALUATION_VALUES, BitCrush
from zoo.errors import ConfigError, InputError
from zoo.evaluation import card_section, read_report, read_suite, run, table, write_report
from zoo.evaluation.adversarial import Adversarial
from zoo.evaluation.report import Figure
from zoo.evaluation.suites.noise import _Views
from zoo.evaluation.utterances import choose
from zoo.families.stabletoken import StableTokenConfig, StableTokenTokenizer
from zoo.metrics.tokens.edits import unit_edit_distance
from zoo.tokens import Tokens

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "eval" / "noise.yaml"
NOISES = ("gaussian", "pink", "brown", "bit_crush", "real", "real_ood")


class Deaf(toy.ToySpeech):
    """A tokenizer that hears nothing: its ids are the positions."""

    family = "deaf"

    def encode(self, x, lengths=None):
        tokens = super().encode(x, lengths)
        ids = torch.arange(tokens.ids.shape[1]).expand_as(tokens.ids) % 7
        return Tokens(ids, tokens.lengths, tokens.codebook_size, self.name, signal_lengths=tokens.signal_lengths)


class Twin(toy.ToySpeech):
    """The toy's ids in each of two codebooks."""

    family = "twin"

    def __init__(self, config):
        super().__init__(config)
        self.spec = dataclasses.replace(self.spec, num_codebooks=2)

    def encode(self, x, lengths=None):
        tokens = super().encode(x, lengths)
        return dataclasses.replace(tokens, ids=tokens.ids[..., None].expand(-1, -1, 2))


def write_wave(path, seconds, seed):
    rng = np.random.default_rng(seed)
    t = np.arange(int(seconds * 16000)) / 16000
    wave = 0.3 * np.sin(2 * np.pi * rng.uniform(100, 300) * t) * np.sin(9 * t) ** 2 + 0.001 * rng.standard_normal(
        len(t)
    )
    soundfile.write(path, wave, 16000, subtype="PCM_16")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("corpus")
    lines = []
    for number in range(9):
        seconds = 0.3 + 0.05 * number
        write_wave(folder / f"{number}.flac", seconds, number)
        lines.append(
            {
                "audio_filepath": f"{number}.flac",
                "duration": seconds,
                "text": "a",
                "lang": "en" if number < 6 else "zh",
                "speaker": "s",
                "source": ("big", "small", "zh")[(number > 3) + (number > 5)],
            }
        )
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    for name in ("noise-test", "noise-ood"):
        clips = []
        for number, seconds in enumerate((0.1, 2.0)):
            write_wave(folder / f"{name}-{number}.flac", seconds, len(name) + 100 * number)
            clips.append({"audio_filepath": f"{name}-{number}.flac", "duration": seconds})
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(clip) + "\n" for clip in clips))
    return folder


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folders of a tiny StableToken, of toys at two rates and with two codebooks, and of one that hears nothing."""
    folder = tmp_path_factory.mktemp("models")
    torch.manual_seed(0)
    config = StableTokenConfig(
        d_model=32,
        num_heads=2,
        ffn_size=64,
        num_layers=2,
        num_layers_after=1,
        num_mel=16,
        max_positions=100,
        pooling_position=2,
        quantizer=VotingLFQConfig(dim=32, num_bits=6),
    )
    tokenizers = {
        "stabletoken": StableTokenTokenizer(config).eval(),
        "toy": toy.make("speech", codebook_size=64, hop=160),
        "slow": toy.make("speech", codebook_size=64, hop=80, sample_rate=8000),
        "twin": Twin(toy.SpeechConfig(codebook_size=64, hop=160)).eval(),
        "deaf": Deaf(toy.SpeechConfig(codebook_size=64, hop=160)).eval(),
        "image": toy.make("image"),
    }
    for name, tokenizer in tokenizers.items():
        zoo.save(tokenizer, folder / name)
    with toy.registered(*toy.CLASSES.values(), Deaf, Twin):
        yield {name: str(folder / name) for name in tokenizers}


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(SUITE)
    return dataclasses.replace(whole, bootstrap=dataclasses.replace(whole.bootstrap, num_resamples=100))


@pytest.fixture(scope="module")
def report(suite, corpus, models):
    return run(suite, models=[models["stabletoken"], models["toy"]], data=corpus)


def test_the_shipped_suite_has_the_papers_levels():
    assert dataclasses.asdict(read_suite(SUITE).noises) == EVALUATION_VALUES


@pytest.mark.parametrize("average", ["utterances", "languages"])
@pytest.mark.parametrize("name", ["stabletoken", "toy"])
def test_ued_is_that_of_single_utterances_by_hand(suite, corpus, models, name, average):
    """Bit crush draws nothing at random, so that it can be done again without the suite's seeds."""
    report = run(dataclasses.replace(suite, average=average), models=[models[name]], data=corpus)
    tokenizer = zoo.load(models[name])
    noisy, clean, languages = [], [], []
    for line in map(json.loads, (corpus / "test.jsonl").read_text().splitlines()):
        wave = torch.from_numpy(soundfile.read(corpus / line["audio_filepath"], dtype="float32")[0])
        clean.append(tokenizer.encode(wave).ids[0])
        noisy.append(tokenizer.encode(BitCrush(10)(wave)).ids[0])
        languages.append(line["lang"])
    figures = report.models[models[name]]
    rates = {"utterances": unit_edit_distance(noisy, clean), "languages": unit_edit_distance(noisy, clean, languages)}
    assert rates["utterances"] != rates["languages"]
    assert figures["ued_bit_crush"].estimate == pytest.approx(rates[average].item())
    assert ("mean of 2 languages" in report.protocol) == (average == "languages")
    count, ids = sum(map(len, clean)), torch.cat(clean)
    assert figures["tokens"].estimate == count
    assert figures["tokens_per_second"].estimate == pytest.approx(count / report.data["seconds"], rel=1e-3)
    assert figures["bits_per_second"].estimate == pytest.approx(6 * count / report.data["seconds"], rel=1e-3)
    share = torch.bincount(ids).double() / count
    assert figures["usage"].estimate == (share > 0).sum().item() / 64
    assert figures["perplexity"].estimate == pytest.approx(2 ** -(share * share.clamp(min=1e-12).log2()).sum().item())


def test_the_mean_is_that_of_the_six_and_intervals_hold_the_estimates(report, models):
    figures = report.models[models["toy"]]
    assert figures["ued_mean"].estimate == pytest.approx(np.mean([figures[f"ued_{n}"].estimate for n in NOISES]))
    for name in (*NOISES, "mean"):
        found = figures[f"ued_{name}"]
        assert found.low < found.estimate < found.high
    assert figures["ued_real"] != figures["ued_real_ood"]
    difference = figures["ued_difference"]
    first = report.models[models["stabletoken"]]
    assert "ued_difference" not in first
    assert difference.estimate == pytest.approx(figures["ued_mean"].estimate - first["ued_mean"].estimate)
    assert difference.low < difference.estimate < difference.high


def test_noise_made_for_a_model_is_beside_the_mean(suite, corpus, models):
    wanted = dataclasses.replace(suite, adversarial=Adversarial((40.0,), 3), max_items=3)
    names = [models["stabletoken"], models["toy"]]
    report, plain = (
        run(each, models=names, data=corpus) for each in (wanted, dataclasses.replace(wanted, adversarial=None))
    )
    tiny, deaf = (report.models[name] for name in names)
    assert tiny["ued_adversarial 40"].estimate > 0
    assert deaf["ued_adversarial 40"].reason == "it gives no gradients"
    for name in names:
        assert {key: figure for key, figure in report.models[name].items() if "adversarial" not in key} == (
            plain.models[name]
        )
    assert report.data["disturbed_sha256"] == plain.data["disturbed_sha256"]
    assert "| UED %, adversarial noise at 40 dB |" in card_section(report)
    assert "3 steps of gradient ascent" in report.protocol


def test_a_second_run_and_other_models_beside_change_nothing(report, suite, corpus, models):
    assert run(suite, models=[models["stabletoken"], models["toy"]], data=corpus) == report
    beside = run(suite, models=[models["deaf"], models["toy"], models["stabletoken"]], data=corpus)
    for name in (models["stabletoken"], models["toy"]):
        alone = {key: figure for key, figure in report.models[name].items() if key != "ued_difference"}
        assert {key: beside.models[name][key] for key in alone} == alone
    assert beside.data == report.data


def test_neither_the_order_of_utterances_nor_their_folder_matters(report, suite, corpus, models, tmp_path):
    moved = tmp_path / "elsewhere"
    shutil.copytree(corpus, moved)
    lines = (moved / "test.jsonl").read_text().splitlines(keepends=True)
    (moved / "test.jsonl").write_text("".join(reversed(lines)))
    assert run(suite, models=[models["stabletoken"], models["toy"]], data=moved) == report


def test_the_noise_of_an_utterance_is_its_own(suite, corpus):
    utterances = read_manifest(corpus / "test.jsonl")
    views = _Views(suite, corpus)
    among = [views.of(utterance) for utterance in utterances]
    alone = _Views(suite, corpus).of(utterances[-1])
    torch.testing.assert_close(alone, among[-1], rtol=0, atol=0)
    other = _Views(dataclasses.replace(suite, seed=1), corpus).of(utterances[-1])
    same = {name: torch.equal(a, b) for name, a, b in zip(("clean", *NOISES), alone, other, strict=True)}
    assert same == {name: name in ("clean", "bit_crush") for name in same}
    white = [wave[1] - wave[0] for wave in among]
    assert abs(torch.corrcoef(torch.stack([noise[:4800] for noise in white[:2]]))[0, 1]) < 0.1


def test_one_utterance_has_no_interval(suite, corpus, models):
    report = run(dataclasses.replace(suite, max_items=1), models=[models["toy"]], data=corpus)
    assert report.data["utterances"] == 1
    assert report.models[models["toy"]]["ued_mean"].low is None


def test_ids_that_never_change_have_no_distance(suite, corpus, models):
    figures = run(suite, models=[models["deaf"]], data=corpus).models[models["deaf"]]
    for name in (*NOISES, "mean"):
        assert figures[f"ued_{name}"] == Figure(0, 0, 0)
    assert figures["usage"].estimate == 7 / 64


def test_a_model_does_not_differ_from_itself(suite, corpus, models, tmp_path):
    copy = str(shutil.copytree(models["toy"], tmp_path / "copy"))
    figures = run(suite, models=[models["toy"], copy], data=corpus).models[copy]
    assert figures["ued_difference"] == Figure(0, 0, 0)


def test_codebooks_and_rates_of_any_number(report, suite, corpus, models):
    found = run(suite, models=[models["twin"], models["slow"]], data=corpus).models
    twin, one = found[models["twin"]], report.models[models["toy"]]
    for name in NOISES:
        assert twin[f"ued_{name}"].estimate == pytest.approx(one[f"ued_{name}"].estimate)
    assert twin["perplexity"] == one["perplexity"]
    assert twin["bits_per_second"].estimate == 2 * one["bits_per_second"].estimate
    assert found[models["slow"]]["tokens_per_second"].estimate == pytest.approx(one["tokens_per_second"].estimate)
    assert found[models["slow"]]["ued_gaussian"].estimate > 0


def test_the_choice_is_balanced_over_sources():
    sizes = {"a": 50, "b": 3, "c": 20}
    items = [Utterance(Path(f"/d/{s}{n}.flac"), 1.0, source=s) for s, count in sizes.items() for n in range(count)]
    counts = {}
    for most in (1, 3, 9, 20, 73, None):
        chosen = choose(items, Path("/d"), most)
        assert chosen == choose(items[::-1], Path("/d"), most)
        counts[most] = tuple(sum(item.source == source for item in chosen) for source in "abc")
    assert counts == {1: (1, 0, 0), 3: (1, 1, 1), 9: (3, 3, 3), 20: (9, 3, 8), 73: (50, 3, 20), None: (50, 3, 20)}
    assert set(choose(items, Path("/d"), 9)) < set(choose(items, Path("/d"), 20))


def test_loud_views_are_clamped_and_counted(suite, corpus, models, tmp_path):
    folder = Path(shutil.copytree(corpus, tmp_path / "loud"))
    wave = np.sign(np.sin(np.arange(8000)))
    soundfile.write(folder / "0.flac", wave * 0.99, 16000)
    noises = dict.fromkeys(NOISES, 60.0) | {"gaussian": 0.0, "bit_crush": 16.0}
    suite = dataclasses.replace(suite, noises=type(suite.noises)(**noises))
    report = run(suite, models=[models["toy"]], data=folder)
    assert report.data["clamped"] == 1


def test_what_cannot_be_measured_is_refused(suite, corpus, models, tmp_path, monkeypatch):
    with pytest.raises(InputError, match="tokenizes image, this suite is for speech"):
        run(suite, models=[models["image"]], data=corpus)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"test.jsonl does not exist: make the folder with `zoo data speech"):
        run(suite)
    folder = Path(shutil.copytree(corpus, tmp_path / "rates"))
    soundfile.write(folder / "0.flac", np.zeros(8000), 8000)
    with pytest.raises(InputError, match="must be mono at 16000 Hz"):
        run(suite, models=[models["deaf"]], data=folder)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"max_items": 0}, "max_items must be at least 1"), ({"noises": {"pink": 1}}, "lacks the keys 'gaussian'")],
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
    section = card_section(report)
    figure = report.models[models["toy"]]["ued_pink"]
    assert f"{figure.estimate:.2f} ({figure.low:.2f} … {figure.high:.2f})" in section
    assert "MSE" not in section
    console = Console(width=300, file=io.StringIO())
    console.print(table(report))
    assert "the same less the first model's" in console.file.getvalue()
    with pytest.raises(ConfigError, match="no kind of suite 'taste'"):
        card_section(dataclasses.replace(report, suite="taste"))


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("is_terminal", [True, False])
def test_the_command(corpus, models, tmp_path, capsys, monkeypatch, is_terminal):
    settings = yaml.safe_load(SUITE.read_text()) | {"bootstrap": {"num_resamples": 20}, "max_items": 4}
    path = tmp_path / "noise.yaml"
    path.write_text(yaml.safe_dump(settings))
    errors = Terminal() if is_terminal else io.StringIO()
    monkeypatch.setattr(sys, "stderr", errors)
    command = ["eval", str(path), "--data", str(corpus), "--models", models["stabletoken"], models["deaf"]]
    assert main([*command, "--out", str(tmp_path / "r.json")]) == 0
    shown = capsys.readouterr().out
    for text in ("UED %, pink noise", "codebook used, clean", "tokens/s", "0.00"):
        assert text in shown
    assert ("resampling utterances" in errors.getvalue()) == is_terminal
    assert "not what the published figures are of" in errors.getvalue()
    assert main([*command, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads((tmp_path / "r.json").read_text())
