"""The strict readers of text that somebody else wrote."""

import os

import pytest

from zoo.errors import CheckpointError, ConfigError, InputError
from zoo.strict import parse_json, read_text


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
