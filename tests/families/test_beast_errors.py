"""What BEAST refuses, and what it says."""

from dataclasses import fields

import numpy as np
import pytest
import torch
from motion import smooth

from zoo.errors import ConfigError, InputError, TokenError, ZooError
from zoo.families.beast import BeastConfig, BeastTokenizer
from zoo.tokens import Tokens

T, D, J = 20, 3, 24


@pytest.fixture(scope="module")
def tokenizer():
    return BeastTokenizer(BeastConfig(D, T, 8)).fit(smooth(20, 60, D, 1, 1 / T))


def spoilt(value, *place, steps=T, batch=2):
    x = smooth(batch, steps, D)
    x[place] = value
    return x


INPUTS = {
    "nan": (lambda: spoilt(torch.nan, 1, 7, 2), "item 1, step 7, DoF 2 is nan"),
    "inf": (lambda: spoilt(torch.inf, 0, 0, 0), "item 0, step 0, DoF 0 is inf"),
    "nan far into a sequence": (lambda: spoilt(torch.nan, 1, 47, 2, steps=55), "item 1, step 47, DoF 2 is nan"),
    "nan in the tail": (lambda: spoilt(-torch.inf, 1, 54, 2, steps=55), "item 1, step 54, DoF 2 is -inf"),
    "nan in one sequence": (lambda: spoilt(torch.nan, 0, 3, 1)[0], "item 0, step 3, DoF 1 is nan"),
    "nan in a list": (lambda: list(spoilt(torch.nan, 1, 3, 1)), "item 1, step 3, DoF 1 is nan"),
    "another unit": (lambda: smooth(2, T, D) * 1000, r"DoF \d reaches .* times the largest value"),
    "another unit, long": (lambda: smooth(2, 50, D) * 1000, r"DoF \d reaches .* times the largest value"),
    "beyond float32": (lambda: smooth(2, T, D).double() * 1e300, "inf"),
    "too few DoFs": (lambda: smooth(2, T, D - 1), r"takes actions \(B, L, 3\), got \(2, 20, 2\)"),
    "too many DoFs": (lambda: smooth(2, T, D + 1), r"got \(2, 20, 4\)"),
    "transposed": (lambda: smooth(2, T, D).transpose(1, 2), r"got \(2, 3, 20\)"),
    "one vector": (lambda: torch.zeros(D), r"\(B, T, D\)|\(T, D\)"),
    "four axes": (lambda: torch.zeros(1, 2, T, D), r"\(B, T, D\)|\(T, D\)"),
    "a number": (lambda: torch.tensor(1.0), r"\(B, T, D\)|\(T, D\)"),
    "no steps": (lambda: torch.zeros(2, 0, D), "0"),
    "no items": (lambda: torch.zeros(0, T, D), "0"),
    "empty list": (lambda: [], "empty"),
    "complex": (lambda: torch.zeros(1, T, D, dtype=torch.complex64), "complex"),
    "bool": (lambda: torch.zeros(1, T, D, dtype=torch.bool), "bool"),
    "objects": (lambda: np.array([[object()] * D] * T), "object"),
    "None": (lambda: None, "NoneType"),
    "dict": (lambda: {"actions": smooth(1, T, D)}, "dict"),
    "no such file": (lambda: "no/such/file.npy", "no/such/file"),
    "unequal DoFs": (lambda: [smooth(1, T, D)[0], smooth(1, T, D + 1)[0]], "degrees of freedom"),
}


@pytest.mark.parametrize("case", INPUTS)
def test_encode_refuses(tokenizer, case):
    make, message = INPUTS[case]
    with pytest.raises(InputError, match=message) as caught:
        tokenizer.encode(make())
    assert isinstance(caught.value, ValueError)


CONTINUOUS = {
    "a tail": (lambda: smooth(1, T - 1, D), r"chunks \(B, 20, 3\) as a tensor, got the shape \(1, 19, 3\)"),
    "one chunk without a batch": (lambda: smooth(1, T, D)[0], r"got the shape \(20, 3\)"),
    "nan": (lambda: spoilt(torch.nan, 1, 7, 2), "item 1, step 7, DoF 2 is nan"),
    "an array": (lambda: smooth(1, T, D).numpy(), "as a tensor, got ndarray"),
    "no items": (lambda: smooth(1, T, D)[:0], r"got the shape \(0, 20, 3\)"),
}


