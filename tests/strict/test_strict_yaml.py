"""YAML is read as plain values or refused, by one reader."""

import math

import pytest
import yaml

from zoo import registry
from zoo.errors import CheckpointError, ConfigError
from zoo.evaluation.suite import read_suite
from zoo.families.stabletoken.official import decoder_settings
from zoo.strict.yaml import parse_yaml

# Most ended in an error of PyYAML's own, or of Python's: ValueError, KeyError, AttributeError, RecursionError.
BROKEN = {
    "a date that there is not": "a: !!timestamp 2020-13-45",
    "no hexadecimal digits": "a: !!int 0x",
    "no exponent": "a: !!float 1e",
    "maybe": "a: !!bool maybe",
    "no timestamp": "a: !!timestamp soon",
    "a mapping called a number": "a: !!int {b: 1}",
    "deep": "a: " + "[" * 1200,
    "deep blocks": "\n".join(" " * n + "a:" for n in range(900)),
    "a number of 5,000 digits": "a: " + "9" * 5000,
    "a key that is a list": "[1, 2]: 3",
    "a number as a key": "1: 2",
    "a key twice": "a: 1\nb: 2\na: 3",
    "an inner key twice": "x: {a: 1, a: 1}",
    "a loop": "a: &a [*a]",
    "a loop of mappings": "&a b: &c {d: *c}",
    "a billion laughs": "a: &a [x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{n}: &{n} [{', '.join([f'*{o}'] * 9)}]\n" for o, n in zip("abcdefgh", "bcdefghi", strict=True)),
    "Python": "a: !!python/object/apply:os.getcwd []",
    "a tag": "a: !new:collections.Counter {}",
    "bytes": "a: !!binary aGVsbG8=",
    "half a pair": 'a: "\\ud800"',
    "a control character": "a: b\x00",
    "two documents": "a: 1\n---\na: 2",
    "a list": "- a",
    "a word": "a",
    "a tab": "a:\n\t- b",
    "a merge of nothing": "<<: 5",
    "too much": "a: " + "x" * 2**20,
}
broken = pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)


@broken
def test_yaml_that_is_refused(text):
    with pytest.raises(CheckpointError, match=r"^here .{10,400}\.$"):
        parse_yaml(text, "here", CheckpointError)


@broken
def test_a_registry_that_is_refused(text):
    with pytest.raises(ConfigError, match=r"^registry.yaml "):
        registry.parse(text)


@broken
def test_a_suite_that_is_refused(text, tmp_path):
    (tmp_path / "s.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"s.yaml "):
        read_suite(tmp_path / "s.yaml")


@pytest.mark.parametrize("text", [text for text in BROKEN.values() if "!new" not in text])
def test_released_settings_that_are_refused(text, tmp_path):
    (tmp_path / "config.yaml").write_text(text, encoding="utf-8")
    with pytest.raises((CheckpointError, ConfigError), match=r"config.yaml "):
        decoder_settings.read(tmp_path / "config.yaml")


@pytest.mark.parametrize("content", [b"kind: \xff", "kind: stab".encode("utf-16"), b"", b"\n", b"# nothing", b"---"])
def test_a_suite_that_is_no_text_or_empty(content, tmp_path):
    (tmp_path / "s.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=r"s.yaml (is not text in UTF-8|must be a mapping with a kind)"):
        read_suite(tmp_path / "s.yaml")


@pytest.mark.parametrize("path", ["/dev/zero", "/dev/null", "/", "/nowhere/s.yaml", "a\0b", "x" * 5000])
def test_a_suite_that_is_no_file(path):
    with pytest.raises(ConfigError):
        read_suite(path)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-4", 1e-4),
        ("-1.5E+3", -1500.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("010", 10),
        ("0o17", 15),
        ("0xff", 255),
        ("-7", -7),
        ("-.inf", -math.inf),
        ("+.Inf", math.inf),
        ("true", True),
        ("False", False),
        ("~", None),
        ("", None),
        ("null", None),
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("2020-01-05", "2020-01-05"),
        ("1_000", "1_000"),
        ("0x", "0x"),
        ("1e", "1e"),
        ("=", "="),
        ("'1'", "1"),
        ("!!str 1", "1"),
        ("!!float 1", 1.0),
        ("[a, {b: c}]", ["a", {"b": "c"}]),
    ],
)
def test_scalars_are_those_of_the_core_schema(text, value):
    found = parse_yaml(f"a: {text}", "here")["a"]
    assert found == value
    assert type(found) is type(value)


def test_what_is_not_a_number_is_one():
    assert math.isnan(parse_yaml("a: .nan", "here")["a"])


def test_aliases_and_merged_mappings_are_read():
    text = "a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: *a"
    assert parse_yaml(text, "here") == {"a": {"x": 1, "y": 2}, "b": {"x": 1, "y": 3}, "c": {"x": 1, "y": 2}}


def test_what_pyyaml_writes_is_read():
    values = {"a": [1, 1.5, None, True, "no", "2020-01-05", "x: y", "ü\u2028", ""], "b": {"c": []}}
    assert parse_yaml(yaml.safe_dump(values), "here") == values
    assert parse_yaml(yaml.safe_dump(values, allow_unicode=True), "here") == values
