"""The STAB-style suite from end to end, on tokenizers of which is known what it must find."""

from __future__ import annotations

import dataclasses
import json
import math
import shutil
from pathlib import Path

import pytest
import soundfile
import stab_corpus
import tiny_stabletoken
import torch
import toy

import zoo
from zoo.data.perturbations.room import GRID
from zoo.errors import ConfigError, InputError, TokenError
from zoo.evaluation import Report, as_json, read_report, read_suite, run, write_report
from zoo.evaluation.adversarial import Adversarial
from zoo.evaluation.subject import read_subject
from zoo.evaluation.suites.stab.adversarial import attack
from zoo.evaluation.suites.stab.config import KINDS, Place, StabFiles, Strengths
from zoo.evaluation.suites.stab.corpus import Disturber, read_corpus
from zoo.metrics.tokens.robustness import robustness

ROOT = Path(__file__).parents[2]
SUITE = ROOT / "eval" / "stab.yaml"
MODELS = ("constant", "random", "oracle", "relabelled", "local", "local_pairs", "two", "large", "huge", "learner")
STRENGTHS = Strengths(
    pitch=(-1, 1),
    speed=(1.25,),
    tempo=(0.8,),
    gaussian=(0, 10),
    pink=(10,),
    real=(10,),
    babble=(10,),
    reverb=(0.3,),
    bit_crush=(8,),
    band=(3400,),
    opus=(24000,),
)


def given(*names):
    return [f"stab_corpus:{name}" for name in names]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    folder = tmp_path_factory.mktemp("stab")
    stab_corpus.write_stab(folder)
    return folder


@pytest.fixture(scope="module")
def suite():
    whole = read_suite(SUITE)
    bootstrap = dataclasses.replace(whole.bootstrap, num_resamples=12)
    place = Place(silence=(0.013, 0.04, 1), noise=(0.04,), cut=(0.013, 0.04), max_seconds=1.5)
    return dataclasses.replace(
        whole,
        place=place,
        adversarial=None,
        strengths=STRENGTHS,
        contexts=(0, 0.25),
        num_tokens=100,
        num_merges=64,
        bootstrap=bootstrap,
    )


@pytest.fixture(scope="module")
def report(suite, corpus):
    return run(suite, models=given(*MODELS), data=corpus)


@pytest.fixture(scope="module")
def sheets(report):
    return {name.removeprefix("stab_corpus:"): figures for name, figures in report.models.items()}


def value(sheets, name, key):
    found = sheets[name][key]
    assert not found.reason, f"{key} of {name}: {found.reason}"
    return found.estimate


def test_the_shipped_suite_has_the_specs_grid():
    suite = read_suite(SUITE)
    shipped = {kind: tuple(sorted(getattr(suite.strengths, kind))) for kind in KINDS if kind != "opus"}
    assert shipped == {kind: tuple(sorted(values)) for kind, values in GRID.items()}
    assert suite.strengths.opus == (24000,)
    assert suite.bootstrap.num_resamples == 1000
    assert suite.bootstrap.confidence == 0.95


def test_constant_tokens_are_robust_and_free_and_nothing_can_be_told_of_invariance(sheets):
    for key in ("speaker_index", "context_index", "language_bag_index"):
        assert sheets["constant"][key].reason.startswith("unrelated recordings have equal tokens")
        assert math.isnan(sheets["constant"][key].estimate)
    assert value(sheets, "constant", "speaker_similarity") == value(sheets, "constant", "speaker_floor") == 1
    assert value(sheets, "constant", "robustness") == 1
    assert value(sheets, "constant", "huffman_bits_per_second") == 0
    assert value(sheets, "constant", "bpe_ratio") > 10
    assert value(sheets, "constant", "vocabulary_coverage") == 1 / 64
    assert value(sheets, "constant", "vocabulary_entropy") == 0


def test_speed_changes_the_number_of_constant_tokens_and_nothing_else(sheets):
    assert value(sheets, "constant", "ned@speed 1.25") == pytest.approx(0.2, abs=0.01)
    assert value(sheets, "constant", "ned_collapsed@speed 1.25") == 0
    assert value(sheets, "constant", "excess@speed 1.25") == pytest.approx(0)


def test_random_tokens_are_neither_invariant_nor_robust_nor_compressible(sheets):
    assert abs(value(sheets, "random", "speaker_index")) < 0.05
    assert abs(value(sheets, "random", "context_index")) < 0.05
    assert abs(value(sheets, "random", "language_bag_index")) < 0.05
    assert value(sheets, "random", "robustness") < 0.05
    assert value(sheets, "random", "huffman_bits_per_second") == pytest.approx(50 * 10, rel=0.08)
    assert value(sheets, "random", "bpe_ratio") < 1.1
    count = value(sheets, "random", "test_tokens")
    assert value(sheets, "random", "vocabulary_coverage") == pytest.approx(1 - (1 - 1 / 1024) ** count, abs=0.03)


