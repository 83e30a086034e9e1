"""What every tokenizer promises, as checks that any family can be put to: the library's own, or another package's.

    from zoo.testing import check_tokenizer

    def test_contract(tmp_path):
        check_tokenizer(MyTokenizer(MyConfig()), [signal(length) for length in (3000, 641, 1, 1280)], tmp_path)

An `AssertionError` says which promise is broken. A test runner that shows each check apart goes over `CHECKS`.
"""

from __future__ import annotations

import copy
import inspect
import pickle
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from zoo import checkpoint, loading
from zoo.checkpoint.fingerprint import fingerprint
from zoo.data import signals
from zoo.errors import ConfigError, InputError, TokenError, ZooError
from zoo.modalities import VideoTokenizer
from zoo.spec import option_names
from zoo.tokenizer import Tokenizer
from zoo.tokens import Latents, Tokens

__all__ = ["CHECKS", "check_tokenizer"]

Items = Sequence[Tensor]


def check_tokenizer(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Check that a tokenizer keeps the contract.

    Args:
        tokenizer: A tokenizer as it is to be used, small enough to encode the items some twenty times.
        items: Three or more different signals without a batch dimension, all but images of different lengths, of
            which the first has at least six values.
        folder: An empty one to save checkpoints in.

    Raises:
        AssertionError: It does not. The message names the promise.
    """
    for check in CHECKS:
        place = folder / check.__name__
        place.mkdir()
        check(tokenizer, items, place)


def check_ids_are_the_items_own(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Ids are the same alone, in a batch, again, in another order, and whatever pads them."""
    alone = [_ids(tokenizer, item[None])[0] for item in items]
    _equal(_ids(tokenizer, list(items)), alone, "ids change with the batch")
    _equal(_ids(tokenizer, list(items)), alone, "ids change when encoded again")
    _equal(_ids(tokenizer, list(items)[::-1]), alone[::-1], "ids change with the order of the batch")
    _equal(_ids(tokenizer, [items[0]] * 7), [alone[0]] * 7, "ids change with copies beside them")
    if _has_lengths(tokenizer):
        for extra in (0, 1000):
            found = _ids(tokenizer, *_padded(tokenizer, items, extra))
            _equal(found, alone, f"ids change with what pads the batch, {extra} values more than it must")


def check_threads_change_nothing(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Ids are the same with any number of threads, which encoding leaves as it is."""
    expected, threads = _ids(tokenizer, list(items)), torch.get_num_threads()
    try:
        for number in (1, 2, 3):
            torch.set_num_threads(number)
            _equal(_ids(tokenizer, list(items)), expected, f"ids change with {number} threads")
            _equal(torch.get_num_threads(), number, "encoding changes the number of threads")
    finally:
        torch.set_num_threads(threads)


def check_copies_are_the_same(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """A tokenizer that was saved and loaded, copied or pickled gives the same ids, and has the same fingerprint."""
    expected = _ids(tokenizer, list(items))
    checkpoint.save(tokenizer, folder / "x")
    copies = {
        "loaded": loading.load(folder / "x"),
        "copied": copy.deepcopy(tokenizer),
        "pickled": pickle.loads(pickle.dumps(tokenizer)),
        "loaded without a decoder": loading.load(folder / "x", decoder=False),
    }
    for how, other in copies.items():
        _equal(_ids(other, list(items)), expected, f"ids change when it is {how}")
    for how in ("loaded", "copied"):
        _equal(fingerprint(copies[how]), fingerprint(tokenizer), f"its fingerprint changes when it is {how}")


def check_encoding_changes_nothing(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Encoding draws no random numbers, and changes neither weights nor signals, and has no gradient."""
    before = {name: tensor.clone() for name, tensor in tokenizer.state_dict().items()}
    kept = [item.clone() for item in items]
    state = torch.get_rng_state()
    made = _encoded(tokenizer, list(items))
    _require(torch.equal(torch.get_rng_state(), state), "encoding draws random numbers")
    _require(not (made.values if isinstance(made, Latents) else made.ids).requires_grad, "ids have a gradient")
    _require(all(map(torch.equal, items, kept)), "encoding changes the signals")
    after = tokenizer.state_dict()
    _require(all(torch.equal(before[name], after[name]) for name in before), "encoding changes the tokenizer")


def check_tokens_are_as_the_spec_says(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Number, range, type and name of tokens are what `spec` and `num_tokens` state."""
    spec = tokenizer.spec
    if spec.is_continuous:
        _refuses(ConfigError, partial(tokenizer.encode, list(items)), "a tokenizer without a codebook gives ids")
        return
    tokens = tokenizer.encode(list(items))
    _equal(tokens.ids.dtype, torch.int64, "ids are not int64")
    _equal(tokens.model, tokenizer.name, "tokens name another model")
    _equal(tokens.codebook_size, spec.require_codebook(), "tokens state another codebook")
    _equal(tokens.num_codebooks, spec.num_codebooks, "tokens have another number of codebooks")
    low, high = int(tokens.ids.min()), int(tokens.ids.max())
    _require(0 <= low <= high < spec.require_codebook(), f"ids are in {low} … {high}")
    if _has_lengths(tokenizer) and (spec.num_tokens is not None or spec.token_rate is not None):
        found = tokens.lengths.tolist()
        wanted = [tokenizer.num_tokens(_length(tokenizer, item)) for item in items]
        _equal(found, wanted, "num_tokens is not how many there are")


def check_decoding_repeats(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Decoding gives the same again, and an item does not depend on its neighbours but for rounding in float32."""
    if tokenizer.spec.is_continuous:
        latents = tokenizer.encode_latents(list(items))
        made = tokenizer.decode_latents(latents)
        _require(torch.equal(made, tokenizer.decode_latents(latents)), "decoding gives another signal the second time")
        return
    tokenizer.check_encode()
    tokens = tokenizer.encode(list(items))
    tokenizer.check_decode(tokens)
    decoded = tokenizer.decode(tokens)
    _require(torch.equal(decoded, tokenizer.decode(tokens)), "decoding gives another signal the second time")
    signal, lengths = signals.of(tokenizer.spec.modality), tokenizer.output_lengths(tokens).tolist()
    for row, length in enumerate(lengths):
        one = tokenizer.decode(tokens[row].truncate(int(tokens.lengths[row])))[0]
        torch.testing.assert_close(signal.cut(one, length), signal.cut(decoded[row], length), rtol=1e-5, atol=1e-6)


def check_foreign_tokens_are_refused(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """What is no tokens of this tokenizer is refused with a `TokenError`."""
    if tokenizer.spec.is_continuous:
        latents = tokenizer.encode_latents(items[0][None])
        foreign = replace(latents, model="other.model")
        _refuses(TokenError, partial(tokenizer.decode_latents, foreign), "latents of another model are decoded")
        _refuses(TokenError, partial(tokenizer.decode_latents, latents.values[..., :0]), "empty latents are decoded")
        return
    tokens = tokenizer.encode(items[0][None])
    size = tokenizer.spec.require_codebook()
    bad: dict[str, Any] = {
        "too large": torch.tensor([[size]]),
        "negative": torch.tensor([[-1]]),
        "no integers": torch.tensor([[0.5]]),
        "of another rank": torch.zeros(1, 2, 3, 4, dtype=torch.int64),
        "shifted": tokens.offset(100),
        "another model's": Tokens(tokens.ids, tokens.lengths, size, "other.model"),
        "another codebook's": Tokens(tokens.ids, tokens.lengths, size + 1, ""),
        "edited": Tokens(tokens.ids + size, tokens.lengths, size, tokenizer.name),
        "nothing": None,
    }
    for name, wrong in bad.items():
        _refuses(TokenError, partial(tokenizer.decode, wrong), f"tokens that are {name} are decoded")


def check_what_is_no_signal_is_refused(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """What cannot be encoded is refused with an `InputError`."""
    spoiled, infinite = items[0].clone(), items[0].clone()
    spoiled.view(-1)[5] = torch.nan
    infinite.view(-1)[-1] = torch.inf
    bad: dict[str, tuple[Any, ...]] = {
        "NaN": (spoiled,),
        "infinity": ([items[1], infinite],),
        "an empty signal": (items[0][:0],),
        "no items": ([],),
        "ranks too many": (items[0][None, None, None],),
        "complex numbers": (items[0].to(torch.complex64),),
        "a file that is missing": ("there-is-no-such-file",),
        "nothing": (None,),
        "text": (b"this is no signal",),
    }
    if _has_lengths(tokenizer):
        bad |= {
            "a length beyond the signal": (items[0][None], torch.tensor([_length(tokenizer, items[0]) + 1])),
            "a length of 0": (items[0][None], torch.tensor([0])),
            "a length too many": (items[0][None], torch.tensor([1, 1])),
        }
    encode = tokenizer.encode_latents if tokenizer.spec.is_continuous else tokenizer.encode
    for name, wrong in bad.items():
        _refuses(InputError, partial(encode, *wrong), f"{name} is encoded")


def check_options_are_declared(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """`encode_options` and `decode_options` are what `encode` and `decode` take beside the signal."""
    for call in ("encode", "decode"):
        declared = getattr(tokenizer, f"{call}_options")
        parameters = list(inspect.signature(getattr(tokenizer, call)).parameters.values())
        taken = {parameter.name: parameter.default for parameter in parameters if parameter.name not in _SIGNALS}
        stated = {field.name: field.default for field in fields(declared)}
        _equal(taken, stated, f"{call} takes other options than {call}_options declares")
        _equal(option_names(declared), taken.keys(), f"option_names of {call}")


def check_latents(tokenizer: Tokenizer, items: Items, folder: Path) -> None:
    """Latents are as wide as `spec` says, or, where it says that there are none, asking for them says so."""
    if tokenizer.spec.latent_dim is None:
        for call in (tokenizer.encode_latents, tokenizer.decode_latents):
            _refuses(ConfigError, partial(call, items[0]), "a tokenizer without latents gives some")
        return
    latents = tokenizer.encode_latents(items[0][None])
    _require(isinstance(latents, Latents), "latents are no zoo.Latents")
    _equal(latents.model, tokenizer.name, "latents name another model")
    _equal(latents.values.shape[2], tokenizer.spec.latent_dim, "latents are not as wide as the spec says")
    _equal(latents.lengths.tolist(), [latents.values.shape[1]], "latents have other lengths than values")


CHECKS: tuple[Callable[[Tokenizer, Items, Path], None], ...] = (
    check_ids_are_the_items_own,
    check_threads_change_nothing,
    check_copies_are_the_same,
    check_encoding_changes_nothing,
    check_tokens_are_as_the_spec_says,
    check_decoding_repeats,
    check_foreign_tokens_are_refused,
    check_what_is_no_signal_is_refused,
    check_options_are_declared,
    check_latents,
)
"""Each takes a tokenizer, items and an empty folder, and raises `AssertionError` where a promise is broken."""

_SIGNALS = ("x", "tokens", "lengths")


def _encoded(tokenizer: Tokenizer, *signals: Any) -> Tokens | Latents:
    """Return the tokens of signals, or the latents of a continuous tokenizer, which are compared bit by bit as well."""
    return tokenizer.encode_latents(*signals) if tokenizer.spec.is_continuous else tokenizer.encode(*signals)


def _ids(tokenizer: Tokenizer, *signals: Any) -> list[Any]:
    """Return what each item is encoded to, as plain values without padding."""
    made = _encoded(tokenizer, *signals)
    if isinstance(made, Tokens):
        return made.tolist()
    return [row[:length].tolist() for row, length in zip(made.values, made.lengths.tolist(), strict=True)]


def _has_lengths(tokenizer: Tokenizer) -> bool:
    if isinstance(tokenizer, VideoTokenizer):
        return tokenizer.window is not None
    return tokenizer.spec.modality in ("speech", "action")


def _length(tokenizer: Tokenizer, item: Tensor) -> int:
    return item.shape[signals.of(tokenizer.spec.modality).time_axis or 0]


def _padded(tokenizer: Tokenizer, items: Items, extra: int) -> tuple[Tensor, Tensor]:
    """Return a batch whose padding, and so much more of it, holds what must not matter, and its lengths."""
    axis = signals.of(tokenizer.spec.modality).time_axis or 0
    lengths = [item.shape[axis] for item in items]
    shape = list(items[0].shape)
    shape[axis] = max(lengths) + extra
    batch = torch.full((len(items), *shape), 0.37)
    for row, item, length in zip(batch, items, lengths, strict=True):
        row.narrow(axis, 0, length).copy_(item)
    return batch, torch.tensor(lengths)


def _require(condition: bool, promise: str) -> None:
    if not condition:
        raise AssertionError(promise)


def _equal(found: Any, expected: Any, promise: str) -> None:
    if found != expected:
        raise AssertionError(f"{promise}: {found!r:.200} instead of {expected!r:.200}")


def _refuses(error: type[ZooError], call: Callable[[], Any], promise: str) -> None:
    try:
        call()
    except error:
        return
    raise AssertionError(promise)