@pytest.mark.parametrize("case", CONTINUOUS)
def test_encode_continuous_refuses(tokenizer, case):
    make, message = CONTINUOUS[case]
    with pytest.raises(InputError, match=message):
        tokenizer.encode_latents(make())


def test_decode_latents_refuses(tokenizer):
    for wrong in (torch.zeros(1, 7, D), torch.zeros(8, D), torch.zeros(0, 8, D), None, [[0.0] * D] * 8):
        with pytest.raises(InputError, match=r"control points \(B, 8, 3\) as a tensor"):
            tokenizer.decode_latents(wrong)


def tokens(**changes):
    return Tokens(**{"ids": torch.zeros(2, J).long(), "lengths": torch.tensor([J, J]), "codebook_size": 256, **changes})


TOKENS = {
    "shifted": (lambda: tokens().offset(1000), r"offset\(-1000\)"),
    "another model's": (lambda: tokens(model="fast"), "made by 'fast'"),
    "another codebook": (lambda: tokens(codebook_size=512), "codebook of 512"),
    "too large an id": (lambda: tokens(ids=torch.full((2, J), 256)), "0 … 255"),
    "a negative id": (lambda: torch.full((2, J), -1), "0 … 255"),
    "half a chunk": (lambda: torch.zeros(2, J // 2).long(), "whole chunks of 24 tokens, got lengths"),
    "half a chunk by length": (lambda: tokens(lengths=torch.tensor([J, 5])), "whole chunks of 24"),
    "a truncated item": (lambda: tokens().truncate(5), "whole chunks of 24"),
    "nothing": (lambda: torch.zeros(2, 0).long(), "whole chunks"),
    "no items": (lambda: torch.zeros(0, J).long(), "whole chunks"),
    "an empty list": (lambda: [], "whole chunks"),
    "logits": (lambda: torch.zeros(2, J), "integers"),
    "several codebooks": (lambda: torch.zeros(2, J, 2).long(), r"1 codebook\(s\)"),
    "ragged halves": (lambda: [[1] * J, [1] * 5], "whole chunks"),
    "words": (lambda: "hello", "integers"),
    "None": (lambda: None, "integers"),
    "more signal than ids": (lambda: tokens(signal_lengths=torch.tensor([T, T + 1])), r"hold \[20, 21\] steps"),
    "lengths beyond the ids": (lambda: tokens(lengths=torch.tensor([J, 2 * J])), "lengths"),
}


@pytest.mark.parametrize("case", TOKENS)
def test_decode_refuses(tokenizer, case):
    make, message = TOKENS[case]
    with pytest.raises(TokenError, match=message) as caught:
        tokenizer.decode(make())
    assert isinstance(caught.value, ValueError)


OPTIONS = {
    "times before": ({"times": [-0.01, 0.5]}, InputError, r"in \[0, 1\]"),
    "times after": ({"times": torch.linspace(0, 1.01, 5)}, InputError, "not rescaled"),
    "times nan": ({"times": [torch.nan]}, InputError, r"in \[0, 1\]"),
    "no times": ({"times": []}, InputError, r"\(M,\)"),
    "times of two axes": ({"times": torch.zeros(2, 2)}, InputError, r"\(M,\)"),
    "times in words": ({"times": "now"}, InputError, "times must be numbers"),
    "derivative -1": ({"derivative": -1}, InputError, "derivative must be 0, 1, 2"),
    "derivative 1.5": ({"derivative": 1.5}, InputError, "derivative must be 0, 1, 2"),
    "out_of_range": ({"out_of_range": "ignore"}, TokenError, "'error' or 'clamp'"),
    "lengths with tokens": ({"lengths": [J]}, TokenError, "part of Tokens"),
    "start": ({"start": "here"}, InputError, "start must be commands"),
}


@pytest.mark.parametrize("case", OPTIONS)
def test_decode_refuses_options(tokenizer, case):
    options, kind, message = OPTIONS[case]
    with pytest.raises(kind, match=message):
        tokenizer.decode(tokens(), **options)


def test_clamping_refuses_what_are_no_ids(tokenizer):
    for wrong in (torch.zeros(1, J), "hello", [[1.5] * J], None, torch.zeros(1, 1, 1, J).long()):
        with pytest.raises(TokenError, match="ids must be"):
            tokenizer.decode(wrong, out_of_range="clamp")
    with pytest.raises(TokenError, match="0 … 255"):  # only bare ids may come from a policy
        tokenizer.decode(tokens(ids=torch.full((2, J), 256)), out_of_range="clamp")


# ------------------------------------------------------------------------------------------------------------ settings

SETTINGS = {
    "num_dofs": (0, -1, 2.0, "3", True, None),
    "horizon": (1, 0, -5, 5000, 20.0),
    "num_basis": (4, 0, 21, "10"),
    "degree": (-1, 11, 8, 1.5),
    "codebook_size": (1, 0, 2**21, 256.0),
    "ridge": (0, -1e-4, torch.inf, torch.nan, "1e-4"),
    "grid": ("open", "", None, 1, "Closed"),
    "boundary": ("c0", "velocity", None, True),
    "gripper": ((3,), (-1,), (0, 0), (0.5,), 2, "0", (True,)),
    "gripper_mode": ("zero-order", None, 0),
    "gripper_threshold": (1, "yes", None),
    "bounds": ("min-max", None),
    "bounds_quantiles": ((0.5,), (0.9, 0.1), (0.1, 0.1), (-0.1, 1), (0, 1.1), (0, 0.5, 1), None),
    "margin": (-0.1, torch.inf, torch.nan, None),
    "per": ("chunk", None),
    "action_quantiles": ((0.9, 0.1), (torch.nan, 1), None, 0.5),
    "control_rate": (0, -1.0, torch.inf, "25"),
    "limit": (1.0, 0, -3.0, 1e7, torch.inf, "8", None),
}


def test_every_setting_is_checked():
    assert set(SETTINGS) == {field.name for field in fields(BeastConfig)}
    good = {"num_dofs": 3, "horizon": 20, "num_basis": 8}
    for name, values in SETTINGS.items():
        for value in values:
            with pytest.raises(ConfigError, match=r"^BEAST: ") as caught:
                BeastConfig(**{**good, name: value})
            assert isinstance(caught.value, ValueError)


def test_settings_that_contradict_each_other():
    with pytest.raises(ConfigError, match="needs num_basis ≥ 6"):
        BeastConfig(3, 20, 5, degree=5)
    with pytest.raises(ConfigError, match="choose at most 15"):
        BeastConfig(3, 20, 25)
    for num_basis in (16, 20):
        with pytest.warns(UserWarning, match="badly conditioned"):
            config = BeastConfig(3, 20, num_basis)
        tokenizer = BeastTokenizer(config).fit(smooth(300, 60, D, 1, 1 / T))
        x = smooth(5, T, D, 2, 1 / T)
        torch.testing.assert_close(tokenizer.decode(tokenizer.encode(x)), x, rtol=0, atol=0.3)
    BeastConfig(3, 20, 15)


def test_settings_are_values():
    listed, whole = BeastConfig(3, 20, 8, gripper=[2], margin=1), BeastConfig(3, 20, 8, gripper=(2,), margin=1.0)
    assert listed == whole
    assert hash(listed) == hash(whole)
    with pytest.raises(ConfigError, match="unknown key 'num_base'"):
        BeastTokenizer.from_config({"num_dofs": 3, "horizon": 20, "num_base": 8})
    with pytest.raises(ConfigError, match="takes a BeastConfig, got dict"):
        BeastTokenizer({"num_dofs": 3})


def test_every_error_is_the_librarys(tokenizer):
    """Nothing that a caller can pass ends in an error of torch."""
    things = [
        None,
        1,
        1.5,
        "x",
        b"x",
        [],
        [[]],
        [[[]]],
        {},
        (),
        object(),
        np.zeros(0),
        torch.zeros(()),
        [None],
        [["a"]],
    ]
    for thing in things:
        for call in (tokenizer.encode, tokenizer.decode, tokenizer.fit, tokenizer.encode_latents):
            with pytest.raises(ZooError):
                call(thing)
        if thing is not None:
            with pytest.raises(ZooError):
                tokenizer.decode(tokens(), start=thing)
            with pytest.raises(ZooError):
                tokenizer.encode(smooth(1, T, D), start=thing)
    for thing in ("x", [[]], {}, object(), [None], 3.5):
        with pytest.raises(ZooError):
            tokenizer.decode(tokens(), times=thing)
        with pytest.raises(ZooError):
            tokenizer.encode(smooth(1, T, D), thing)