def test_an_oracle_of_content_is_invariant_and_robust(sheets):
    for key in ("speaker_index", "language_bag_index", "language_top1", "language_distribution", "robustness"):
        assert value(sheets, "oracle", key) == pytest.approx(1)
    for name in ("pitch", "speed", "noise", "extensions"):
        assert value(sheets, "oracle", f"robustness_{name}") == 1
    assert value(sheets, "oracle", "huffman_bits_per_second") < 250
    assert value(sheets, "oracle", "bpe_ratio") > 1
    assert sheets["oracle"]["context_index"].reason == "the tokens are on no grid of samples"


def test_relabelling_each_speaker_loses_what_speakers_share_and_no_more(sheets):
    assert value(sheets, "relabelled", "speaker_similarity") == 0
    assert value(sheets, "relabelled", "speaker_index") == 0
    assert value(sheets, "relabelled", "robustness") == 1
    assert value(sheets, "relabelled", "language_top1") == pytest.approx(0.2)  # chance, of five sentences
    assert value(sheets, "relabelled", "language_distribution") == 0
    assert value(sheets, "relabelled", "bpe_ratio") > 1
    assert value(sheets, "relabelled", "vocabulary_num_used") > value(sheets, "oracle", "vocabulary_num_used")


def test_tokens_of_a_hop_alone_do_not_hear_the_context(sheets):
    for name in ("local", "local_pairs"):
        for mode in ("context", "context_past", "context_future", "context_crop"):
            assert value(sheets, name, f"{mode}_0") == value(sheets, name, f"{mode}_0.25") == 1
        assert value(sheets, name, "context_index") == 1
        assert value(sheets, name, "context_effective") == 0
    assert value(sheets, "local", "context_floor") < 1


def test_several_codebooks_are_measured_as_their_first_and_as_tuples(sheets):
    for books in ("two", "large", "huge"):
        assert value(sheets, f"{books}, stream 1", "speaker_index") == 1
        assert value(sheets, f"{books}, tuples of 2", "speaker_similarity") == 0
        assert value(sheets, f"{books}, tuples of 2", "robustness") == 1
    for key in ("speaker_index", "language_top1", "robustness", "bpe_ratio", "vocabulary_coverage"):
        assert value(sheets, "two, stream 1", key) == value(sheets, "oracle", key)
    tuples = "two, tuples of 2"
    assert value(sheets, tuples, "bits_per_second") == 50 * 11
    used = value(sheets, tuples, "vocabulary_num_used")
    assert value(sheets, tuples, "vocabulary_coverage") == used / 2048
    huge = "huge, tuples of 2"
    assert value(sheets, huge, "bits_per_second") == 50 * 64
    assert value(sheets, huge, "vocabulary_coverage") == used / 2**64
    assert value(sheets, huge, "vocabulary_entropy") == pytest.approx(value(sheets, tuples, "vocabulary_entropy"))
    assert value(sheets, huge, "vocabulary_entropy_share") == pytest.approx(
        value(sheets, huge, "vocabulary_entropy") / 64
    )
    large = "large, tuples of 2"
    for key in ("bpe_fixed_ratio", "bpe_fixed_num_merges", "language_distribution", "vocabulary_entropy"):
        assert value(sheets, large, key) == pytest.approx(value(sheets, tuples, key), abs=1e-12)
    for name in (large, huge):
        assert "too large" in sheets[name]["huffman_bits_per_second"].reason
        assert "too large" in sheets[name]["language_kl"].reason


def test_languages_are_told_apart_by_what_they_use(sheets):
    for name in ("two, tuples of 2", "large, tuples of 2", "oracle"):
        size = {"two, tuples of 2": 2048, "large, tuples of 2": 2**62, "oracle": 32}[name]
        used = len(set(stab_corpus.PHONES.ravel().tolist()))
        for language in ("de", "en"):
            assert value(sheets, name, f"vocabulary_coverage@{language}") == pytest.approx(used / size)
            assert value(sheets, name, f"vocabulary_num_tokens@{language}") == 200


