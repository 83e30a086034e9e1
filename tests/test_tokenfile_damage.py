"""Damaged, foreign and hostile token files: each is an error that names the file."""

import json
import random

import numpy as np
import pytest
import toy
from safetensors.numpy import save_file
from token_files import UNSAFE, made, read, rewrite

from zoo import tokenfile
from zoo.errors import CheckpointError, TokenError


@pytest.fixture
def path(tmp_path):
    tok, tokens = made()
    return tokenfile.save(tmp_path / "talks.zoo", tokens, tok, ["a.wav", "b.wav", "c.wav"], rates=[1, 2, 3])


def refused(path, kind, message):
    with pytest.raises(kind, match=message) as caught:
        tokenfile.load(path)
    assert str(path) in str(caught.value)


def test_what_is_no_file(tmp_path):
    refused(tmp_path / "none.zoo", CheckpointError, "does not exist")
    refused(tmp_path, CheckpointError, "is not a file")


def test_every_truncation_is_found(path):
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match="truncated, damaged"):
            tokenfile.load(path)
    path.write_bytes(content + b"\0")
    refused(path, CheckpointError, "truncated, damaged")


def test_every_changed_byte_is_found(path):
    """Except in what holds no content: the order of the header's keys, and spaces in it."""
    content = bytearray(path.read_bytes())
    draw = random.Random(0)
    for place in range(len(content)):
        changed = bytearray(content)
        changed[place] ^= 1 << draw.randrange(8)
        path.write_bytes(changed)
        with pytest.raises((CheckpointError, TokenError)):
            tokenfile.load(path)


@pytest.mark.parametrize("content", [b"", b"hello", b"PK\3\4" + bytes(100), b"\x93NUMPY" + bytes(100), bytes(200)])
def test_other_files_are_refused(path, content):
    path.write_bytes(content)
    refused(path, CheckpointError, "cannot be read as a token file")


def test_other_safetensors_are_refused(path):
    arrays, _ = read(path)
    for tensors, metadata in [
        ({"weight": np.zeros(3)}, {"format": "pt"}),
        (arrays, None),
        ({**arrays, "more": np.zeros(1)}, {"facts": "{}"}),
        ({"ids": arrays["ids"]}, {"facts": "{}"}),
    ]:
        save_file(tensors, path, metadata)
        refused(path, CheckpointError, "but not a token file")
    for facts in ("[]", '{"format": "other"}', "3"):
        save_file(arrays, path, {"facts": facts})
        refused(path, CheckpointError, "its format is not")
    for facts in ("{", "[" * 100000):
        save_file(arrays, path, {"facts": facts})
        refused(path, CheckpointError, "not JSON")


def test_newer_versions_say_what_to_do(path):
    for version in (2, 0, "1", 1.0, True, None):
        rewrite(path, format_version=version, library_version="9.0")
        refused(path, CheckpointError, r"written by version '9\.0'; update \(pip install -U tokenizer-zoo\)")


def test_a_wrong_digest_is_found(path):
    rewrite(path, metadata={"sha256": "0" * 64})
    refused(path, CheckpointError, "is damaged: its content does not have the SHA-256")


