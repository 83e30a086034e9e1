"""StableToken's encoder without positions: what is out of reach changes nothing, and nor does where speech stands."""

import pytest
import torch
import torch.nn.functional as F
from tiny_stabletoken import make, speech
from torch import nn

REACH = 6
# Two layers of 20 ms rows, and the two convolutions, of whose frames two make a row.
SEEN_ROWS = 2 * REACH + 2


@pytest.fixture(scope="module")
def tokenizer():
    tokenizer = make(attention_reach=REACH, max_positions=1000)
    for bias in tokenizer.encoder.biases:
        nn.init.normal_(bias.table)
    nn.init.normal_(tokenizer.encoder.offset)
    return tokenizer


def test_alone_and_batched(tokenizer):
    lengths = [1, 640, 5_000, 12_345, 60_000, 300_000]
    waves = [speech(length) for length in lengths]
    alone = [tokenizer.encode(wave).ids[0] for wave in waves]
    padded = torch.rand(len(waves), max(lengths) + 777)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    together = tokenizer.encode(padded, lengths)
    assert all(a.tolist() == b for a, b in zip(alone, together.tolist(), strict=True))


@pytest.mark.parametrize("longest", [80, 4000, 4008], ids=["short", "padded to whole blocks", "whole blocks"])
def test_exact_and_fast_agree(tokenizer, longest):
    sizes = {4: 3, 40: 40, 44: 41, 3 * 768: 3 * 768, longest: longest - 1}
    mels = [torch.randn(1, 16, frames) for frames in sizes if frames <= longest]
    counts = [valid for frames, valid in sizes.items() if frames <= longest]
    one_by_one = tokenizer.encoder.apart(mels, counts, lambda function, items: [function(item) for item in items])
    batch = torch.cat([F.pad(mel, (0, longest - mel.shape[2]), value=5.0) for mel in mels])
    hidden, mask = tokenizer.encoder(batch, torch.tensor(counts))
    assert hidden.isfinite().all()
    for row, valid, wanted in zip(hidden, mask, one_by_one, strict=True):
        torch.testing.assert_close(row[valid], wanted[0], atol=1e-4, rtol=1e-4)


def test_speech_out_of_reach_changes_nothing(tokenizer):
    mel = torch.randn(1, 16, 400)
    frames = torch.tensor([400])
    before = torch.randn(1, 16, 320)
    alone = tokenizer.encoder(mel, frames)[0][0]
    later = tokenizer.encoder(torch.cat([before, mel], 2), frames + 320)[0][0, 80:]
    tokens = -(-SEEN_ROWS // 2)
    torch.testing.assert_close(alone[tokens:], later[tokens:], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(alone[0], later[0], atol=1e-3)
