"""Decoding of long speech: in pieces, whose time and memory grow no faster than the length."""

import dataclasses
import itertools

import pytest
import torch
from tiny_stabletoken import TINY, TINY_DECODER, make_decoder, seeded, some_ids

from zoo.components.windows import Windows
from zoo.data.audio import change_rate
from zoo.errors import InputError
from zoo.families.stabletoken import StableTokenTokenizer


def in_pieces(decoder):
    """Make a decoder's windows so small that a test is long speech."""
    decoder.flow.windows, decoder.flow.history = Windows(48, 16, 4), 8
    decoder.vocoder.piece_frames = 2 * decoder.vocoder.reach
    return decoder


def seen(module, sizes, dim):
    """Note how much a module is given."""
    module.register_forward_pre_hook(lambda _, inputs: sizes.append(inputs[0].shape[dim]))


@torch.no_grad()
def decode(decoder, ids, **options):
    return decoder(ids, steps=1, guidance=0.0, **options)


def test_s1_work_grows_with_the_length_and_pieces_do_not():
    decoder = in_pieces(make_decoder())
    velocity, encoder, pre = [], [], []
    seen(decoder.flow.velocity, velocity, 2)
    seen(decoder.flow.encoder, encoder, 1)
    seen(decoder.vocoder.pre, pre, 2)
    totals = []
    for count in (100, 400):
        for sizes in (velocity, encoder, pre):
            sizes.clear()
        wave = decode(decoder, some_ids(count))
        assert wave.shape == (decoder.config.num_samples(count),)
        assert max(velocity) <= 48
        assert max(encoder) <= 48 * 128 / 441 + 8 + 3 * 4  # with history, and whole blocks
        assert max(pre) <= 4 * decoder.vocoder.reach
        totals.append([sum(velocity), sum(encoder), sum(pre)])
    assert all(more < 4.6 * few for few, more in zip(*totals, strict=True))


def test_s1_what_fits_one_window_is_made_at_once():
    decoder = make_decoder()
    ids = some_ids(100)
    expected = decode(decoder, ids)
    decoder.flow.windows = Windows(10**6, 10, 1)
    decoder.flow.history = 10**6
    decoder.vocoder.piece_frames = 10**6
    assert torch.equal(decode(decoder, ids), expected)
    assert not torch.equal(decode(in_pieces(decoder), ids), expected)


def test_s1_the_same_noise_at_the_same_place():
    """Windows differ by what they see, not by their noise: networks that see nothing make the same in them."""
    whole, pieces = (make_decoder() for _ in range(2))
    pieces.flow.windows = Windows(48, 16, 4)
    spectra = []
    for decoder in (whole, pieces):
        for parameter in decoder.flow.velocity.out.parameters():
            parameter.data.zero_()
        with torch.no_grad():
            spectra.append(decoder.flow(some_ids(60), steps=2, guidance=0.0, generator=seeded(3)))
    assert spectra[0].std() > 0.5
    torch.testing.assert_close(*spectra)


def test_s1_a_wave_is_a_function_of_tokens_and_generator():
    decoder = in_pieces(make_decoder())
    ids = some_ids(90)
    first = decode(decoder, ids, generator=seeded(1))
    assert torch.equal(decode(decoder, ids, generator=seeded(1)), first)
    assert not torch.allclose(decode(decoder, ids, generator=seeded(2)), first, atol=1e-3)


def test_s1_a_change_is_heard_in_its_window_alone():
    decoder = in_pieces(make_decoder())
    ids = some_ids(300)
    other = ids.clone()
    other[10] = (other[10] + 1) % 64
    with torch.no_grad():
        spectra = [decoder.flow(each, steps=1, guidance=0.0, generator=seeded(0)) for each in (ids, other)]
    changed = (spectra[0] != spectra[1]).any(0).nonzero()[:, 0]
    assert changed.min() < 48
    # Tokens that look back see it, and the windows of these.
    assert changed.max() < 10 * 441 / 128 + 8 * 441 / 128 + 4 * 48


def test_s1_items_of_a_batch_are_what_they_are_alone():
    torch.manual_seed(0)
    config = dataclasses.replace(TINY, decoder=TINY_DECODER)
    tokenizer = StableTokenTokenizer(config).eval()
    in_pieces(tokenizer.decoder)
    items = [some_ids(count, seed=count) for count in (3, 90, 40)]
    ids = torch.nn.utils.rnn.pad_sequence(items, batch_first=True)
    lengths = torch.tensor([len(item) for item in items])
    together = tokenizer.decode(ids, lengths, generator=seeded(5), steps=1, guidance=0.0)
    for row, item in zip(together, items, strict=True):
        alone = tokenizer.decode(item[None], generator=seeded(5), steps=1, guidance=0.0)[0]
        assert torch.equal(row[: len(alone)], alone)
        assert not row[len(alone) :].any()


def test_what_is_no_generator_is_refused():
    tokenizer = StableTokenTokenizer(dataclasses.replace(TINY, decoder=TINY_DECODER)).eval()
    with pytest.raises(InputError, match=r"generator must be a torch\.Generator, got 3"):
        tokenizer.decode([[1]], generator=3)


def test_s1_pieces_are_resampled_as_the_whole_wave_is():
    torch.manual_seed(0)
    tokenizer = StableTokenTokenizer(dataclasses.replace(TINY, decoder=TINY_DECODER)).eval()
    in_pieces(tokenizer.decoder)
    ids = some_ids(90)[None]
    own = tokenizer.decode(ids, steps=1, sample_rate=22050)[0]
    assert len(list(tokenizer.decoder.pieces(ids[0], steps=1))) > 1
    for rate in (16000, 8000, 48000):
        wave = tokenizer.decode(ids, steps=1, sample_rate=rate)[0]
        heard = len(wave) - rate // 50  # what the vocoder made: at the end is less than a frame of silence
        torch.testing.assert_close(wave[:heard], change_rate(own, 22050, rate)[:heard], rtol=0, atol=1e-5)


def test_s1_every_length_has_its_samples():
    decoder = in_pieces(make_decoder())
    for count in itertools.chain(range(10, 20), range(54, 60)):
        assert decode(decoder, some_ids(count)).shape == (decoder.config.num_samples(count),)
