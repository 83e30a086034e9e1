"""The strict readers of text that somebody else wrote."""

import os
from pathlib import Path

import pytest
import torch

import zoo
from zoo import resources, tokenfile
from zoo.components.features.files import read_safetensors
from zoo.data.actions import read_actions
from zoo.data.images import ImageData
from zoo.data.media import read_audio, read_image
from zoo.data.speech import SpeechData
from zoo.errors import CheckpointError, ConfigError, InputError, ZooError
from zoo.evaluation.suite import read_suite
from zoo.strict import is_file, is_there, parse_json, read_text
from zoo.tokenfile import tables


def test_text_is_read_as_it_is(tmp_path):
    (tmp_path / "a").write_bytes("\ufeffone\u2028two\r\n".encode())
    assert read_text(tmp_path / "a") == "one\u2028two\r\n"


def test_what_is_no_regular_file_is_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "dangling").symlink_to("nowhere")
    for name in ("pipe", "dangling", "../" + tmp_path.name):
        with pytest.raises(InputError, match="is not a regular file"):
            read_text(tmp_path / name, InputError)
    with pytest.raises(CheckpointError, match="does not exist"):
        read_text(tmp_path / "missing", CheckpointError)
    for name in ("/dev/zero", "/dev/full"):
        with pytest.raises(ConfigError, match="is not a regular file"):
            read_text(name)
    for name in ("a\0b", "x" * 5000, "\ud800"):
        with pytest.raises(ConfigError):
            read_text(tmp_path / name)


def test_text_that_is_too_large_or_not_utf_8_is_refused(tmp_path):
    (tmp_path / "a").write_bytes(b"ab\xff")
    with pytest.raises(ConfigError, match="UTF-8: invalid start byte at byte 2"):
        read_text(tmp_path / "a")
    with pytest.raises(ConfigError, match="more than 2 bytes"):
        read_text(tmp_path / "a", most=2)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "column 1"),
        ('{"a": 1,}', "column"),
        ('{"a": 1, "b": 2, "a": 3}', "'a' is there twice"),
        ('{"a": {"b": 1, "b": 2}}', "'b' is there twice"),
        ("[1]", "must hold a JSON object"),
        ("[" * 100_000, "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "digits"),
        (r'{"a": "\ud800"}', "surrogates not allowed"),
        ('{"a": "one\ntwo"}', "line 1, column"),
    ],
)
def test_json_that_is_refused(text, reason):
    with pytest.raises(InputError, match=reason) as caught:
        parse_json(text, "here", InputError)
    assert str(caught.value).startswith("here ")


def test_json_that_is_read():
    assert parse_json(r'{"a": "😀", "b": ["\u2028", null], "c": 1e400}', "here") == {
        "a": "😀",
        "b": ["\u2028", None],
        "c": float("inf"),
    }


@pytest.mark.parametrize("name", ["x" * 300, "x" * 5000, "a\0b"])
def test_readers_and_writers_refuse_names_that_no_file_can_have(tmp_path, name):
    tokenizer = zoo.load("binning")
    tokens = tokenizer.encode(torch.zeros(1, 20, 4))
    for act in (
        lambda path: tokenfile.load(f"{path}.zoo"),
        lambda path: tables.read_metadata(f"{path}.npz"),
        lambda path: SpeechData(folder=path).dataset("train"),
        lambda path: ImageData(folder=path).dataset("train"),
        lambda path: tokenfile.save(f"{path}.zoo", tokens, tokenizer),
        lambda path: zoo.save(tokenizer, path),
        lambda path: read_audio(path),
        lambda path: read_actions(path),
    ):
        with pytest.raises(ZooError) as caught:
            act(f"{tmp_path}/{name}")
        assert len(str(caught.value)) < 2 * len(name) + 400
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/mem").exists(), reason="a file whose reading fails, as on a broken disk")
def test_a_disk_that_fails_is_told():
    for read in (read_audio, read_image):
        with pytest.raises(InputError, match=r"'/proc/self/mem' cannot be read: Input/output error"):
            read("/proc/self/mem")


@pytest.mark.parametrize("name", ["x" * 5000, "a\0b"])
def test_there_is_no_file_of_a_name_that_no_file_can_have(tmp_path, name):
    assert not is_there(tmp_path / name)
    assert not is_file(tmp_path / name)
    with pytest.raises(CheckpointError, match=r"is not a file|character 0"):
        read_safetensors(tmp_path / name)
    for suite in ("action", "noise"):
        text = resources.path("eval", f"{suite}.yaml").read_text()
        (line,) = [line for line in text.splitlines() if line.startswith("  file: ")]
        path = tmp_path / f"{suite}.yaml"
        path.write_text(text.replace(line, "  file: " + (name if name.isalpha() else '"a\\0b"')))
        data = read_suite(path).data
        assert data.file == name
        with pytest.raises(InputError, match="does not exist"):
            data.locate(None)
    assert is_there(tmp_path)
    assert is_file(path)
    assert not is_file(tmp_path)