def test_noise_may_stand_around_segments_instead_of_silence(suite, corpus):
    small = dataclasses.replace(suite, strengths=Strengths(gaussian=(10,)), max_clips=1)
    found = [
        run(dataclasses.replace(small, context_noise=noise), models=given("whole"), data=corpus).models
        for noise in (None, -60, -20)
    ]
    shares = [models["stab_corpus:whole"]["context_0"].estimate for models in found]
    assert shares == [1, 1, 0]


def test_tokens_of_a_hop_alone_are_the_same_wherever_it_is(sheets):
    for name in ("local", "local_pairs"):
        for move in ("silence 0.04", "silence 1", "noise 0.04", "cut 0.04", "halves"):
            found = sheets[name][f"place@{move}"]
            assert (found.estimate, found.low, found.high) == (0, 0, 0), move
        for move in ("silence 0.013", "cut 0.013"):  # other samples are in a hop
            assert value(sheets, name, f"place@{move}") > 0.3
    assert value(sheets, "constant", "place@silence 0.013") == pytest.approx(1 / 75)  # one more is begun
    assert value(sheets, "constant", "place@silence 1") == value(sheets, "constant", "place@halves") == 0
    assert value(sheets, "random", "place@silence 1") > 0.9


def test_moved_clips_are_compared_by_the_tokens_of_the_speech(suite, corpus):
    """By hand, for a tokenizer that hears where it is."""
    place = Place(silence=(0.04,), noise=(1,), noise_level=-20, cut=(0.04, 30), max_clips=2)
    small = dataclasses.replace(suite, strengths=Strengths(), place=place)
    report = run(small, models=given("whole", "counting"), data=corpus)
    whole, counting = (report.models[name] for name in given("whole", "counting"))
    assert report.data["clips_moved"] == ["long-0.wav", "long-1.wav"]
    assert whole["place@silence 0.04"].estimate == 0
    assert whole["place@noise 1"].estimate == 1
    # 0 … 79 become 2 … 81, or are asked to be 2 … 79 and are 0 … 77; the second half counts from 0 again.
    assert counting["place@silence 0.04"].estimate == 4 / 80
    assert counting["place@cut 0.04"].estimate == 4 / 78
    assert counting["place@halves"].estimate == 40 / 80
    assert counting["place@cut 30"].reason == "no clip is long enough"
    assert run(dataclasses.replace(small, place=None), models=given("whole"), data=corpus).data["clips_moved"] == []
    again = run(small, models=given("counting"), data=corpus)
    assert again.models["stab_corpus:counting"] == counting


def test_noise_made_for_a_tokenizer_changes_more_than_white_noise(suite, corpus, tmp_path):
    zoo.save(tiny_stabletoken.make(), tmp_path / "tiny", name="stabletoken.tiny")
    clips = read_corpus(suite.data, corpus).long_clips(2)
    tiny, local = (read_subject(name, 16000, list, 0) for name in (str(tmp_path / "tiny"), *given("local")))
    steps = []

    def sheet(subject, num_steps):
        return attack(subject, clips, Adversarial((40.0,), num_steps), suite, lambda: steps.append(1))[""]

    made, white = sheet(tiny, 4), sheet(tiny, 0)
    for name in ("ued@adversarial 40", "ned_collapsed@adversarial 40"):
        assert made[name].estimate > 1.1 * white[name].estimate > 0
    assert sheet(local, 4)["ued@adversarial 40"].reason == "it gives no gradients"
    assert len(steps) == 6
    for wrong in ({"snr": (math.nan,)}, {"snr": (20,), "steps": -1}):
        with pytest.raises(ConfigError, match="adversarial: snr must be"):
            Adversarial(**wrong)


def test_what_learns_is_given_the_training_recordings(report, sheets):
    assert report.settings["stab_corpus:learner"]["waves"] == 18
    assert report.settings["stab_corpus:learner"]["remark"] == "a learner"
    assert report.examples["ids"]["stab_corpus:learner"]["clean"][0] == 18


def test_intervals_hold_the_estimates_and_repeat(sheets, suite, corpus):
    found = sheets["local"]["robustness"]
    assert found.low <= found.estimate <= found.high
    assert found.low < found.high
    index = sheets["random"]["speaker_index"]
    assert index.low <= index.estimate <= index.high


def test_distances_are_those_of_the_disturbed_waves(sheets, suite, corpus):
    recordings = read_corpus(suite.data, corpus)
    clips = recordings.long_clips(None)
    disturber = Disturber(suite.strengths, recordings, suite.seed)
    place = [name for _, _, name in disturber.conditions].index("gaussian 10")
    ids = [
        [torch.from_numpy(stab_corpus.local(wave.numpy(), 16000)[0]) for wave in (clip.wave, disturber(clip)[place])]
        for clip in clips
    ]
    expected = robustness([noisy for _, noisy in ids], [clean for clean, _ in ids])
    for key in ("ued", "ued_collapsed", "ned", "ned_collapsed"):
        assert value(sheets, "local", f"{key}@gaussian 10") == pytest.approx(float(expected[key]))


