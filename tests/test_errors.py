"""Errors: whatever strangers have written, a message does not steer the terminal that shows it."""

import pickle

import pytest

from zoo import errors, registry, tokenfile
from zoo.config import from_dict
from zoo.errors import ZooError
from zoo.registry import ModelEntry

ESCAPES = "\x1b[2J\x9b31m\r\u202eevil\ud800"
KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ZooError)]


@pytest.mark.parametrize("kind", KINDS)
def test_messages_are_harmless_in_every_error(kind):
    error = kind(f"no {ESCAPES}:\nü 音")
    assert str(error) == "no \\x1b[2J\\x9b31m\\r\\u202eevil\\ud800:\nü 音"
    assert str(pickle.loads(pickle.dumps(error))) == str(error)
    assert str(kind()) == ""


def test_wherever_a_message_has_a_strangers_words(tmp_path):
    calls = {
        "a family of the registry": lambda: registry.parse(
            'a.b: {family: "\\e[2J", modality: action, source: x, licence: MIT, description: d, trained_on: t, '
            "num_parameters: 1}"
        ),
        "a key of the registry": lambda: registry.parse('"\\e[2J": 3'),
        "a key of a config": lambda: from_dict(ModelEntry, {ESCAPES: 1}, ESCAPES),
        "a name": lambda: registry.model(ESCAPES),
        "a file": lambda: tokenfile.load(tmp_path / "\x1b[2J"),
    }
    for what, call in calls.items():
        with pytest.raises(ZooError) as caught:
            call()
        assert "[2J" in str(caught.value), what
        assert "\x1b" not in str(caught.value), what
