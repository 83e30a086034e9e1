"""How much of one long recording is encoded or decoded is shown while that is done."""

from pathlib import Path

import pytest
import tiny_stabletoken
import torch
from cli_files import ok, work

import zoo
from zoo.cli._output import Ticker
from zoo.data import media
from zoo.data.audio import about_seconds
from zoo.process.progress import counted, listening, part

__all__ = ["work"]  # a fixture


def test_shares_are_told_of_whole_and_parts():
    told = []
    with listening(told.append):
        with part(0.0, 0.5):
            assert list(counted("ab", 2)) == ["a", "b"]
        assert list(counted("cd", 2, begin=0.5)) == ["c", "d"]
    assert told == [0.25, 0.5, 0.5, 0.75, 1.0]
    assert list(counted("ab", 2)) == ["a", "b"]  # nobody listens
    assert len(told) == 5


def test_a_long_recording_shows_how_much_is_done(work, monkeypatch):
    for name, value in (("_WINDOW", 1.0), ("_OVERLAP", 0.2)):  # so that a few seconds are several windows
        monkeypatch.setattr(f"zoo.families.stabletoken.decoder.mel.{name}", value)
    tokenizer, seconds = tiny_stabletoken.make(decoder=tiny_stabletoken.TINY_DECODER), 5
    assert seconds > 2 * tokenizer.config.segment_samples / 16000
    zoo.save(tokenizer, "../models/stabletoken", name="stabletoken.tiny")
    media.write_wav("long.wav", tiny_stabletoken.speech(16000 * seconds).clamp(-1, 1), 16000)
    assert about_seconds(Path("long.wav")) == seconds
    told = []
    monkeypatch.setattr(Ticker, "partly", lambda self, share: told.append(share))
    encode = ("encode", "../models/stabletoken", "long.wav", "--overwrite", "-o", "x.zoo")
    ok(*encode)  # as a whole, piece by piece
    of_pieces = list(told)
    told.clear()
    ok(*encode, "--overlap", "0.4")
    with_overlap = list(told)
    told.clear()
    monkeypatch.setattr("zoo.data.signals.speech._LONG", 1)
    ok(*encode)  # as a stream
    as_stream = list(told)
    told.clear()
    ok("decode", "x.zoo", "-o", "out", "--steps", "1")
    for shares in (of_pieces, with_overlap, as_stream, told):
        assert len(shares) >= 3
        assert shares == sorted(shares)
        assert shares[-1] == pytest.approx(1)
        assert shares[0] < 0.5
    assert torch.isfinite(media.read_audio("out/long.wav")[0]).all()
