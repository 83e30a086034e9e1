"""Token files read and written as their documentation says, without the library."""

import hashlib
import json

import numpy as np
import torch
import toy
from safetensors.numpy import save_file


def made(modality="speech", batch=3):
    """A toy and tokens of it; those of speech differ in length."""
    tok, x = toy.make(modality), toy.signals(modality, batch)
    lengths = torch.tensor([37, 10, 1][:batch]) if modality == "speech" else None
    return tok, tok.encode(x, lengths)


def rewrite(path, arrays=None, metadata=None, **facts):
    """Write the file anew with other contents and a right digest, as a stranger's writer would."""
    old, held = read(path)
    arrays = {**old, **(arrays or {})}
    arrays = {name: array for name, array in arrays.items() if array is not None}
    text = json.dumps({name: value for name, value in {**held, **facts}.items() if value is not ...})
    digest = hashlib.sha256(text.encode())
    for name in ("ids", "lengths", "signal_lengths"):
        if name in arrays:
            digest.update(arrays[name].tobytes())
    save_file(arrays, path, {"facts": text, "sha256": digest.hexdigest(), **(metadata or {})})


def read(path):
    """Read a token file as its documentation says, without the library."""
    content = path.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    metadata = header.pop("__metadata__")
    kinds = {"U8": "<u1", "U16": "<u2", "U32": "<u4", "U64": "<u8", "I64": "<i8"}
    arrays, digest = {}, hashlib.sha256(metadata["facts"].encode())
    for name in ("ids", "lengths", "signal_lengths"):
        if name in header:
            start, end = header[name]["data_offsets"]
            values = content[8 + size + start : 8 + size + end]
            digest.update(values)
            arrays[name] = np.frombuffer(values, kinds[header[name]["dtype"]]).reshape(header[name]["shape"])
    assert digest.hexdigest() == metadata["sha256"]
    return arrays, json.loads(metadata["facts"])


UNSAFE = ["", "/etc/passwd", "../x", "a/../../x", "a//b", ".", "a/.", "a\\b", "a\0b", "a\nb", "a\x1b[2J", "x" * 1025]


UNSAFE += ["\udcff.wav"]
