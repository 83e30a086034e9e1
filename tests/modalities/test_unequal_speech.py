"""Speech of very unequal lengths: what is held is what there is."""

import torch
from tiny_stabletoken import make, speech

COUNTS = [640] * 300 + [1, 70_000]


def test_x12_nothing_is_padded_where_it_is_read():
    tokenizer = make()
    wave = speech(70_000)
    waves = [wave[:count] for count in COUNTS]
    held = tokenizer.as_ragged(waves)
    assert held.counts == COUNTS
    assert held.values.untyped_storage().nbytes() == 4 * sum(COUNTS)
    assert all(torch.equal(item, wave[: len(item)]) for item in held.items())
    alone = tokenizer.as_ragged(wave)
    assert alone.values.data_ptr() == wave.data_ptr()  # one item is not copied
    padded = torch.full((2, 70_000), torch.nan)
    padded[0], padded[1, :640] = wave, wave[:640]
    assert tokenizer.as_ragged(padded, [70_000, 640]).values.numel() == 70_640


def test_x12_ids_are_those_of_each_item_alone():
    tokenizer = make()
    wave = speech(40_000)
    waves = [wave[:640]] * 5 + [wave, wave[:1]]
    tokens = tokenizer.encode(waves)
    assert tokens.tolist()[4:] == [tokenizer.encode(each).tolist()[0] for each in waves[4:]]
    assert tokens.signal_lengths.tolist() == [640] * 5 + [40_000, 1]
