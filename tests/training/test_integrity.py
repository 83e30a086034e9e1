"""A training checkpoint with one flipped bit is refused, or holds what it did."""

import random

import pytest
import torch

from zoo.errors import CheckpointError
from zoo.training.checkpoint_file import TOKENIZER, read_checkpoint
from zoo.training.integrity import require_intact

CONTENT = {
    "state_dict": {"tokenizer.weight": torch.arange(40.0), "tokenizer.seen": torch.arange(3)},
    TOKENIZER: {"family": "x", "config": {"rate": 1}},
    "global_step": 7,
}


@pytest.fixture
def path(tmp_path):
    torch.save(CONTENT, tmp_path / "last.ckpt")
    return tmp_path / "last.ckpt"


def is_as_ever(content):
    tensors, expected = content["state_dict"], CONTENT["state_dict"]
    same = tensors.keys() == expected.keys() and all(torch.equal(tensors[key], expected[key]) for key in expected)
    return same and all(content[key] == CONTENT[key] for key in (TOKENIZER, "global_step"))


def test_what_is_intact_is_read(path):
    require_intact(path)
    assert is_as_ever(read_checkpoint(path))


def test_x11_one_flipped_bit(path):
    whole = path.read_bytes()
    chance, refused = random.Random(0), 0
    for place in sorted(chance.sample(range(len(whole)), 400)):
        spoiled = bytearray(whole)
        spoiled[place] ^= 1 << chance.randrange(8)
        path.write_bytes(spoiled)
        try:
            assert is_as_ever(read_checkpoint(path)), place
        except CheckpointError:
            refused += 1
    assert refused > 50


def test_x11_every_bit_of_a_weight(path):
    whole = path.read_bytes()
    values = CONTENT["state_dict"]["tokenizer.weight"].numpy().tobytes()
    start = whole.index(values)
    for bit in range(8 * 12):
        spoiled = bytearray(whole)
        spoiled[start + 8 + bit // 8] ^= 1 << bit % 8
        path.write_bytes(spoiled)
        with pytest.raises(CheckpointError, match=r"damaged: its part '.*data/0' is not what was written"):
            require_intact(path)


@pytest.mark.parametrize("keep", [0, 10, 500, -1, -30])
def test_x11_cut_short(path, keep):
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(CheckpointError, match="no training checkpoint, or a damaged one"):
        require_intact(path)


def test_x11_a_part_that_is_another_runs(path, tmp_path):
    torch.save({**CONTENT, "state_dict": {"tokenizer.weight": torch.ones(40), "tokenizer.seen": torch.arange(3)}}, path)
    other = path.read_bytes()
    torch.save(CONTENT, path)
    whole = bytearray(path.read_bytes())
    assert len(other) == len(whole)
    start = whole.index(CONTENT["state_dict"]["tokenizer.weight"].numpy().tobytes())
    whole[start : start + 160] = other[start : start + 160]
    path.write_bytes(whole)
    with pytest.raises(CheckpointError, match="damaged"):
        read_checkpoint(path)
