"""The checks for other packages' tokenizers hold for whole ones, and find each promise that is broken."""

import pytest
import torch
import toy

import zoo
from zoo.testing import CHECKS, check_tokenizer

SIGNALS = [toy.signals("speech", 1, seed, length)[0] for seed, length in enumerate((37, 5, 1, 64))]


@pytest.fixture(autouse=True)
def families():
    with toy.registered():
        yield


def test_p2_a_whole_tokenizer_passes(tmp_path):
    check_tokenizer(toy.make("speech"), SIGNALS, tmp_path)
    assert len(CHECKS) == len(list(tmp_path.iterdir()))


def broken(**methods):
    """A tokenizer of which some methods are others; each gets the whole one's."""
    tokenizer = toy.make("speech")
    names = {
        name: lambda self, *args, _f=f, _n=name, **k: _f(getattr(toy.ToySpeech, _n), self, *args, **k)
        for name, f in methods.items()
    }
    tokenizer.__class__ = type("Broken", (toy.ToySpeech,), names)
    return tokenizer


def batched(encode, self, x, lengths=None):
    tokens = encode(self, x, lengths)
    return tokens if len(tokens) == 1 else zoo.Tokens((tokens.ids + 1) % 256, tokens.lengths, 256, tokens.model)


def drawn(encode, self, x, lengths=None):
    torch.rand(1)
    return encode(self, x, lengths)


def threaded(encode, self, x, lengths=None):
    tokens = encode(self, x, lengths)
    torch.set_num_threads(1)
    return tokens


def misnamed(encode, self, x, lengths=None):
    tokens = encode(self, x, lengths)
    return zoo.Tokens(tokens.ids, tokens.lengths, 256, "other.name")


def lenient(decode, self, tokens, lengths=None):
    try:
        return decode(self, tokens, lengths)
    except zoo.errors.TokenError:
        return torch.zeros(1, 1)


def greedy(encode, self, x, lengths=None):
    try:
        return encode(self, x, lengths)
    except zoo.errors.InputError:
        return None


def shaky(decode, self, tokens, lengths=None):
    return decode(self, tokens, lengths) + torch.rand(1)


@pytest.mark.parametrize(
    ("methods", "promise"),
    [
        ({"encode": batched}, "ids change with the batch"),
        ({"encode": drawn}, "encoding draws random numbers"),
        ({"encode": threaded}, "encoding changes the number of threads"),
        ({"encode": misnamed}, "another model"),
        ({"encode": greedy}, "NaN is encoded"),
        ({"decode": lenient}, "tokens that are too large are decoded"),
        ({"decode": shaky}, "another signal the second time"),
        ({"num_tokens": lambda num_tokens, self, length: num_tokens(self, length) + 1}, "num_tokens is not how many"),
    ],
)
def test_p2_a_broken_promise_is_named(methods, promise, tmp_path):
    threads = torch.get_num_threads()
    said = []
    for check in CHECKS:
        if check.__name__ != "check_copies_are_the_same":  # saving needs a registered class, which a broken one is not
            try:
                check(broken(**methods), SIGNALS, tmp_path)
            except (AssertionError, zoo.ZooError) as error:  # the latter where one broken promise meets another
                said.append(str(error))
    torch.set_num_threads(threads)
    assert any(promise in text for text in said), said
