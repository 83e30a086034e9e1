"""Every damaged or hostile weights file is refused by name, and nothing in it is executed."""

import json
import pickle
import zipfile

import pytest
import torch
import toy
from checkpoint_tools import CONFIG, WEIGHTS, Payload, change_tensors, refused_load, replace_weights

import zoo
from zoo.errors import CheckpointError

WHERE = f"/{CONFIG}"
WEIGHTS_AT = f"/{WEIGHTS}"


@pytest.fixture(autouse=True)
def toys():
    with toy.registered():
        yield


@pytest.fixture
def folder(tmp_path):
    return zoo.save(toy.make("image"), tmp_path / "checkpoint")


@pytest.mark.parametrize("place", [0, 7, 8, 40, -40, -1])
def test_one_changed_byte(folder, place):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[place] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused_load(
        folder, CheckpointError, WEIGHTS_AT, "damaged: its SHA-256 is not the one", "download or copy it again"
    )


WEIGHT_CASES = {
    "truncated": (lambda f, c: c[:-1], "truncated: ", " bytes instead of the "),
    "empty": (lambda f, c: b"", "truncated: 0 bytes instead of the "),
    "larger": (lambda f, c: c + b"\0", "larger than it should be: "),
}


@pytest.mark.parametrize("case", WEIGHT_CASES)
def test_files_of_another_size(folder, case):
    mutate, *parts = WEIGHT_CASES[case]
    (folder / WEIGHTS).write_bytes(mutate(folder, (folder / WEIGHTS).read_bytes()))
    refused_load(folder, CheckpointError, WEIGHTS_AT, *parts, "Delete it, and download or copy it again.")


TENSOR_CASES = {
    "missing": ({"encoder__weight": None}, "encoder.weight is missing"),
    "unexpected": ({"head__weight": torch.ones(3)}, "head.weight is unexpected"),
    "wrong shape": ({"encoder__weight": torch.ones(2)}, "encoder.weight has the shape (2,) instead of (1,)"),
    "scalar": ({"encoder__weight": torch.ones(())}, "encoder.weight has the shape () instead of (1,)"),
    "integers": ({"encoder__weight": torch.ones(1).long()}, "holds torch.int64 values, torch.float32 was expected"),
    "booleans": ({"encoder__weight": torch.ones(1).bool()}, "holds torch.bool values, torch.float32 was expected"),
    "too precise": ({"encoder__weight": torch.ones(1).double()}, "holds torch.float64 values, torch.float32 was"),
    "unread dtype": ({"encoder__weight": torch.ones(1).to(torch.float8_e4m3fn)}, "encoder.weight holds F8_E4M3"),
    "NaN": ({"encoder__weight": torch.tensor([torch.nan])}, "NaN or infinite values in encoder.weight"),
    "infinite": ({"quantizer__table": torch.full((16,), -torch.inf).double()}, "infinite values in quantizer.table"),
    "all others": ({f"x{i}": torch.ones(1) for i in range(30)}, "x0 is unexpected", "; and 22 more."),
}


@pytest.mark.parametrize("case", TENSOR_CASES)
def test_tensors_that_do_not_fit(folder, case):
    tensors, *parts = TENSOR_CASES[case]
    change_tensors(folder, **tensors)
    refused_load(folder, CheckpointError, WEIGHTS_AT, *parts)


def test_narrower_floats_are_values_that_the_model_can_hold(folder):
    change_tensors(folder, encoder__weight=torch.tensor([0.5]).bfloat16())
    tok = zoo.load(folder)
    assert tok.encoder.weight.dtype == torch.float32
    assert tok.encoder.weight.tolist() == [0.5]


def test_weights_of_another_model(folder, tmp_path):
    other = zoo.save(toy.make("image", codebook_size=32), tmp_path / "other")
    replace_weights(folder, (other / WEIGHTS).read_bytes())
    refused_load(folder, CheckpointError, WEIGHTS_AT, "quantizer.table has the shape (32,) instead of (16,)")


@pytest.mark.parametrize("kind", ["pickle", "torch zip", "zip", "text", "empty header", "huge header"])
def test_what_is_not_safetensors_is_not_read(folder, tmp_path, kind):
    marker = tmp_path / "executed"
    path = tmp_path / "payload"
    if kind == "pickle":
        path.write_bytes(pickle.dumps(Payload(marker)))
        pickle.loads(path.read_bytes()).close()
    elif kind == "torch zip":
        torch.save({"encoder.weight": Payload(marker)}, path)
        torch.load(path, weights_only=False)["encoder.weight"].close()
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("../../executed", "x")
    else:
        path.write_bytes({"text": b"hello", "empty header": bytes(8), "huge header": b"\xff" * 8 + b"{}"}[kind])
    if kind in ("pickle", "torch zip"):
        marker.unlink()  # it was there: the payload works
    replace_weights(folder, path.read_bytes())
    refused_load(folder, CheckpointError, WEIGHTS_AT, "is not a safetensors file", "Pickled weights are not read")
    assert not list(tmp_path.rglob("executed"))
    (folder / CONFIG).write_bytes(path.read_bytes())
    refused_load(folder, CheckpointError, WHERE, " is not ")  # JSON, or not even text
    assert not list(tmp_path.rglob("executed"))


def header_cases(content):
    """Safetensors headers that lie."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), content[8 + size :]
    for name, lie in {
        "beyond the end": {"data_offsets": [0, 2**40]},
        "backwards": {"data_offsets": [8, 4]},
        "negative": {"data_offsets": [-4, 0]},
        "shape of terabytes": {"shape": [2**40]},
        "shape that overflows": {"shape": [2**32, 2**32, 2**32]},
        "dtype unknown": {"dtype": "Q7"},
        "a word": {"shape": "abc"},
    }.items():
        text = json.dumps({**header, "encoder.weight": {**header["encoder.weight"], **lie}}).encode()
        yield name, len(text).to_bytes(8, "little") + text + data


def test_lying_headers(folder):
    cases = dict(header_cases((folder / WEIGHTS).read_bytes()))
    assert len(cases) == 7
    for content in cases.values():
        replace_weights(folder, content)
        refused_load(folder, CheckpointError, WEIGHTS_AT, "is not a safetensors file")
