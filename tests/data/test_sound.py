"""What a sound file's header says, and what is there: joined, cut and streamed files of every container."""

from __future__ import annotations

import io
import struct

import pytest
import soundfile
import torch
from sounds import COUNT, RATE, muxed, samples

from zoo.data.audio import read_audio
from zoo.data.blocks import read_blocks
from zoo.errors import InputError


def written(kind, subtype=None, rate=RATE, wave=None):
    file = io.BytesIO()
    soundfile.write(file, samples() if wave is None else wave, rate, format=kind, subtype=subtype)
    return file.getvalue()


def changed(data, at, value):
    return data[:at] + value + data[at + len(value) :]


def index_of(mp3):
    return max(mp3.find(b"Info"), mp3.find(b"Xing")) + 8


def both(data):
    """Return what reading at once gives, after reading in blocks has given the same."""
    wave, rate = read_audio(data)
    blocks = torch.cat(list(read_blocks(data, sample_rate=rate, mix_down=True)))
    assert torch.equal(blocks, wave.mean(0))
    return wave, rate


def refused(data, match):
    with pytest.raises(InputError, match=match):
        read_audio(data)
    with pytest.raises(InputError, match=match):
        list(read_blocks(data, sample_rate=RATE, mix_down=True))


WRITTEN = {
    "wav": lambda: written("WAV"),
    "wav-float": lambda: written("WAV", "FLOAT"),
    "wav-adpcm": lambda: written("WAV", "MS_ADPCM"),
    "rf64": lambda: written("RF64"),
    "w64": lambda: written("W64"),
    "aiff": lambda: written("AIFF"),
    "au": lambda: written("AU"),
    "caf": lambda: written("CAF"),
    "voc": lambda: written("VOC"),
    "nist": lambda: written("NIST"),
    "nist-alaw": lambda: written("NIST", "ALAW"),
    "flac": lambda: written("FLAC"),
    "vorbis": lambda: written("OGG", "VORBIS"),
    "opus": lambda: written("OGG", "OPUS"),
    "mp3": lambda: written("MP3"),
    "mp3-no-index": lambda: muxed("mp3", "libmp3lame", options={"write_xing": "0"}),
    "mp3-vbr-no-index": lambda: muxed(
        "mp3", "libmp3lame", options={"write_xing": "0"}, flags="+qscale", global_quality="400"
    ),
    "mp2": lambda: muxed("mp2", "mp2"),
    "aac": lambda: muxed("adts", "aac"),
    "ac3": lambda: muxed("ac3", "ac3", rate=48000),
    "m4a": lambda: muxed("ipod", "aac"),
    "m4a-faststart": lambda: muxed("ipod", "aac", options={"movflags": "faststart"}),
    "mp4-fragments": lambda: muxed("mp4", "aac", options={"movflags": "frag_keyframe+empty_moov+default_base_moof"}),
    "mka": lambda: muxed("matroska", "aac"),
    "webm": lambda: muxed("webm", "libopus", rate=48000),
    "webm-live": lambda: muxed("webm", "libopus", rate=48000, options={"live": "1"}),
    "ogg-flac": lambda: muxed("ogg", "flac"),
    "ts": lambda: muxed("mpegts", "aac"),
    "ts-mp2": lambda: muxed("mpegts", "mp2"),
    "avi": lambda: muxed("avi", "pcm_s16le"),
    "avi-mp3": lambda: muxed("avi", "libmp3lame"),
    "voc-blocks": lambda: muxed("voc", "pcm_s16le"),
}
every_kind = pytest.mark.parametrize("kind", WRITTEN)


@every_kind
def test_b2_joined_files_are_read_to_their_end(kind):
    data = WRITTEN[kind]()
    one, rate = both(data)
    assert COUNT <= one.shape[1] <= COUNT + 3200
    three, joined_rate = both(data * 3)
    assert joined_rate == rate
    if kind in ("mp3-no-index", "mp3-vbr-no-index", "mp2", "aac", "ac3", "ts", "ts-mp2"):
        # One stream for the decoder, which smooths over where they meet, as a player does.
        assert three.shape[1] == 3 * one.shape[1]
        assert torch.allclose(three[:, : one.shape[1] - 2400], one[:, :-2400], atol=1e-5)
    else:
        assert torch.equal(three, one.repeat(1, 3))


