"""What a video family gets from its base: windows, so that videos of any length are encoded, and decoded as long."""

import pytest
import torch
import toy
from clips import encoded
from PIL import Image

from zoo.data.media import read_video
from zoo.errors import InputError, TokenError
from zoo.modalities import VideoTokenizer
from zoo.testing import check_tokenizer

SIZE = (16, 8, 8)
COUNT = 16 * 2 * 2  # tokens of a window


@pytest.fixture
def tokenizer():
    return toy.make("video", size=SIZE)


def video(frames, seed=0):
    return torch.rand(3, frames, 8, 8, generator=torch.Generator().manual_seed(seed))


class Tubes(toy.ToyVideo):
    """One that takes windows of fewer frames as they are, if four make them up; it has as many tokens of them."""

    family = "test_tubes"
    seen: list

    @property
    def frame_multiple(self):
        return 4

    def vectors(self, pixels):
        self.seen.append(pixels.shape[2])
        return super().vectors(torch.nn.functional.pad(pixels, (0, 0, 0, 0, 0, SIZE[0] - pixels.shape[2])))

    def window_pixels(self, vectors, num_frames):
        self.seen.append(num_frames)
        return self.pixels(vectors)[:, :, :num_frames]


@pytest.mark.parametrize("frames", [1, 2, 15, 16, 17, 32, 40])
def test_as_many_frames_come_back_as_went_in(tokenizer, frames):
    clip = video(frames)
    tokens = tokenizer.encode(clip)
    windows = -(-frames // 16)
    assert tokens.ids.shape == (1, windows * COUNT, 2)
    assert tokens.lengths.tolist() == [tokenizer.num_tokens(frames)] == [windows * COUNT]
    assert tokens.signal_lengths.tolist() == tokenizer.output_lengths(tokens).tolist() == [frames]
    assert tokens.grid == ((16, 2, 2) if windows == 1 else None)
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == (1, 3, frames, 8, 8)
    whole = torch.cat([clip, clip[:, -1:].expand(-1, windows * 16 - frames, -1, -1)], 1)
    for number, part in enumerate(whole.split(16, 1)):
        alone = tokenizer.encode(part)
        assert torch.equal(tokens.ids[:, number * COUNT : (number + 1) * COUNT], alone.ids), "a window is on its own"
        last = min(16, frames - number * 16)
        assert torch.equal(decoded[:, :, number * 16 : number * 16 + last], tokenizer.decode(alone)[:, :, :last])


def test_videos_of_different_lengths_are_one_batch(tokenizer):
    clips = [video(17), video(1, 1), video(40, 2)]
    tokens = tokenizer.encode(clips)
    assert tokens.lengths.tolist() == [2 * COUNT, COUNT, 3 * COUNT]
    decoded = tokenizer.decode(tokens)
    assert decoded.shape == (3, 3, 40, 8, 8)
    for row, clip in enumerate(clips):
        alone = tokenizer.encode(clip)
        assert torch.equal(tokens[row].ids, alone.ids)
        frames = clip.shape[1]
        assert torch.equal(decoded[row, :, :frames], tokenizer.decode(alone)[0])
        assert not decoded[row, :, frames:].any()


def test_the_contract_with_videos_of_different_lengths(tokenizer, tmp_path):
    with toy.registered(toy.ToyVideo):
        check_tokenizer(tokenizer, [video(17), video(3, 1), video(16, 2)], tmp_path)


def test_fast_mode_gives_the_same_of_several_windows(tokenizer):
    clips = [video(17), video(40, 2)]
    exact = tokenizer.encode(clips)
    tokenizer.is_exact = False
    assert torch.equal(tokenizer.encode(clips).ids, exact.ids)


@pytest.mark.parametrize("frames", [1, 4, 5, 16, 18])
def test_windows_of_fewer_frames(frames):
    tokenizer = Tubes(toy.VideoConfig(size=SIZE)).eval()
    tokenizer.seen = []
    tokens = tokenizer.encode(video(frames))
    decoded = tokenizer.decode(tokens)
    last = -(-((frames - 1) % 16 + 1) // 4) * 4
    expected = [16] * ((frames - 1) // 16) + [last]
    assert tokenizer.seen == expected * 2, "encoded, and decoded"
    assert tokens.lengths.tolist() == [len(expected) * COUNT]
    assert decoded.shape[2] == frames


def test_a_picture_is_no_video_unless_it_is_said_to_be(tokenizer):
    picture = Image.new("RGB", (8, 8), "red")
    with pytest.raises(InputError, match=r"a list of PIL images"):
        tokenizer.encode(picture)
    with pytest.raises(InputError, match="a clip of one frame"):
        tokenizer.encode(torch.zeros(3, 8, 8))
    assert tokenizer.encode([picture]).signal_lengths.tolist() == [1]


def test_a_stream_is_encoded_window_by_window(tokenizer):
    clip = video(40)
    whole = tokenizer.encode(clip)
    taken = []

    def blocks(sizes):
        for part in clip.split(sizes, 1):
            taken.append(part.shape[1])
            yield part

    for sizes in ([1] * 40, [16, 16, 8], [33, 7], [40]):
        parts = list(tokenizer.encode_chunks(blocks(sizes)))
        assert [int(part.signal_lengths) for part in parts] == [16, 16, 8]
        assert torch.equal(torch.cat([part.ids for part in parts], 1), whole.ids)
        assert tokenizer.encode_stream(blocks(sizes)).equal(whole)
    taken.clear()
    next(tokenizer.encode_chunks(blocks([1] * 40)))
    assert len(taken) == 16, "what comes later is not read yet"
    assert tokenizer.encode_stream(clip).equal(whole)
    with pytest.raises(InputError, match="the stream is empty"):
        tokenizer.encode_stream([])
    with pytest.raises(InputError, match=r"consecutive videos \(3, t, H, W\)"):
        tokenizer.encode_stream([torch.zeros(3, 8, 8)])


def test_a_file_is_a_stream(tmp_path):
    tokenizer = toy.make("video", size=(4, 32, 32))
    (tmp_path / "a.mp4").write_bytes(encoded(10))
    clip, _ = read_video(tmp_path / "a.mp4")
    assert tokenizer.encode_stream(tmp_path / "a.mp4").equal(tokenizer.encode(clip))
    every_other = tokenizer.encode(read_video(tmp_path / "a.mp4", frame_rate=5)[0])
    assert tokenizer.encode_stream(tmp_path / "a.mp4", frame_rate=5).equal(every_other)


def test_tokens_are_decoded_window_by_window(tokenizer):
    tokens = tokenizer.encode([video(40), video(3)])
    parts = list(tokenizer.decode_chunks(tokens[0]))
    assert [part.shape[1] for part in parts] == [16, 16, 8]
    assert torch.equal(torch.cat(parts, 1), tokenizer.decode(tokens[0])[0])
    with pytest.raises(TokenError, match="pass tokens"):
        next(tokenizer.decode_chunks(tokens))


def test_tokens_that_are_no_windows(tokenizer):
    tokens = tokenizer.encode(video(17))
    with pytest.raises(TokenError, match=f"decodes whole windows of {COUNT} tokens.* got {COUNT + 1} tokens"):
        tokenizer.decode(tokens[:, : COUNT + 1])
    assert tokenizer.decode(tokens.ids).shape[2] == 32, "bare ids are of whole windows"
    for frames in (16, 33):
        wrong = type(tokens).from_ids(
            tokens.ids, codebook_size=tokens.codebook_size, signal_lengths=[frames], model=tokens.model
        )
        with pytest.raises(TokenError, match=f"got {2 * COUNT} tokens of {frames} frames"):
            tokenizer.decode(wrong)


def test_one_without_a_number_of_frames_takes_each_video_as_a_window():
    class Free(toy.ToyVideo):
        family = "test_free"

        def __init__(self, config):
            super().__init__(config)
            self.spec = type(self.spec)("video", config.codebook_size, 2, input_size=config.size[-2:])

    tokenizer = Free(toy.VideoConfig(size=SIZE)).eval()
    assert isinstance(tokenizer, VideoTokenizer)
    assert tokenizer.window is None
    tokens = tokenizer.encode([video(3), video(5)])
    assert tokens.lengths.tolist() == [12, 20]
    assert tokens.signal_lengths.tolist() == [3, 5]
    assert tokenizer.encode_stream([video(3), video(2)]).signal_lengths.tolist() == [5]
