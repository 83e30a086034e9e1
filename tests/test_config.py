"""Configs are read strictly: nothing is guessed, and a message says where, what and what instead."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zoo.config import from_dict, to_dict
from zoo.errors import ConfigError, near_matches, shown


@dataclass(frozen=True)
class Inner:
    width: int
    scale: float = 0.5


@dataclass(frozen=True)
class Outer:
    depth: int
    rate: float = 1.0
    is_causal: bool = False
    label: str = "x"
    norm: Literal["layer", "rms", 3] = "layer"
    size: tuple[int, int] = (2, 3)
    levels: tuple[int, ...] = (8, 5)
    limit: int | None = None
    shape: int | tuple[int, ...] | None = None
    inner: Inner = field(default_factory=lambda: Inner(4))
    parts: tuple[Inner, ...] = ()
    spare: Inner | None = None


FULL = {
    "depth": 3,
    "rate": 2.5,
    "is_causal": True,
    "label": "y",
    "norm": "rms",
    "size": [4, 5],
    "levels": [7],
    "limit": 9,
    "shape": [1, 2],
    "inner": {"width": 1, "scale": 2.0},
    "parts": [{"width": 1, "scale": 0.5}, {"width": 2, "scale": 0.25}],
    "spare": {"width": 5, "scale": 0.5},
}


def test_every_kind_of_value_survives_json():
    config = from_dict(Outer, FULL)
    assert config.size == (4, 5)
    assert config.parts == (Inner(1), Inner(2, 0.25))
    assert config.spare == Inner(5)
    assert to_dict(config) == FULL
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


def test_defaults_fill_what_is_not_there():
    assert from_dict(Outer, {"depth": 3}) == Outer(3)
    assert from_dict(Outer, {"depth": 3, "inner": {"width": 1}}).inner == Inner(1, 0.5)
    assert from_dict(Outer, {"depth": 3, "levels": []}).levels == ()


finite = st.floats(allow_nan=False, allow_infinity=False)
inners = st.builds(Inner, st.integers(), finite)
outers = st.builds(
    Outer,
    depth=st.integers(),
    rate=finite,
    is_causal=st.booleans(),
    label=st.text(),
    norm=st.sampled_from(["layer", "rms", 3]),
    size=st.tuples(st.integers(), st.integers()),
    levels=st.lists(st.integers()).map(tuple),
    limit=st.none() | st.integers(),
    shape=st.none() | st.integers() | st.lists(st.integers()).map(tuple),
    inner=inners,
    parts=st.lists(inners, max_size=3).map(tuple),
    spare=st.none() | inners,
)


@given(outers)
@settings(max_examples=60, deadline=None)
def test_any_config_survives_json(config):
    assert from_dict(Outer, json.loads(json.dumps(to_dict(config)))) == config


BAD = {
    "unknown key": ({"dept": 4}, "cfg has the unknown key 'dept'; did you mean 'depth'?"),
    "unknown key unlike any": ({"zzzz": 4}, "cfg has the unknown key 'zzzz'; known: depth, inner, is_causal, label,"),
    "unknown key in another case": ({"IS_CAUSAL": True}, "did you mean 'is_causal'?"),
    "key that is no text": ({3: 4}, "cfg has the unknown key 3; known: "),
    "missing key": ({"depth": ...}, "cfg lacks the key 'depth', which has no default."),
    "text for int": ({"depth": "3"}, "cfg: depth must be int, got '3' (str)."),
    "float for int": ({"depth": 3.0}, "cfg: depth must be int, got 3.0 (float)."),
    "bool for int": ({"depth": True}, "cfg: depth must be int, got True (bool)."),
    "null for int": ({"depth": None}, "cfg: depth must be int, got None (NoneType)."),
    "list for int": ({"depth": [3]}, "cfg: depth must be int, got [3] (list)."),
    "bool for float": ({"rate": True}, "cfg: rate must be float, got True (bool)."),
    "text for float": ({"rate": "1e-4"}, "cfg: rate must be float, got '1e-4' (str)."),
    "NaN": ({"rate": float("nan")}, "cfg: rate must be a finite number, got nan."),
    "infinity": ({"rate": float("-inf")}, "cfg: rate must be a finite number, got -inf."),
    "an integer beyond floats": ({"rate": 10**400}, "cfg: rate must be float, got 1000"),
    "int for bool": ({"is_causal": 1}, "cfg: is_causal must be bool, got 1 (int)."),
    "text for bool": ({"is_causal": "true"}, "cfg: is_causal must be bool, got 'true' (str)."),
    "int for text": ({"label": 3}, "cfg: label must be str, got 3 (int)."),
    "another choice": ({"norm": "batch"}, "cfg: norm must be one of 'layer', 'rms', 3, got 'batch'."),
    "a choice of another type": ({"norm": 3.0}, "cfg: norm must be one of 'layer', 'rms', 3, got 3.0."),
    "a list for a choice": ({"norm": ["rms"]}, "cfg: norm must be one of 'layer', 'rms', 3, got ['rms']."),
    "too few": ({"size": [1]}, "cfg: size must have 2 entries, got 1."),
    "too many": ({"size": [1, 2, 3]}, "cfg: size must have 2 entries, got 3."),
    "text for a list": ({"size": "ab"}, "cfg: size must be a list, got 'ab'."),
    "one for a list": ({"levels": 8}, "cfg: levels must be a list, got 8."),
    "wrong entry": ({"levels": [8, "5"]}, "cfg: levels[1] must be int, got '5' (str)."),
    "wrong in one choice": ({"limit": "9"}, "cfg: limit must be int, got '9' (str)."),
    "wrong in two choices": (
        {"shape": "9"},
        "shape must be int, got '9' (str); or cfg: shape must be a list, got '9'.",
    ),
    "deeper unknown key": ({"inner": {"width": 1, "scael": 1}}, "cfg: inner has the unknown key 'scael'; did you mean"),
    "deeper missing key": ({"inner": {}}, "cfg: inner lacks the key 'width'"),
    "deeper type": ({"inner": {"width": 1.5}}, "cfg: inner: width must be int, got 1.5 (float)."),
    "deeper in a list": ({"parts": [{"width": 1}, {"width": []}]}, "cfg: parts[1]: width must be int, got [] (list)."),
    "no mapping": ({"inner": [1, 2]}, "cfg: inner must be a mapping of field names to values, got list."),
    "very long": ({"depth": "x" * 10**6}, "cfg: depth must be int, got 'xxxx"),
    "very deep": ({"depth": [[[[[[[[[[[[[]]]]]]]]]]]]]}, "cfg: depth must be int, got [[[[[["),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_values_are_refused(case):
    values, message = BAD[case]
    values = {key: value for key, value in {"depth": 3, **values}.items() if value is not ...}
    with pytest.raises(ConfigError) as caught:
        from_dict(Outer, values, "cfg")
    assert message in str(caught.value)
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize("values", [None, [], "depth", 3, [("depth", 3)]])
def test_what_is_no_mapping_is_refused(values):
    with pytest.raises(ConfigError, match=r"^config must be a mapping of field names to values, got "):
        from_dict(Outer, values)


def test_an_integer_is_a_float_but_not_the_other_way_round():
    config = from_dict(Outer, {"depth": 3, "rate": 2})
    assert type(config.rate) is float
    assert config.rate == 2.0


def test_the_dataclass_itself_has_the_last_word():
    @dataclass
    class Even:
        n: int

        def __post_init__(self):
            if self.n % 2:
                raise ConfigError(f"n must be even, got {self.n}.")

    with pytest.raises(ConfigError, match=r"^n must be even, got 3\.$"):
        from_dict(Even, {"n": 3})


def test_a_field_that_no_file_can_hold_is_the_programmers_mistake():
    @dataclass
    class Wrong:
        sizes: list[int]

    with pytest.raises(TypeError, match=r"config: sizes: a config cannot hold list\[int\]"):
        from_dict(Wrong, {"sizes": [1]})


def test_near_matches():
    names = ["beast.default", "beast.large", "fast.default", "Binning"]
    assert near_matches("beast.defualt", names) == "did you mean 'beast.default' or 'fast.default' or 'beast.large'?"
    assert near_matches("BINNING", names) == "did you mean 'Binning'?"
    assert near_matches("qqqqqq", names) == "known: Binning, beast.default, beast.large, fast.default."
    assert near_matches("x", []) == "there are none."


def test_shown_is_short():
    nested = []
    for _ in range(5000):
        nested = [nested]
    for value in ("x" * 10**6, list(range(10**6)), nested, {i: i for i in range(10**5)}, 10**4000):
        assert len(shown(value)) < 200
    assert shown("short") == "'short'"


@dataclass(frozen=True)
class Round:
    radius: float
    kind: Literal["round"] = "round"


@dataclass(frozen=True)
class Square:
    side: float
    kind: Literal["square"] = "square"


@dataclass(frozen=True)
class Drawing:
    shape: Round | Square


def test_a_union_is_read_by_its_kind():
    assert from_dict(Drawing, {"shape": {"kind": "square", "side": 2}}) == Drawing(Square(2.0))
    cases = [
        ({"kind": "squar", "side": 2}, "x: shape must be a mapping with a kind, one of round, square; .* is 'squar'"),
        ({"side": 2}, "x: shape must be a mapping with a kind, one of round, square; .* is None"),
        ({"kind": ["round"]}, "x: shape must be a mapping with a kind"),
        ({"kind": "round", "side": 2}, "x: shape has the unknown key 'side'"),
    ]
    for values, text in cases:
        with pytest.raises(ConfigError, match=text):
            from_dict(Drawing, {"shape": values}, "x")