@every_kind
@pytest.mark.parametrize(
    "tail",
    [
        b"TAG" + bytes(range(1, 126)),
        b"APETAGEX" + struct.pack("<IIII8x", 2000, 60, 1, 0xA0000000) + b"x" * 28 + b"APETAGEX" + bytes(24),
        b"ID3\4\0\0\0\0\0\x20" + b"\xff\xfb" * 16,
        bytes(5000),
        b"junk" * 9,
    ],
    ids=["id3v1", "ape", "id3v2", "zeros", "junk"],
)
def test_tags_behind_the_sound_are_no_sound(kind, tail):
    data = WRITTEN[kind]()
    assert torch.equal(read_audio(data + tail)[0], read_audio(data)[0])


@every_kind
@pytest.mark.parametrize("kept", [0.43, 0.61, 0.97])
def test_x8_cut_files_are_refused(kind, kept):
    data = WRITTEN[kind]()
    refused(data[: int(len(data) * kept)], r"truncated")


RARE = {
    **{kind.lower(): lambda kind=kind: written(kind) for kind in ("AVR", "MAT4", "MAT5", "MPC2K", "SDS", "SVX")},
    "wve": lambda: written("WVE", "ALAW", 8000),
    "asf": lambda: muxed("asf", "pcm_s16le"),
    "asf-mp3": lambda: muxed("asf", "libmp3lame", rate=44100),
    "flv": lambda: muxed("flv", "aac", rate=44100),
    "sox": lambda: muxed("sox", "pcm_s32le"),
    "nut": lambda: muxed("nut", "pcm_s16le"),
    "nut-mp3": lambda: muxed("nut", "libmp3lame"),
    "swf": lambda: muxed("swf", "libmp3lame", rate=44100),
    "smjpeg": lambda: muxed("smjpeg", "pcm_s16le"),
    "adx": lambda: muxed("adx", "adpcm_adx"),
    "ast": lambda: muxed("ast", "pcm_s16be_planar"),
    "gxf": lambda: muxed("gxf", "pcm_s16le", rate=48000),
    "xi-of-a-tracker": lambda: changed(written("XI"), 298, (2 * COUNT).to_bytes(4, "little")),
}
ENDLESS = {
    "ircam": (lambda: written("IRCAM"), 2),
    "ircam-float": (lambda: written("IRCAM", "FLOAT", wave=samples(channels=2)), 8),
    "paf": (lambda: written("PAF"), 2),
    "pvf": (lambda: written("PVF"), 2),
    "pvf-wide": (lambda: written("PVF", "PCM_32"), 4),
    "xi": (lambda: written("XI"), 2),
}