def test_a_second_run_elsewhere_in_another_order_gives_the_same(report, suite, corpus, tmp_path):
    moved = Path(shutil.copytree(corpus, tmp_path / "elsewhere"))
    lines = (moved / "stab.jsonl").read_text().splitlines(keepends=True)
    (moved / "stab.jsonl").write_text("".join(reversed(lines)))
    again = run(suite, models=given("huge", "local"), data=moved)
    assert again.data == report.data
    assert as_json(again)["models"] == {name: as_json(report)["models"][name] for name in again.models}
    assert len(again.models) == 3


def test_another_seed_and_another_sound_have_other_digests(report, suite, corpus, tmp_path):
    small = dataclasses.replace(suite, strengths=Strengths(gaussian=(10,)), seed=1)
    other = run(small, models=given("local"), data=corpus)
    assert other.data["sha256"] == report.data["sha256"]
    assert other.data["disturbed_sha256"] != report.data["disturbed_sha256"]
    moved = Path(shutil.copytree(corpus, tmp_path / "other"))
    wave, rate = soundfile.read(moved / "train-0.wav")
    soundfile.write(moved / "train-0.wav", wave[::-1], rate)
    assert read_corpus(suite.data, moved).sha256 != report.data["sha256"]


def test_json_has_null_and_a_reason_for_what_cannot_be_measured_and_reads_back(report, tmp_path):
    path = tmp_path / "report.json"
    write_report(report, path)
    values = json.loads(path.read_text(), parse_constant=lambda text: pytest.fail(f"{text} is no JSON"))
    found = values["models"]["stab_corpus:constant"]["speaker_index"]
    assert found["value"] is None
    assert found["reason"]
    assert as_json(read_report(path)) == as_json(report)


def test_data_that_is_missing_is_null_with_a_reason(suite, corpus, tmp_path):
    folder = Path(shutil.copytree(corpus, tmp_path / "few"))
    kept = [line for line in (folder / "stab.jsonl").read_text().splitlines() if '"long"' in line]
    (folder / "stab.jsonl").write_text("\n".join(kept))
    sheet = run(suite, models=given("local"), data=folder).models["stab_corpus:local"]
    assert sheet["speaker_index"].reason == "no text is read by several speakers"
    assert sheet["language_bag_index"].reason == "no sentence is there in several languages"
    assert "no recordings for the part 'noise'" in sheet["robustness_noise"].reason
    assert sheet["robustness"].reason == "nothing is known of noise"
    assert "no recordings" in sheet["huffman_bits_per_second"].reason
    assert sheet["robustness_pitch"].estimate < 1
    with pytest.raises(ConfigError, match="learns from recordings for the part 'train'"):
        run(suite, models=given("learner"), data=folder)


