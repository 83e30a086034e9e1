"""What every family promises, over all of them: a family contributes one tiny tokenizer and a maker of signals."""

import copy
import inspect
import pickle
from dataclasses import fields

import pytest
import torch
from tiny_stabletoken import TINY_DECODER, speech
from tiny_stabletoken import make as make_stabletoken

import zoo
from zoo import registry
from zoo.checkpoint.fingerprint import fingerprint
from zoo.errors import ConfigError, InputError, TokenError
from zoo.spec import NoOptions, option_names
from zoo.tokens import Latents


def _motion(length, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(length, 4, generator=generator).cumsum(0).mul(0.05).clamp(-1, 1)


# A tokenizer, a maker of one item of a length, and lengths that are worth a try.
FAMILIES = {
    "beast": (lambda: zoo.load("beast"), _motion, (20, 1, 47, 60)),
    "binning": (lambda: zoo.load("binning"), _motion, (20, 1, 47, 60)),
    "fast": (lambda: zoo.load("fast"), _motion, (20, 1, 47, 60)),
    "stabletoken": (lambda: make_stabletoken(decoder=TINY_DECODER), speech, (3000, 641, 1, 1280)),
}


@pytest.fixture(scope="module", params=sorted(FAMILIES))
def case(request):
    make, signal, lengths = FAMILIES[request.param]
    tokenizer = make()
    return tokenizer, [signal(length) for length in lengths]


def ids(tokens):
    return tokens.tolist()


def padded(items, extra=0):
    """Return a batch whose padding, and so much more of it, holds what must not matter."""
    longest = max(map(len, items)) + extra
    batch = torch.full((len(items), longest, *items[0].shape[1:]), 0.37)
    for row, item in zip(batch, items, strict=True):
        row[: len(item)] = item
    return batch, torch.tensor([len(item) for item in items])


def _refuses(error, call):
    try:
        call()
    except error:
        return True
    return False


def test_every_family_is_here():
    assert set(FAMILIES) == set(registry._BUILT_IN)


class TestIds:
    def test_alone_batched_padded_reordered_and_again(self, case):
        tokenizer, items = case
        alone = [ids(tokenizer.encode(item[None]))[0] for item in items]
        assert ids(tokenizer.encode(items)) == alone
        assert ids(tokenizer.encode(items)) == alone
        assert ids(tokenizer.encode(*padded(items))) == alone
        assert ids(tokenizer.encode(*padded(items, 1000))) == alone
        assert ids(tokenizer.encode(items[::-1])) == alone[::-1]
        assert ids(tokenizer.encode([items[0]] * 7)) == [alone[0]] * 7

    def test_threads(self, case):
        tokenizer, items = case
        expected, threads = ids(tokenizer.encode(items)), torch.get_num_threads()
        try:
            for number in (1, 2, 3):
                torch.set_num_threads(number)
                assert ids(tokenizer.encode(items)) == expected
                assert torch.get_num_threads() == number
        finally:
            torch.set_num_threads(threads)

    def test_saved_copied_and_pickled(self, case, tmp_path):
        tokenizer, items = case
        expected = ids(tokenizer.encode(items))
        half = zoo.load(zoo.save(tokenizer, tmp_path / "x"), decoder=False)
        for other in (zoo.load(tmp_path / "x"), copy.deepcopy(tokenizer), pickle.loads(pickle.dumps(tokenizer)), half):
            assert ids(other.encode(items)) == expected
        for other in (zoo.load(tmp_path / "x"), copy.deepcopy(tokenizer)):
            assert fingerprint(other) == fingerprint(tokenizer)

    def test_encoding_changes_nothing(self, case):
        tokenizer, items = case
        before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
        torch.manual_seed(3)
        expected = torch.rand(4)
        torch.manual_seed(3)
        kept = [item.clone() for item in items]
        tokens = tokenizer.encode(items)
        assert torch.equal(torch.rand(4), expected)
        assert not tokens.ids.requires_grad
        assert all(torch.equal(a, b) for a, b in zip(items, kept, strict=True))
        after = tokenizer.state_dict()
        assert all(torch.equal(before[name], after[name]) for name in before)

    def test_they_are_as_the_spec_says(self, case):
        tokenizer, items = case
        tokens, spec = tokenizer.encode(items), tokenizer.spec
        assert tokens.ids.dtype == torch.int64
        assert tokens.model == tokenizer.name
        assert 0 <= int(tokens.ids.min()) <= int(tokens.ids.max()) < spec.require_codebook() == tokens.codebook_size
        assert tokens.num_codebooks == spec.num_codebooks
        if spec.num_tokens is not None or spec.token_rate is not None:
            assert tokens.lengths.tolist() == [tokenizer.num_tokens(len(item)) for item in items]


class TestDecoding:
    def test_it_repeats_and_knows_no_neighbours(self, case):
        tokenizer, items = case
        tokens = tokenizer.encode(items)
        decoded = tokenizer.decode(tokens)
        assert torch.equal(decoded, tokenizer.decode(tokens))
        for row, length in enumerate(tokenizer.output_lengths(tokens).tolist()):
            one = tokens[row].truncate(int(tokens.lengths[row]))
            # Ids know no neighbours to the bit; a product in float32 may round otherwise.
            torch.testing.assert_close(tokenizer.decode(one)[0][:length], decoded[row][:length], rtol=1e-5, atol=1e-6)

    def test_what_is_not_its_own_is_refused(self, case):
        tokenizer, items = case
        tokens = tokenizer.encode(items[:1])
        size = tokenizer.spec.require_codebook()
        bad = {
            "too large": torch.tensor([[size]]),
            "negative": torch.tensor([[-1]]),
            "no integers": torch.tensor([[0.5]]),
            "another rank": torch.zeros(1, 2, 3, 4, dtype=torch.int64),
            "shifted": tokens.offset(100),
            "another model's": zoo.Tokens(tokens.ids, tokens.lengths, size, "other.model"),
            "another codebook's": zoo.Tokens(tokens.ids, tokens.lengths, size + 1, ""),
            "edited": zoo.Tokens(tokens.ids + size, tokens.lengths, size, tokenizer.name),
            "nothing": None,
        }
        for name, wrong in bad.items():
            assert _refuses(TokenError, lambda wrong=wrong: tokenizer.decode(wrong)), name


class TestInput:
    def test_what_is_no_signal_is_refused(self, case):
        tokenizer, items = case
        spoiled = items[0].clone()
        spoiled.view(-1)[5] = torch.nan
        infinite = items[0].clone()
        infinite.view(-1)[-1] = torch.inf
        bad = {
            "NaN": spoiled,
            "infinity": [items[1], infinite],
            "empty": items[0][:0],
            "no items": [],
            "a rank too many": items[0][None, None, None],
            "complex": items[0].to(torch.complex64),
            "no file": "there-is-no-such-file",
            "nothing": None,
            "text": b"this is no signal",
            "too long a length": (items[0][None], torch.tensor([len(items[0]) + 1])),
            "a length of 0": (items[0][None], torch.tensor([0])),
            "a length too many": (items[0][None], torch.tensor([1, 1])),
        }
        for name, wrong in bad.items():
            arguments = wrong if isinstance(wrong, tuple) else (wrong,)
            assert _refuses(InputError, lambda arguments=arguments: tokenizer.encode(*arguments)), name


class TestOptions:
    @pytest.mark.parametrize("call", ["encode", "decode"])
    def test_what_is_declared_is_what_is_taken(self, case, call):
        tokenizer, _ = case
        declared = getattr(tokenizer, f"{call}_options")
        parameters = list(inspect.signature(getattr(tokenizer, call)).parameters.values())
        taken = {parameter.name: parameter.default for parameter in parameters[2:]}
        assert taken == {field.name: field.default for field in fields(declared)}
        assert option_names(declared) == taken.keys()

    def test_nothing(self):
        assert option_names(NoOptions) == frozenset()


class TestLatents:
    def test_they_lead_to_the_ids(self, case):
        tokenizer, items = case
        if tokenizer.spec.latent_dim is None:
            for call in (lambda: tokenizer.encode_latents(items[0]), lambda: tokenizer.decode_latents(items[0])):
                with pytest.raises(ConfigError, match="no latents"):
                    call()
            return
        latents = tokenizer.encode_latents(items[0][None])
        assert isinstance(latents, Latents)
        assert latents.model == tokenizer.name
        assert latents.values.shape[2] == tokenizer.spec.latent_dim
        assert latents.lengths.tolist() == [latents.values.shape[1]]

    def test_another_tokenizers_are_refused(self):
        beast = zoo.load("beast")
        latents = beast.encode_latents(_motion(20)[None])
        assert torch.equal(beast.decode_latents(latents), beast.decode_latents(latents.values))
        with pytest.raises(TokenError, match=r"made by 'other\.x'"):
            beast.decode_latents(Latents(latents.values, latents.lengths, "other.x"))

    def test_speech_is_quantized_from_them(self):
        tokenizer = make_stabletoken()
        waves = [speech(3000), speech(700)]
        latents = tokenizer.encode_latents(waves)
        tokens = tokenizer.encode(waves)
        assert torch.equal(latents.lengths, tokens.lengths)
        assert torch.equal(latents.signal_lengths, tokens.signal_lengths)
        rows = [row[None, :length] for row, length in zip(latents.values, (5, 2), strict=True)]
        found = [tokenizer.quantizer.ids(row)[0].tolist() for row in rows]
        assert found == tokens.tolist()
