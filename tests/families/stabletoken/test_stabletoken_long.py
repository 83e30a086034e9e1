"""StableToken on long speech: segments, overlapping segments and chunks lose no token, and each sees what it should."""

import json

import av
import numpy as np
import pytest
import soundfile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_stabletoken import make, speech

import zoo
from zoo.cli import main
from zoo.components.windows import Chunking, cut, whole_tokens
from zoo.data.audio import change_rate, read_audio
from zoo.errors import ConfigError, InputError

SEGMENT = 32_000  # samples, 2 s, 50 tokens of the tiny model
TINY_CHUNKS = {"chunk": 0.4, "left": 0.2, "right": 0.12}


def counted(tokens):
    return [int(length) for length in tokens.lengths]


def joined(chunks):
    return [number for tokens in chunks for number in tokens.tolist()[0]]


def in_blocks(wave, *sizes):
    """Yield consecutive blocks of the wave, of these sizes in turn."""
    start, turn = 0, 0
    while start < len(wave):
        size = sizes[turn % len(sizes)]
        yield wave[start : start + size]
        start, turn = start + size, turn + 1


def speech_of(path):
    return soundfile.read(path, dtype="float32")[0]


class TestCut:
    @pytest.mark.parametrize("longest", [1, 7, 50, 750])
    def test_every_token_is_kept_once(self, longest):
        for shared in {0, 1, longest // 4, longest // 2, longest - 1} - {longest}:
            for num_tokens in range(1, 314):  # 200,000 samples
                pieces = cut(num_tokens, longest, shared)
                assert [t for piece in pieces for t in range(piece.first, piece.last)] == list(range(num_tokens))
                assert all(0 <= p.start <= p.first < p.last <= p.stop <= num_tokens for p in pieces)
                assert all(p.stop - p.start <= longest for p in pieces)

    @given(num_tokens=st.integers(1, 20_000), shared=st.integers(1, 740))
    @settings(max_examples=100, deadline=None)
    def test_overlapping_pieces_are_whole_and_see_both_sides(self, num_tokens, shared):
        pieces = cut(num_tokens, 750, shared)
        for piece in pieces[1:]:
            assert piece.stop - piece.start == 750
            assert piece.first - piece.start >= shared // 2
        for piece in pieces[:-1]:
            assert piece.stop - piece.last >= (shared + 1) // 2
        assert [t for piece in pieces for t in range(piece.first, piece.last)] == list(range(num_tokens))

    def test_as_published(self):
        assert [piece[:2] for piece in cut(1960, 750)] == [(0, 750), (750, 1500), (1500, 1960)]

    @given(st.integers(1, 5000), st.integers(1, 400), st.integers(0, 100), st.integers(0, 100))
    @settings(max_examples=100, deadline=None)
    def test_chunks(self, num_tokens, size, left, right):
        number = -(-num_tokens // size)
        pieces = [Chunking(size, left, right).piece(k, num_tokens) for k in range(number)]
        assert [t for piece in pieces for t in range(piece.first, piece.last)] == list(range(num_tokens))
        assert all(piece.start == max(0, piece.first - left) for piece in pieces)
        assert all(piece.stop == min(num_tokens, piece.first + size + right) for piece in pieces)

    @pytest.mark.parametrize(("seconds", "tokens"), [(0, 0), (0.04, 1), (2.0, 50), (1.2, 30), (29.96, 749)])
    def test_seconds_are_whole_tokens(self, seconds, tokens):
        assert whole_tokens("overlap", seconds, 25.0) == tokens

    @pytest.mark.parametrize("seconds", [0.05, -0.04, float("nan"), float("inf"), "2", None, True])
    def test_other_seconds(self, seconds):
        with pytest.raises(ConfigError, match=r"overlap is in seconds, .* multiple of the 0\.04 s"):
            whole_tokens("overlap", seconds, 25.0)


class TestCounts:
    def test_every_length(self):
        tokenizer = make()
        for length in range(1, 200_001):
            assert tokenizer.num_tokens(length) == (length + 639) // 640

    @pytest.mark.parametrize(
        "length", [1, 639, 641, SEGMENT - 641, SEGMENT - 1, SEGMENT, SEGMENT + 1, 2 * SEGMENT, 100_001, 200_000]
    )
    def test_real_speech(self, length):
        tokenizer, wave = make(), speech(length)
        expected = -(-length // 640)
        for overlap in (0.0, 0.04, 0.6, 1.0):
            tokens = tokenizer.encode(wave, overlap=overlap)
            assert tokens.ids.shape == (1, expected)
            assert tokens.signal_lengths.tolist() == [length]
        chunks = list(tokenizer.encode_chunks(wave, **TINY_CHUNKS))
        assert sum(sum(counted(tokens)) for tokens in chunks) == expected
        assert sum(int(tokens.signal_lengths[0]) for tokens in chunks) == length
        assert all(counted(tokens) == [10] for tokens in chunks[:-1])

    def test_published_lengths(self, tmp_path, monkeypatch, capsys):
        # Of 52.4 s a peer loses 50 tokens.
        monkeypatch.chdir(tmp_path)
        tokenizer = make(max_positions=1500, num_layers=1, pooling_position=1)
        zoo.save(tokenizer, "model")
        lengths = {"a.wav": 838_400, "b.wav": 1_254_400, "c.wav": 160}
        for name, length in lengths.items():
            soundfile.write(name, 0.5 * speech(length).numpy(), 16000)
        expected = {"a.wav": 1310, "b.wav": 1960, "c.wav": 1}
        assert {name: counted(tokenizer.encode(name))[0] for name in expected} == expected
        first, second = (tokenizer.encode(speech_of("a.wav")[part]) for part in (slice(480_000), slice(480_000, None)))
        assert counted(first) + counted(second) == [750, 560]
        assert tokenizer.encode("a.wav").tolist()[0] == joined([first, second])
        for options, names in (([], expected), (["--overlap", "2"], ["a.wav"])):
            assert main(["encode", "model", *names, "-o", "x.zoo", "--overwrite", "--bits", "--json", *options]) == 0
            items = json.loads(capsys.readouterr().out)["per_item"]
            assert {item["name"]: item["tokens"] for item in items} == {name: expected[name] for name in names}

    @pytest.mark.parametrize("content", ["nothing", "no samples"])
    def test_empty_files(self, content, tmp_path, monkeypatch, capsys):
        monkeypatch.chdir(tmp_path)
        tokenizer = make()
        zoo.save(tokenizer, "model")
        if content == "nothing":
            (tmp_path / "empty.wav").write_bytes(b"")
        else:
            soundfile.write("empty.wav", np.zeros(0, np.float32), 16000)
        with pytest.raises(InputError, match=r"empty\.wav"):
            tokenizer.encode("empty.wav")
        with pytest.raises(InputError, match=r"is empty|holds no samples"):
            list(tokenizer.encode_chunks("empty.wav", **TINY_CHUNKS))
        assert main(["encode", "model", "empty.wav", "-o", "x.zoo"]) == 1
        assert "empty.wav" in capsys.readouterr().err
        assert not (tmp_path / "x.zoo").exists()


class TestOverlap:
    def test_middles_of_segments(self):
        tokenizer, wave = make(), speech(100_001)
        whole = tokenizer.encode(wave, overlap=0.8).tolist()[0]
        starts, borders = [0, 30, 60, 90, 107], [0, 40, 70, 100, 123, 157]
        parts = [tokenizer.encode(wave[640 * start : 640 * (start + 50)]).tolist()[0] for start in starts]
        assert whole == [
            number
            for start, first, last, part in zip(starts, borders, borders[1:], parts, strict=False)
            for number in part[first - start : last - start]
        ]
        assert whole != tokenizer.encode(wave).tolist()[0]

    def test_short_speech_stays_the_same(self):
        tokenizer, wave = make(), speech(SEGMENT)
        assert tokenizer.encode(wave, overlap=1.0).equal(tokenizer.encode(wave))

    def test_batch_and_padding_change_nothing(self):
        tokenizer = make()
        lengths = torch.tensor([70_000, 1, 33_000, 100_001, 640])
        batch = torch.stack([speech(110_000, seed) for seed in range(5)])
        together = tokenizer.encode(batch, lengths, overlap=0.6).tolist()
        before = torch.get_num_threads()
        try:
            for threads in (1, 2):
                torch.set_num_threads(threads)
                for wave, length, ids in zip(batch, lengths.tolist(), together, strict=True):
                    assert tokenizer.encode(wave[:length], overlap=0.6).tolist()[0] == ids
        finally:
            torch.set_num_threads(before)

    @pytest.mark.parametrize(("overlap", "message"), [(2.0, r"at most 1\.96 s"), (0.03, "multiple"), (-1, "0 or more")])
    def test_unusable(self, overlap, message):
        with pytest.raises(ConfigError, match=message):
            make().encode(speech(1000), overlap=overlap)

    def test_command_says_which_models_overlap(self, tmp_path, capsys):
        soundfile.write(tmp_path / "a.wav", speech(4000).numpy() / 2, 16000)
        zoo.save(make(), tmp_path / "model")
        command = ["encode", str(tmp_path / "model"), str(tmp_path / "a.wav"), "-o", str(tmp_path / "x.zoo")]
        assert main([*command, "--overlap", "5"]) == 1
        assert "at most 1.96 s" in capsys.readouterr().err
        sample = str(zoo.resources.path("zoo", "data", "samples", "metaworld_expert.npz"))
        assert main(["encode", "beast", sample, "-o", str(tmp_path / "x.zoo"), "--overlap", "1"]) == 2
        assert "--overlap" in capsys.readouterr().err


class TestChunks:
    def test_each_chunk_is_made_with_its_surroundings(self):
        tokenizer, wave = make(), speech(20_000)
        chunks = list(tokenizer.encode_chunks(wave, **TINY_CHUNKS))
        for number, tokens in enumerate(chunks):
            first = 10 * number
            start, stop = max(0, first - 5), first + 10 + 3
            ids = tokenizer.encode(wave[640 * start : 640 * stop]).tolist()[0]
            assert tokens.tolist()[0] == ids[first - start : first - start + 10]
            assert tokens.model == tokenizer.name

    def test_one_chunk_is_what_encode_gives(self):
        tokenizer, wave = make(), speech(SEGMENT)
        (tokens,) = tokenizer.encode_chunks(wave, chunk=2.0, left=0, right=0)
        assert tokens.equal(tokenizer.encode(wave))

    @pytest.mark.parametrize("sizes", [(11,), (7, 6400), (640,), (0, 15_000), (8320,)])
    def test_blocks_change_nothing(self, sizes):
        tokenizer, wave = make(), speech(20_000)
        expected = list(tokenizer.encode_chunks(wave, **TINY_CHUNKS))
        found = list(tokenizer.encode_chunks(in_blocks(wave, *sizes), **TINY_CHUNKS))
        assert [tokens.tolist() for tokens in found] == [tokens.tolist() for tokens in expected]

    def test_tokens_come_as_soon_as_they_can(self):
        tokenizer, wave = make(), speech(20_000)
        arrived = 0

        def stream():
            nonlocal arrived
            for block in in_blocks(wave, 640):
                arrived += len(block)
                yield block

        chunks = tokenizer.encode_chunks(stream(), **TINY_CHUNKS)
        assert arrived == 0
        # The second and third lack nothing once 23 and 33 tokens' samples are there, of which there are 32 at the end.
        assert [arrived for _ in chunks] == [13 * 640, 23 * 640, 20_000, 20_000]

    def test_files(self, tmp_path):
        tokenizer, wave = make(), 0.5 * speech(40_000)
        soundfile.write(tmp_path / "a.flac", wave.numpy(), 16000)
        read = soundfile.read(tmp_path / "a.flac", dtype="float32")[0]
        expected = joined(tokenizer.encode_chunks(torch.from_numpy(read), **TINY_CHUNKS))
        assert joined(tokenizer.encode_chunks(tmp_path / "a.flac", **TINY_CHUNKS)) == expected
        soundfile.write(tmp_path / "two.wav", np.stack([read, read], 1), 16000)
        with pytest.raises(InputError, match="mix_down"):
            tokenizer.encode_chunks(tmp_path / "two.wav", **TINY_CHUNKS)
        assert joined(tokenizer.encode_chunks(tmp_path / "two.wav", **TINY_CHUNKS, mix_down=True)) == expected
        soundfile.write(tmp_path / "slow.wav", read, 8000)
        with pytest.raises(InputError, match="8000 Hz"):
            tokenizer.encode_chunks(tmp_path / "slow.wav", **TINY_CHUNKS)
        data = (tmp_path / "two.wav").read_bytes()
        (tmp_path / "cut.wav").write_bytes(data[: len(data) // 2])
        with pytest.raises(InputError, match="truncated"):
            list(tokenizer.encode_chunks(tmp_path / "cut.wav", **TINY_CHUNKS, mix_down=True))

    def test_s5_whatever_encode_reads(self, tmp_path):
        tokenizer = make()
        soundfile.write(tmp_path / "a.wav", 0.5 * speech(110_250).numpy(), 44100)
        with av.open(str(tmp_path / "a.m4a"), "w", format="ipod") as out:
            stream = out.add_stream("aac", rate=44100, layout="mono")
            frame = av.AudioFrame.from_ndarray(0.5 * speech(110_250)[None].numpy(), format="fltp", layout="mono")
            frame.sample_rate = 44100
            out.mux(stream.encode(frame))
            out.mux(stream.encode(None))
        for name in ("a.wav", "a.m4a"):
            wave, rate = read_audio(tmp_path / name)
            expected = joined(tokenizer.encode_chunks(change_rate(wave[0], rate, 16000), **TINY_CHUNKS))
            data = (tmp_path / name).read_bytes()
            mapping = {"array": wave[0].numpy(), "sampling_rate": rate, "path": None}
            with (tmp_path / name).open("rb") as file:
                for x in (tmp_path / name, data, file, (wave[0], rate), mapping, {"bytes": data, "path": name}):
                    found = joined(tokenizer.encode_chunks(x, **TINY_CHUNKS, resample=True))
                    assert len(found) == tokenizer.encode(tmp_path / name, resample=True).lengths.item()
                    # Blocks are resampled as the whole is, up to a rounding, which hardly ever decides over an id.
                    assert sum(a != b for a, b in zip(found, expected, strict=True)) <= 1
                    file.seek(0)
                    with pytest.raises(InputError, match="resample=True"):
                        list(tokenizer.encode_chunks(x, **TINY_CHUNKS))

    def test_b2_cut_and_joined_mp3(self, tmp_path):
        tokenizer, path = make(), tmp_path / "a.mp3"
        soundfile.write(path, 0.3 * np.sin(0.07 * np.arange(16000 * 3)), 16000)
        data = path.read_bytes()
        assert sum(int(part.lengths) for part in tokenizer.encode_chunks(data * 2, **TINY_CHUNKS)) == 150
        for cut_file in (data[: len(data) * 6 // 10], data + data[: len(data) * 6 // 10]):
            with pytest.raises(InputError, match="truncated"):
                tokenizer.encode(cut_file)
            with pytest.raises(InputError, match="truncated"):
                list(tokenizer.encode_chunks(cut_file, **TINY_CHUNKS))

    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            ([], "no speech"),
            ([torch.zeros(0)], "no speech"),
            ([torch.zeros(700), torch.full((9,), torch.nan)], "NaN"),
            ([torch.zeros(2, 700)], "shape"),
            (torch.zeros(2, 700), "shape"),
            ([0.5, 0.25], "float"),
            ("nowhere.wav", "nowhere.wav"),
        ],
    )
    def test_bad_input(self, bad, message):
        with pytest.raises(InputError, match=message):
            list(make().encode_chunks(bad, **TINY_CHUNKS))

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"chunk": 0.0}, "chunk must be more than 0"),
            ({"chunk": 1.0, "left": 1.0, "right": 0.04}, "at most 2 s"),
            ({"left": 0.01}, "left is in seconds"),
        ],
    )
    def test_unusable_seconds(self, options, message):
        with pytest.raises(ConfigError, match=message):
            make().encode_chunks(speech(1000), **{**TINY_CHUNKS, **options})