def test_a_tokenizer_of_the_zoo_is_measured_under_its_name(suite, corpus, tmp_path):
    small = dataclasses.replace(suite, strengths=Strengths(speed=(1.25,), gaussian=(10,)))
    tokenizers = {
        "here": toy.make("speech", codebook_size=64, hop=320),
        "slow": toy.make("speech", codebook_size=64, hop=80, sample_rate=8000),
    }
    for name, tokenizer in tokenizers.items():
        zoo.save(tokenizer, tmp_path / name)
    zoo.save(toy.make("image"), tmp_path / "image")
    with toy.registered(*toy.CLASSES.values()):
        report = run(small, models=[str(tmp_path / name) for name in (*tokenizers, "here")], data=corpus)
        with pytest.raises(InputError, match="this suite is for speech"):
            run(small, models=[str(tmp_path / "image")], data=corpus)
    first, second = report.models
    assert second == f"{first} (2)"
    assert [report.settings[name]["hop"] for name in report.models] == [320, 160]
    assert [report.settings[name]["token_rate"] for name in report.models] == [50, 100]
    sheet = report.models[first]
    assert sheet["bits_per_second"].estimate == 50 * 6
    assert sheet["context_0.25"].estimate == 1  # the toy hears each hop alone
    assert 0 < sheet["ned@gaussian 10"].estimate < 1


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        ("stab_corpus:nothing", ConfigError, "has no 'nothing'"),
        ("no_such_module_at_all:f", ConfigError, "set PYTHONPATH to its folder"),
        ("stab_corpus:number", ConfigError, "is a int, and must be callable"),
        ("stab_corpus:silent_on_facts", ConfigError, "does not say its codebook_sizes"),
        ("stab_corpus:off_grid", ConfigError, "a whole number of tokens"),
        ("stab_corpus:flat", TokenError, r"must return integers \[K, T\] with K = 1"),
        ("stab_corpus:outside", TokenError, "codebook 0 must lie in 0..3, they span 0..4"),
        ("stab_corpus:moody", ConfigError, "gave two answers for one wave"),
    ],
)
def test_a_callable_that_does_not_fit_is_told_why(suite, corpus, name, error, message):
    with pytest.raises(error, match=message):
        run(suite, models=[name], data=corpus)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 1 is not valid JSON"),
        ('{"audio_filepath": "a.wav", "group": "a"}', "must be an object with audio_filepath, parts and group"),
        ('{"audio_filepath": "long-0.wav", "group": "a", "parts": ["lang"]}', "unknown part 'lang'; did you mean"),
        ('{"audio_filepath": "long-0.wav", "group": "a", "parts": []}', "parts must be a list"),
        ('{"audio_filepath": "long-0.wav", "group": "a", "parts": ["speaker"]}', "which needs its speaker"),
        ('{"audio_filepath": "fast.wav", "group": "a", "parts": ["long"]}', "2 channel.s. at 8000 Hz"),
        ("", "lists nothing"),
    ],
)
def test_a_manifest_that_does_not_fit_is_told_where(suite, corpus, tmp_path, line, message):
    folder = Path(shutil.copytree(corpus, tmp_path / "bad"))
    soundfile.write(folder / "fast.wav", torch.zeros(100, 2).numpy(), 8000)
    (folder / "stab.jsonl").write_text(line)
    with pytest.raises(InputError, match=message):
        read_corpus(suite.data, folder)


def test_a_missing_folder_says_how_it_is_made(suite, tmp_path, monkeypatch):
    with pytest.raises(InputError, match=r"holds no speech: it needs sound files .* or a manifest stab.jsonl"):
        run(suite, models=given("local"), data=tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"make the folder with `zoo data stab`"):
        run(suite, models=given("local"))


def test_suites_with_values_that_cannot_be_are_refused(suite):
    for change in ({"max_clips": 0}, {"contexts": (1.0, 0.5)}, {"quoted_context": 0.3}, {"num_tokens": 0}):
        with pytest.raises(ConfigError):
            dataclasses.replace(suite, **change)
    for wrong in ({"silence": (0,)}, {"cut": (math.inf,)}, {"max_seconds": 0}, {"noise_level": 3}, {"max_clips": 0}):
        with pytest.raises(ConfigError, match=f"place: {next(iter(wrong))} must be"):
            Place(**wrong)


def test_the_published_peers_say_what_they_are(corpus):
    recordings = read_corpus(StabFiles("stab", "", ""), corpus)
    waves = [recording.wave for recording in recordings.part("train")]
    from zoo.evaluation.peers import MelKMeans, encodec_random

    kmeans = MelKMeans(num_units=8)
    fitted = [kmeans.fit([wave.numpy() for wave in waves], 16000, seed) for seed in (0, 0, 1)]
    assert torch.equal(fitted[0].means, fitted[1].means)
    assert not torch.equal(fitted[0].means, fitted[2].means)
    ids = fitted[0](waves[0].numpy(), 16000)
    assert ids.shape == (1, math.ceil(len(waves[0]) / 320))
    noise = 0.1 * torch.randn(16000, generator=torch.Generator().manual_seed(0)).numpy()
    cut = fitted[0](noise[320 * 5 : 320 * 15], 16000)
    assert (cut[:, 1:-1] == fitted[0](noise, 16000)[:, 6:14]).all()  # but for the ends, it hears no context
    subject = read_subject("zoo.evaluation.peers:encodec_random", 16000, lambda: waves, 0)
    (codes,) = subject.encode([waves[0]])
    assert codes.shape == (math.ceil(len(waves[0]) / 320), 2)
    assert len(codes[:, 0].unique()) > 1
    assert "RANDOM WEIGHTS" in encodec_random.remark


def test_reports_of_models_are_typed(report):
    assert isinstance(report, Report)
    assert report.data["parts"]["speaker"]["set"]["groups"] == 5
    assert report.data["sources"] == {"made": sum(read_part["recordings"] for read_part in _unique(report))}


def _unique(report):
    """Return every set once: those of `language` with one recording of each text are among the speakers'."""
    parts = report.data["parts"]
    shared = {"recordings": -5}
    return [facts for sets in parts.values() for facts in sets.values()] + [shared]
