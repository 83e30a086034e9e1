"""`zoo encode … -o ids.jsonl`, `.parquet`, `.npz`, for programs that do not know the library; `zoo info` of files."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_files import fails, ok, work, write

import zoo
from zoo import tokenfile
from zoo.cli import main
from zoo.errors import CheckpointError, TokenError
from zoo.tokenfile import tables

__all__ = ["work"]  # a fixture

ENDINGS = {"speech": "wav", "video": "mp4"}


def read(path):
    """Return the metadata of a file of ids, and its items as dictionaries, with what other programs read it with."""
    if path.endswith(".jsonl"):
        first, *items = map(json.loads, Path(path).read_bytes().strip().split(b"\n"))
        return first["metadata"], items
    if path.endswith(".parquet"):
        parquet = pytest.importorskip("pyarrow.parquet")
        table = parquet.read_table(path)
        rows = [{key: value for key, value in row.items() if value is not None} for row in table.to_pylist()]
        return json.loads(table.schema.metadata[b"tokenizer-zoo"]), rows
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    facts = json.loads(str(arrays["metadata"]))
    assert [facts[key] for key in ("model", "fingerprint", "codebook_size")] == [
        arrays[key] for key in ("model", "fingerprint", "codebook_size")
    ]
    items = []
    for i, length in enumerate(arrays["lengths"].tolist()):
        item = {"name": str(arrays["names"][i]), "ids": arrays["ids"][i, :length].tolist(), "length": length}
        item |= {key.removesuffix("s"): arrays[key][i].item() for key in ("signal_lengths", "rates") if key in arrays}
        items.append(item)
    return facts, items


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
@pytest.mark.parametrize("modality", ENDINGS)
def test_s3_ids_with_keys(suffix, modality, work):
    """One codebook with items of several lengths, and two codebooks; the ids are those of the `.zoo` file."""
    sizes = {"speech": (37, 8, 21), "video": (None, None, None)}[modality]
    for number, (name, size) in enumerate(zip(("ä", "b", "c"), sizes, strict=True)):
        write(work / "in" / f"{name}.{ENDINGS[modality]}", modality, number, size)
    model = f"../models/{modality}"
    ok("encode", model, "in", "-o", "x.zoo")
    ok("encode", model, "in", "-o", f"x{suffix}")
    facts, items = read(f"x{suffix}")
    file, tok = tokenfile.load("x.zoo"), zoo.load(model)
    tokens = file.tokens
    assert [item["name"] for item in items] == list(file.names)
    assert [item["ids"] for item in items] == tokens.tolist()
    assert [item["length"] for item in items] == tokens.lengths.tolist()
    signal = [None] * 3 if tokens.signal_lengths is None else tokens.signal_lengths.tolist()
    assert [item.get("signal_length") for item in items] == signal
    assert [item["rate"] for item in items] == list(file.rates)
    if modality == "speech":
        assert sorted(signal) == sorted(sizes)
    else:
        assert np.shape(items[0]["ids"]) == (int(tokens.lengths[0]), 2)
    assert (facts["model"], facts["source"], facts["fingerprint"]) == (file.model, file.source, file.fingerprint)
    assert (facts["codebook_size"], facts["num_codebooks"]) == (tok.spec.codebook_size, tok.spec.num_codebooks)
    assert facts["spec"]["sample_rate"] == tok.spec.sample_rate
    back = zoo.Tokens.from_ids([item["ids"] for item in items], codebook_size=facts["codebook_size"])
    assert back.tolist() == tokens.tolist()


@pytest.mark.parametrize("suffix", [".zoo", *tables.SUFFIXES])
def test_s3_info_of_a_file(suffix, work, capsys):
    write(work / "a.wav", "speech")
    write(work / "b.wav", "speech", size=8)
    ok("encode", "../models/speech", "a.wav", "b.wav", "-o", f"x{suffix}")
    capsys.readouterr()
    ok("info", f"x{suffix}", "--json")
    facts = json.loads(capsys.readouterr().out)
    tok = zoo.load("../models/speech")
    assert (facts["items"], facts["tokens"], facts["model"]) == (2, 12, tok.name)
    assert facts["fingerprint"] == tokenfile.fingerprint(tok)
    assert facts["spec"] == tok.spec.to_dict()
    assert facts["bytes"] == (work / f"x{suffix}").stat().st_size
    ok("info", f"x{suffix}")
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == f"x{suffix}"
    assert [line.split() for line in shown[2:5]] == [["items", "2"], ["ids", "12"], ["made", "by", "toy_speech.s0"]]


def test_s3_the_reader_is_named(capsys):
    assert main(["encode", "--help"]) == 0
    assert "zoo.tokenfile.load(OUT)" in capsys.readouterr().out


# Relatives


@pytest.mark.parametrize("suffix", tables.SUFFIXES)
def test_s3_a_file_that_is_there_is_replaced_if_that_is_asked_for(suffix, work, capsys):
    write(work / "a.wav", "speech")
    name = f"x{suffix}"
    (work / name).write_bytes(b"mine")
    fails(capsys, ["encode", "../models/speech", "a.wav", "-o", name], f"{name} exists already", "--overwrite")
    fails(capsys, ["info", name], f"{name} has no metadata of ids")
    assert (work / name).read_bytes() == b"mine"
    ok("encode", "../models/speech", "a.wav", "-o", name, "--overwrite")
    whole = (work / name).read_bytes()
    assert read(name)[1][0]["name"] == "a.wav"
    ok("encode", "../models/speech", "a.wav", "-o", name, "--overwrite")
    assert (work / name).read_bytes() == whole, "equal ids should give equal files"


def test_s3_nothing_is_left_of_a_table_that_cannot_be_written_whole(work):
    write(work / "a.wav", "speech")
    tok = zoo.load("../models/speech")
    tokens = tok.encode(["a.wav", "a.wav"])
    file = tokenfile.collect(tokens, tok, ["a", "b"])
    tokens.ids[1, 0] = tok.spec.codebook_size  # which the second line meets, when the first one is written
    for suffix in tables.SUFFIXES:
        with pytest.raises(TokenError, match="ids must be in"):
            tables.save(f"x{suffix}", file)
    assert [path.name for path in work.iterdir()] == ["a.wav"]
    with pytest.raises(CheckpointError, match=r"must end in \.jsonl, \.parquet, \.npz"):
        tables.save("x.csv", tokenfile.collect(tok.encode("a.wav"), tok))


def test_s3_parquet_without_pyarrow_is_refused_before_the_work(work, capsys, monkeypatch):
    write(work / "a.wav", "speech")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    fails(capsys, ["encode", "../models/speech", "a.wav", "-o", "x.parquet"], "pip install 'tokenizer-zoo[actions]'")
    fails(capsys, ["encode", "nothing-of-this-name", "a.wav", "-o", "x.parquet"], "needs pyarrow")
    ok("encode", "../models/speech", "a.wav", "-o", "x.jsonl")


def test_s3_info_of_files_of_others(work, capsys):
    fails(capsys, ["info", "none.zoo"], "none.zoo does not exist")
    fails(capsys, ["info", "none.jsonl"], "none.jsonl does not exist")
    (work / "m.jsonl").write_text('{"audio_filepath": "a.wav", "duration": 1.0}\n')
    np.savez(work / "e.npz", actions=np.zeros((3, 2)))
    for name in ("m.jsonl", "e.npz"):
        fails(capsys, ["info", name], f"{name} has no metadata of ids", "was not written by `zoo encode`")
    (work / "m.jsonl").write_text('{"metadata": {"format": "tokenizer-zoo ids", "format_version": 2}}\n')
    fails(capsys, ["info", "m.jsonl"], "format version 2")
    (work / "m.jsonl").write_text('{"metadata": {"format": "tokenizer-zoo ids", "format_version": 1, "spec": 3}}\n')
    fails(capsys, ["info", "m.jsonl"], "m.jsonl: metadata")


def test_s3_tables_are_not_decoded(work, capsys):
    write(work / "a.wav", "speech")
    for suffix in tables.SUFFIXES:
        ok("encode", "../models/speech", "a.wav", "-o", f"x{suffix}")
        fails(capsys, ["decode", f"x{suffix}", "-o", "out"], f"x{suffix} holds ids for other programs", ".zoo file")


def test_s3_a_table_of_a_token_file_and_of_many_row_groups(work, monkeypatch):
    """What was encoded before can be written as a table too, and names may hold every kind of line end and quote."""
    monkeypatch.setattr(tables, "_ROWS", 2)
    write(work / "a.wav", "speech")
    tok = zoo.load("../models/speech")
    names = ["one\u2028two", 'a "b"', "c.wav", "d", "e"]
    tokenfile.save("x.zoo", tok.encode(["a.wav"] * 5), tok, names)
    for suffix in tables.SUFFIXES:
        tables.save(f"x{suffix}", tokenfile.load("x.zoo"))
        assert [item["name"] for item in read(f"x{suffix}")[1]] == names
        assert all("rate" not in item for item in read(f"x{suffix}")[1])
    assert len((work / "x.jsonl").read_text().splitlines()) == 6
