"""What the tests of checkpoints share: making one, changing it as an attacker could, and expecting a refusal."""

import hashlib
import json
from contextlib import contextmanager

import pytest
import torch
from safetensors.torch import load_file, save_file

import zoo
from zoo.errors import ZooError

CONFIG, WEIGHTS = "config.json", "model.safetensors"


def manifest(folder):
    return json.loads((folder / CONFIG).read_text())


def rewrite(folder, values):
    """Write config.json, whatever it holds."""
    (folder / CONFIG).write_text(values if isinstance(values, str) else json.dumps(values))


def change(folder, **entries):
    """Change entries of config.json; those of `config` are merged, None removes one."""
    values = manifest(folder)
    for key, value in entries.items():
        if value is None:
            del values[key]
        elif key == "config":
            values["config"] |= value
        else:
            values[key] = value
    rewrite(folder, values)


def seal(folder):
    """State the sizes and digests that the files now have, as one who damages on purpose would."""
    values = manifest(folder)
    for name in values["files"]:
        content = (folder / name).read_bytes()
        values["files"][name] = {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    rewrite(folder, values)


def replace_weights(folder, content):
    (folder / WEIGHTS).write_bytes(content)
    seal(folder)


def change_tensors(folder, **tensors):
    """Change, add or (None) remove tensors, and state the right digest. `__` in a name stands for a dot."""
    values = load_file(folder / WEIGHTS)
    for key, value in tensors.items():
        key = key.replace("__", ".")
        if value is None:
            del values[key]
        else:
            values[key] = value
    save_file(values, folder / WEIGHTS)
    seal(folder)


@contextmanager
def refused(kind, *parts):
    """Expect an error of the library, of this kind, whose message has all the parts and no traceback of another."""
    with pytest.raises(kind) as caught:
        yield
    assert isinstance(caught.value, ZooError)
    message = str(caught.value)
    for part in parts:
        assert str(part) in message, f"{part!r} is not in {message!r}"
    assert len(message) < 2000, message
    assert message.rstrip()[-1] in ".!?", message


def refused_load(folder, kind, *parts, **options):
    with refused(kind, folder, *parts):
        zoo.load(folder, **options)


def same(one, two):
    """Whether two tokenizers are the same in everything that a checkpoint holds."""
    weights, others = one.state_dict(), two.state_dict()
    return (
        type(one) is type(two)
        and one.config == two.config
        and one.spec == two.spec
        and (one.name, one.trained_on) == (two.name, two.trained_on)
        and list(weights) == list(others)
        and all(torch.equal(weights[k], others[k]) and weights[k].dtype == others[k].dtype for k in weights)
    )


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return (open, (str(self.marker), "w"))
