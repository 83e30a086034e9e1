"""JSON lines end at a line feed and nowhere else, in every file that has them."""

import json
import os

import numpy as np
import pytest
import soundfile

from zoo.data._lerobot import read_lerobot
from zoo.data.json_lines import read_json_lines
from zoo.data.manifest import read_manifest
from zoo.data.perturbations.noise import NoiseBank
from zoo.errors import InputError
from zoo.evaluation.suites.stab.config import StabFiles
from zoo.evaluation.suites.stab.corpus import read_corpus

# What `str.splitlines` cuts at. Those below a space must be escaped in JSON, the last three may stand as they are.
MARKS = {"LINE SEPARATOR": "\u2028", "PARAGRAPH SEPARATOR": "\u2029", "NEXT LINE": "\u0085"}
marks = pytest.mark.parametrize("mark", MARKS.values(), ids=MARKS)


def write(path, *entries):
    path.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in entries), encoding="utf-8")
    return path


@marks
def test_b6_a_manifest_keeps_separators_in_its_text(mark, tmp_path):
    line = {"audio_filepath": f"{mark}.wav", "duration": 1.0, "text": f"one{mark}two"}
    first, second = read_manifest(write(tmp_path / "m.jsonl", line, line | {"text": "\x0b\x0c\x1c\x1d\x1e"}))
    assert (first.text, first.path, second.text) == (
        f"one{mark}two",
        tmp_path / f"{mark}.wav",
        "\x0b\x0c\x1c\x1d\x1e",
    )


@marks
def test_b6_episodes_of_lerobot_keep_separators_in_their_tasks(mark, tmp_path):
    pa, parquet = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
    (tmp_path / "meta").mkdir()
    (tmp_path / "data").mkdir()
    info = {"codebase_version": "v2.1", "fps": 30, "chunks_size": 1000, "data_path": "data/{episode_index:06d}.parquet"}
    info["features"] = {"action": {"dtype": "float32", "shape": [2], "names": None}}
    (tmp_path / "meta" / "info.json").write_text(json.dumps(info))
    write(tmp_path / "meta" / "episodes.jsonl", {"episode_index": 0, "tasks": [f"push{mark}it"], "length": 3})
    parquet.write_table(pa.table({"action": [[0.0, 1.0]] * 3}), tmp_path / "data" / "000000.parquet")
    assert [array.shape for array in read_lerobot(tmp_path).arrays] == [(3, 2)]


@marks
def test_b6_the_stab_corpus_keeps_separators(mark, tmp_path):
    soundfile.write(tmp_path / "a.wav", np.full(800, 0.1), 16000)
    line = {"audio_filepath": "a.wav", "parts": ["long"], "group": f"g{mark}h"}
    files = StabFiles("x", "0" * 64, "nothing", manifest=write(tmp_path / "s.jsonl", line).name)
    corpus = read_corpus(files, tmp_path)
    assert [recording.group for recording in corpus.recordings] == [f"g{mark}h"]


@marks
def test_b6_a_noise_manifest_keeps_separators(mark, tmp_path):
    path = write(tmp_path / "n.jsonl", {"audio_filepath": f"a{mark}b.wav"}, {"audio_filepath": "c.wav", "text": mark})
    clips = NoiseBank.from_manifest(path).clips
    assert [clip.path for clip in clips] == [tmp_path / f"a{mark}b.wav", tmp_path / "c.wav"]


def test_lines_of_windows_empty_lines_and_no_last_line_end(tmp_path):
    (tmp_path / "m").write_bytes(b'\xef\xbb\xbf{"a": 1}\r\n\r\n  \n{"a": 2}')
    found = list(read_json_lines(tmp_path / "m"))
    assert [values for _, values in found] == [{"a": 1}, {"a": 2}]
    assert [where for where, _ in found] == [f"{str(tmp_path / 'm')!r}, line {number}" for number in (1, 4)]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b'{"a": 1} {"a": 2}', "line 2 is not JSON: Extra data at column 10"),
        (b'{"a": 1}\r{"a": 2}', "line 2 is not JSON: Extra data"),  # line ends of Mac OS 9
        (b'{"a": "\xff"}', "line 2 is not text in UTF-8"),
        (b"[1, 2]", "line 2 must be a JSON object"),
        (b'{"a": 1, "a": 2}', "line 2 .* twice"),
        ("{}".encode("utf-16"), "line 2 is not text in UTF-8"),
        (b"[" * 100_000, "line 2 .* recursion"),
    ],
)
def test_lines_that_are_no_object_are_named(line, reason, tmp_path):
    (tmp_path / "m").write_bytes(b"{}\n" + line + b"\n{}\n")
    with pytest.raises(InputError, match=reason):
        list(read_json_lines(tmp_path / "m"))


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing", "."):
        with pytest.raises(InputError):
            list(read_json_lines(tmp_path / name))
    with pytest.raises(InputError, match="regular file"):
        list(read_json_lines("/dev/zero"))


@pytest.mark.parametrize(
    "change",
    [
        {"audio_filepath": None},
        {"offset": -1},
        {"offset": "0"},
        {"offset": 10**400},
        {"duration": 10**400},
        {"duration": 10**300},
        {"duration": float("nan")},
        {"duration": True},
        {"duration": 0},
        {"text": 5},
    ],
)
def test_values_of_a_manifest_are_checked(change, tmp_path):
    with pytest.raises(InputError, match="line 1"):
        read_manifest(write(tmp_path / "m.jsonl", {"audio_filepath": "a.wav", "duration": 1.0} | change))