def test_contradictions_are_found(path):
    arrays, facts = read(path)
    spec = facts["spec"]
    small = {**spec, "codebook_size": int(arrays["ids"].max())}
    cases = {
        "ids must be in 0 … ": {"spec": small},
        "add up to 13, but there are 14": {"arrays": {"lengths": np.array([10, 2, 1])}},
        "add up to 15, but there are 14": {"arrays": {"lengths": np.array([10, 4, 1])}},
        r"add up to 18446744073709551630, ": {"arrays": {"lengths": np.array([2**63 - 1, 2**63 - 1, 16])}},
        "lengths must be 0 or more, got -1": {"arrays": {"lengths": np.array([10, 5, -1])}},
        "signal_lengths must be 0 or more": {"arrays": {"signal_lengths": np.array([1, 2, -3])}},
        "signal_lengths must be I64 of one shape": {"arrays": {"signal_lengths": np.array([1, 2])}},
        "lengths must be I64": {"arrays": {"lengths": np.array([10, 3, 1], dtype=np.int32)}},
        r"lengths must be I64 of one shape \(B,\)": {"arrays": {"lengths": np.array([[10, 3, 1]])}},
        "B ≥ 1": {"arrays": {name: np.zeros(0, dtype=np.int64) for name in ("lengths", "signal_lengths")}},
        r"ids must be unsigned integers \(S,\), got int64": {"arrays": {"ids": arrays["ids"].astype(np.int64)}},
        r"got float32 \(14,\)": {"arrays": {"ids": arrays["ids"].astype(np.float32)}},
        r"got uint8 \(14, 1\)": {"arrays": {"ids": arrays["ids"][:, None]}},
        r"\(S, 2\), got uint8 \(14,\)": {"spec": {**spec, "num_codebooks": 2}},
        "base must be 0": {"base": 3},
        r"grid of \[2, 5, 2\] does not have the 10 positions": {"grid": [2, 5, 2]},
        r"grid of \[-2, -5\]": {"grid": [-2, -5]},
        r"grid of \[\]": {"grid": []},
        "need as many names, got 1": {"names": ["a"]},
        "need as many rates, got 1": {"rates": [1]},
        "rates must be above 0": {"rates": [1, 0, 2]},
        "lacks the key 'model'": {"model": ...},
        "unknown key 'colour'": {"colour": 1},
        "facts: names must be a list": {"names": "abc"},
        r"facts: names\[1\] must be str": {"names": ["a", 1, "c"]},
        "facts: source must be str": {"source": None},
        "modality must be one of 'speech'": {"spec": {**spec, "modality": "smell"}},
        "at least 2 codes": {"spec": {**spec, "codebook_size": 1}},
        "spec has the unknown key": {"spec": {**spec, "eval": "1"}},
        "spec must be a mapping": {"spec": []},
    }
    content = path.read_bytes()
    for message, changes in cases.items():
        rewrite(path, **changes)
        refused(path, TokenError, message)
        path.write_bytes(content)
    tokenfile.load(path)


@pytest.mark.parametrize("name", [name for name in UNSAFE if name.isascii() or name.isprintable()] + [None])
def test_names_cannot_lead_anywhere(path, name):
    rewrite(path, names=["a.wav", "b.wav", name])
    refused(path, TokenError, "names are relative paths|must be str")


def test_a_small_file_cannot_fill_the_memory(path):
    items = 2**16
    rewrite(
        path,
        {
            "ids": np.zeros(2**16, dtype=np.uint8),
            "lengths": np.array([2**16] + [0] * (items - 1)),
            "signal_lengths": None,
        },
        names=["x"] * items,
        rates=None,
    )
    refused(path, TokenError, "would become 4294967296")


def test_two_codebooks(tmp_path):
    tok = toy.make("video")
    tokens = tok.encode(toy.signals("video"))
    path = tokenfile.save(tmp_path / "x.zoo", tokens, tok)
    arrays, facts = read(path)
    assert arrays["ids"].shape == (3 * 8, 2)
    assert facts["grid"] == [2, 2, 2]
    rewrite(path, {"ids": np.ascontiguousarray(arrays["ids"][:, :1])})
    refused(path, TokenError, r"must be unsigned integers \(S, 2\), got uint8 \(24, 1\)")
    rewrite(path, {"ids": arrays["ids"].reshape(-1)})
    refused(path, TokenError, r"\(S, 2\), got uint8 \(48,\)")


def test_no_number_of_the_facts_is_taken_for_another(path):
    text = json.dumps(read(path)[1])
    assert "NaN" not in text
    for rates in ([1e400, 1, 1], [float("nan"), 1, 1]):
        rewrite(path, rates=rates)
        refused(path, TokenError, "must be a finite number")
