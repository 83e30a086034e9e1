"""The contract, on the toys: what the tests of everything else rely on."""

import pytest
import torch
import toy

from zoo.errors import TokenError
from zoo.tokens import Tokens

MODALITIES = tuple(toy.CLASSES)


@pytest.mark.parametrize("modality", MODALITIES)
def test_encode_is_a_function_of_the_item(modality):
    tok, x = toy.make(modality), toy.signals(modality, 7)
    whole = tok.encode(x)
    assert whole.ids.dtype == torch.int64
    assert len(whole.ids.unique()) > 3
    assert whole.num_codebooks == tok.spec.num_codebooks
    assert (whole.lengths == tok.num_tokens(x.shape[2 if modality == "video" else 1])).all()
    for i in range(7):
        assert tok.encode(x[i : i + 1]).equal(whole[i])
    assert tok.encode(x.flip(0)).equal(whole[::-1])


def test_padding_changes_no_id():
    tok = toy.make("speech")
    short, long = toy.signals("speech", 1, length=10)[0], toy.signals("speech", 1, seed=1, length=37)[0]
    padded = torch.stack([torch.cat([short, torch.full((27,), 0.7)]), long])
    both = tok.encode(padded, lengths=torch.tensor([10, 37]))
    assert both.lengths.tolist() == [3, 10]
    assert both[0].truncate(3).equal(tok.encode(short))
    assert both[1].equal(tok.encode(long))
    assert tok.output_lengths(both).tolist() == [10, 37]
    assert tok.decode(both).shape == (2, 37)
    assert (tok.decode(both)[0, 12:] == 0).all()


@pytest.mark.parametrize("modality", MODALITIES)
def test_decode_undoes_encode_up_to_the_step(modality):
    tok, x = toy.make(modality), toy.signals(modality)
    tokens = tok.encode(x)
    again = tok.decode(tokens)
    assert again.shape == x.shape
    assert torch.equal(again, tok.decode(tokens.ids, tokens.lengths) if modality != "speech" else again)
    if modality == "speech":
        frames = tok.decode(tok.encode(x[:, :36])).unflatten(1, (9, 4)).mean(2)
        assert torch.allclose(frames, x[:, :36].unflatten(1, (9, 4)).mean(2), atol=0.02)
    elif modality == "action":
        assert torch.allclose(again.mean(1), x.mean(1), atol=2 * 4**-6)
    else:
        assert torch.allclose(again.flatten(1).mean(1), x.flatten(1).mean(1), atol=1 / 30)


def test_every_prefix_of_an_ordered_toy_decodes_and_longer_ones_are_better():
    tok, x = toy.make("action"), toy.signals("action", 64)
    tokens = tok.encode(x)
    target = x.mean(1, keepdim=True).expand_as(x)
    errors = [float((tok.decode(tokens[:, :n]) - target).abs().mean()) for n in (0, 2, 4, 8, 12)]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 1e-3 < 0.1 < errors[0]


@pytest.mark.parametrize("modality", MODALITIES)
def test_ids_are_ready_for_a_model_that_learns(modality):
    tokens = toy.make(modality).encode(toy.signals(modality))
    table = torch.nn.Embedding(tokens.codebook_size, 3)
    table(tokens.ids).sum().backward()
    assert float(table.weight.grad.sum()) == 3 * tokens.ids.numel()


@pytest.mark.parametrize("modality", MODALITIES)
def test_encode_and_decode_run_in_inference_mode_and_change_nothing(modality):
    tok, x = toy.make(modality), toy.signals(modality)
    before = {key: value.clone() for key, value in tok.state_dict().items()}
    state = torch.get_rng_state()
    with torch.inference_mode():
        tok.decode(tok.encode(x))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[key]) for key, value in tok.state_dict().items())


BAD_TOKENS = {
    "shifted": (lambda t: t.offset(100), r"shifted by 100: call tokens.offset\(-100\)"),
    "another model's": (lambda t: Tokens(t.ids, t.lengths, 16, "toy_image.other"), r"zoo.load\(.toy_image.other.\)"),
    "another codebook": (lambda t: Tokens(t.ids, t.lengths, 32), "codebook of 32, toy_image.s0 has one of 16"),
    "edited": (lambda t: Tokens(t.ids + 10, t.lengths, 16, t.model), "0 … 15, got values from"),
    "negative": (lambda t: Tokens(t.ids - 16, t.lengths, 16), "0 … 15, got values from"),
    "too long": (lambda t: Tokens(t.ids, t.lengths + 1, 16), r"lengths must be 0 … \[4, 4, 4\], got \[5, 5, 5\]"),
    "lengths of another batch": (lambda t: Tokens(t.ids, t.lengths[:2], 16), "lengths must be 3 integers"),
    "floats": (lambda t: Tokens(t.ids.float(), t.lengths, 16), "integers, got torch.float32"),
    "several codebooks": (lambda t: t.ids[:, :, None].expand(-1, -1, 2), r"shape \(3, 4, 2\): expected \(B, T\)"),
    "one codebook as an axis": (lambda t: t.ids[:, :, None], r"shape \(3, 4, 1\): expected \(B, T\)"),
    "bare ids out of range": (lambda t: [[3, 99, 1, 2]], "0 … 15, got values from 1 to 99"),
    "nonsense": (lambda t: "tokens", "ids must be integers"),
}


@pytest.mark.parametrize("case", BAD_TOKENS)
def test_decode_refuses(case):
    tok = toy.make("image")
    make, message = BAD_TOKENS[case]
    with pytest.raises(TokenError, match=message):
        tok.decode(make(tok.encode(toy.signals("image"))))


def test_decode_takes_lengths_only_with_bare_ids():
    tok = toy.make("image")
    tokens = tok.encode(toy.signals("image"))
    with pytest.raises(TokenError, match="part of Tokens"):
        tok.decode(tokens, tokens.lengths)


def test_decode_keeps_what_unusual_but_valid_tokens_know():
    tok = toy.make("speech")
    tokens = tok.encode(toy.signals("speech"))
    narrow = Tokens(tokens.ids.int(), tokens.lengths, 256, tok.name, signal_lengths=tokens.signal_lengths)
    assert torch.equal(tok.decode(narrow), tok.decode(tokens))


def test_to_dtype_refuses_what_would_change_ids():
    with pytest.raises(ValueError, match=r"only in torch.float32, not in torch.bfloat16: leave dtype out"):
        toy.make("image").to_dtype(torch.bfloat16)