@pytest.mark.parametrize("kind", RARE)
def test_x8_cut_files_of_rare_kinds_are_refused(kind):
    data = RARE[kind]()
    one, _ = both(data)
    assert COUNT <= one.shape[1] <= COUNT + (9000 if kind == "gxf" else 3200)  # of fields as long as a television's
    for kept in (len(data) * 6 // 10, len(data) - 2):
        refused(data[:kept], "truncated")
    assert torch.equal(both(data * 2)[0], one.repeat(1, 2))


@pytest.mark.parametrize(("kind", "codec"), [("mpeg", "mp2"), ("vob", "ac3"), ("rm", "ac3"), ("wtv", "mp2")])
def test_x8_streams_of_television_and_of_the_web(kind, codec):
    data = muxed(kind, codec, rate=48000)
    one, _ = both(data)
    joined, _ = both(data * 2)
    assert joined.shape == (1, 2 * one.shape[1])
    if kind in ("rm", "wtv"):  # files of their own; packs of the others begin anew
        assert torch.equal(joined, one.repeat(1, 2))
    for kept in (len(data) * 43 // 100, len(data) * 6 // 10, len(data) - 12):
        if kind != "wtv" or kept < len(data) - 12:  # at whose end are tables
            refused(data[:kept], "truncated")


@pytest.mark.parametrize("kind", ENDLESS)
def test_x8_files_that_state_no_length(kind):
    """They are read to their end, or to where the next begins; half a sample at the end is seen to be no whole one."""
    make, frame = ENDLESS[kind]
    data = make()
    one, _ = both(data)
    assert one.shape[1] == COUNT
    assert torch.equal(both(data[: -100 * frame])[0], one[:, :-100])
    refused(data[:-1], f"its last sample has {frame - 1} of {frame} bytes")
    if kind != "xi":  # of which a sample is the difference to the one before
        assert torch.equal(both(data * 3)[0], one.repeat(1, 3))


def test_b2_four_seconds_of_mp3_pieces():
    pieces = [written("MP3", wave=samples(RATE, hertz)) for hertz in (200, 400, 800, 1600)]
    wave, rate = both(b"".join(pieces))
    assert wave.shape == (1, 4 * rate)
    for number, hertz in enumerate((200, 400, 800, 1600)):
        spectrum = torch.fft.rfft(wave[0, number * rate : (number + 1) * rate]).abs()
        assert int(spectrum.argmax()) == hertz


@pytest.mark.parametrize("stated", [0, 1, 10, 40])
def test_b2_an_mp3_index_that_counts_too_few(stated):
    data = written("MP3")
    wrong = changed(data, index_of(data), stated.to_bytes(4, "big"))
    wave = both(wrong)[0]
    frames = int.from_bytes(data[index_of(data) : index_of(data) + 4], "big")
    assert wave.shape == (1, 576 * frames)  # all frames, with the silence that only the index tells from sound
    spectrum = torch.fft.rfft(wave[0, 4000 : 4000 + RATE]).abs()
    assert int(spectrum.argmax()) == 220


def test_b2_an_mp3_index_that_counts_too_many():
    data = written("MP3")
    refused(changed(data, index_of(data), (500).to_bytes(4, "big")), r"its index counts 500 frames, and \d+ of them")


def test_b2_a_later_piece_that_is_cut():
    data = written("MP3")
    refused(data + data[: len(data) // 2], "truncated")
    refused(data[: len(data) // 2] + data, "truncated")


@pytest.mark.parametrize("kind", ["WAV", "FLAC", "OGG", "MP3", "AIFF"])
def test_parts_of_different_rates_are_refused(kind):
    data = written(kind) + written(kind, rate=8000)
    with pytest.raises(InputError, match=r"begins with 16000 Hz and 1 channel\(s\), and part 2 of 2 .* has 8000 Hz"):
        read_audio(data)
    stereo = written(kind) + written(kind, wave=samples(channels=2))
    with pytest.raises(InputError, match=r"part 2 of 2 .* has 16000 Hz and 2 channel"):
        read_audio(stereo)


@pytest.mark.parametrize("stated", [0, 10, 1000, COUNT - 1])
@pytest.mark.parametrize("front", [b"", b"ID3\4\0\0\0\0\0\x20" + bytes(32)])
def test_b4_flac_of_unknown_or_too_small_length(stated, front):
    data = written("FLAC")
    expected = read_audio(data)[0]
    wrong = changed(data, 21, (data[21] & 0xF0).to_bytes(1, "big") + stated.to_bytes(4, "big") + bytes(16))
    assert torch.equal(both(front + wrong)[0], expected)
    assert torch.equal(both(wrong * 2)[0], expected.repeat(1, 2))
    if stated == 0:
        refused(wrong[: len(wrong) // 2], "truncated")


def test_b4_flac_that_states_too_many():
    data = written("FLAC")
    wrong = changed(data, 22, (90000).to_bytes(4, "big"))
    refused(wrong, f"states 90000 samples, and {COUNT} of them are there")


@pytest.mark.parametrize("stated", [0, 0x7FFFF000, 0xFFFFFFFF])
@pytest.mark.parametrize("outer", [True, False])
def test_wav_of_unknown_length(stated, outer):
    data = written("WAV")
    wrong = changed(data, 40, stated.to_bytes(4, "little"))
    wrong = changed(wrong, 4, (stated + 36 & 0xFFFFFFFF).to_bytes(4, "little")) if outer else wrong
    expected = read_audio(data)[0]
    assert torch.equal(both(wrong)[0], expected)
    assert torch.equal(both(wrong * 3)[0], expected.repeat(1, 3))  # answers of a server, put together


CHUNK = b"LIST" + (5).to_bytes(4, "little") + b"INFO "


def test_wav_with_other_chunks_about_the_sound():
    data = written("WAV")
    expected = read_audio(data)[0]
    for odd in (data[:36] + CHUNK + b"\0" + data[36:], data + CHUNK + b"\0", data + CHUNK):
        assert torch.equal(both(odd)[0], expected)
    bytes_8 = written("WAV", "PCM_U8")[: 44 + COUNT]
    expected = read_audio(bytes_8)[0]
    for odd in (bytes_8, bytes_8 + b"\0", bytes_8 + b"\0" + CHUNK, bytes_8 + CHUNK):
        assert torch.equal(both(odd)[0], expected)
    empty = changed(data[:44], 40, bytes(4)) + CHUNK + b"\0"
    with pytest.raises(InputError, match="holds no samples"):
        read_audio(empty)


@pytest.mark.parametrize("kind", ["WAV", "AIFF", "AU", "CAF", "W64", "RF64", "NIST"])
def test_headers_that_state_too_little_are_refused(kind):
    data = written(kind)
    at, width, order = {
        "WAV": (40, 4, "little"),
        "AIFF": (data.find(b"SSND") + 4, 4, "big"),
        "AU": (8, 4, "big"),
        "CAF": (data.find(b"data") + 4, 8, "big"),
        "W64": (data.find(b"data") + 16, 8, "little"),
        "RF64": (data.find(b"ds64") + 16, 8, "little"),
        "NIST": (data.find(b"24007"), 5, ""),
    }[kind]
    value = (4000).to_bytes(width, order) if order else b"02000"
    data = changed(data, data.find(b"data") + 4, b"\xff" * 4) if kind == "RF64" else data
    refused(changed(data, at, value), r"states \d+ bytes of sound, and after what it states \d+ more bytes follow")


@pytest.mark.parametrize("frames", [0, 100, 900_000])
def test_aiff_frames_are_those_of_its_sound(frames):
    data = written("AIFF")
    wrong = changed(data, data.find(b"COMM") + 10, frames.to_bytes(4, "big"))
    assert torch.equal(both(wrong)[0], read_audio(data)[0])


def test_sound_in_several_chunks_of_wav_is_refused():
    data = written("WAV")
    refused(data + data[36:], "another chunk of 48014 bytes of sound")


@pytest.mark.parametrize(
    ("kind", "subtype"),
    [
        ("WAV", "GSM610"),
        ("WAV", "G721_32"),
        ("WAV", "NMS_ADPCM_32"),
        ("AIFF", "GSM610"),
        ("AIFF", "DWVW_16"),
        ("W64", "GSM610"),
        ("AU", "G723_24"),
    ],
)
def test_b13_codecs_that_cannot_seek(kind, subtype):
    wave, rate = both(written(kind, subtype))
    assert rate == RATE
    assert COUNT <= wave.shape[1] < COUNT + 320
    assert (wave[0, :COUNT] - torch.from_numpy(samples()[:, 0])).abs().max() < 0.25


def test_mp3_inside_wav_is_whole():
    wave, rate = both(muxed("wav", "libmp3lame"))
    assert (rate, wave.shape[0]) == (RATE, 1)
    assert COUNT <= wave.shape[1] < COUNT + 3000


@pytest.mark.parametrize("at", [*range(20, 36)])
def test_headers_that_ask_for_all_memory(at):
    for data in (written("WAV"), written("CAF"), written("AU"), written("FLAC")):
        for value in (b"\xff\xff\xff\x7f", b"\x7f\xff\xff\xff"):
            try:
                wave, _ = read_audio(changed(data, at, value))
            except InputError:
                continue
            assert wave.numel() <= 8 * len(data)


def test_a_stretch_is_that_of_the_whole():
    for kind in ("WAV", "FLAC", "OGG", "MP3"):
        data = written(kind)
        whole = read_audio(data)[0]
        for offset, duration in ((0.0, 0.5), (0.3, 0.7), (1.2, None), (0.25, 1.25)):
            last = COUNT if duration is None or offset + duration == 1.5 else round((offset + duration) * RATE)
            found = read_audio(data, offset=offset, duration=duration)[0]
            expected = whole[:, round(offset * RATE) : min(last, round(offset * RATE) + round((duration or 9) * RATE))]
            assert torch.equal(found, expected), (kind, offset, duration)
        for offset, duration in ((0.0, 1.6), (1.0, 0.6), (2.0, 1.0), (2.0, None)):
            with pytest.raises(InputError, match=r"is not within the sound, which is 1\.50044 s long"):
                read_audio(data, offset=offset, duration=duration)
        for offset, duration in ((-1.0, None), (float("nan"), None), (0.0, 0.0), (0.0, float("inf"))):
            with pytest.raises(InputError, match="must be at least"):
                read_audio(data, offset=offset, duration=duration)


@pytest.mark.parametrize(("rate", "new_rate"), [(44100, 16000), (8000, 16000), (48000, 16000), (22050, 24000)])
def test_s5_blocks_are_resampled_as_the_whole_is(rate, new_rate):
    wave = samples(3 * (1 << 16) + 77)
    data = written("WAV", "FLOAT", rate, wave)
    whole = read_audio(data, sample_rate=new_rate)[0][0]
    blocks = list(read_blocks(data, sample_rate=new_rate, resample=True))
    assert len(blocks) > 2
    found = torch.cat(blocks)
    assert found.shape == whole.shape
    assert (found - whole).abs().max() < 1e-5
    with pytest.raises(InputError, match="resample=True"):
        read_blocks(data, sample_rate=new_rate)


def test_blocks_stop_where_the_reader_stops(tmp_path):
    path = tmp_path / "a.wav"
    path.write_bytes(written("WAV", wave=samples(20 * RATE)))
    blocks = read_blocks(path, sample_rate=RATE)
    assert max(len(next(blocks)) for _ in range(3)) <= 1 << 16
    del blocks  # an open file would warn, and warnings are errors
