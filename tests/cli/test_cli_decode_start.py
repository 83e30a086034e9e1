"""`zoo decode` of models whose chunks continue the commands before them."""

import numpy as np
import pytest
import torch
from cli_files import fails, listed, ok
from test_cli_fit import SMALL, data, store  # noqa: F401 - a fixture

import zoo
from zoo import tokenfile


@pytest.fixture(params=["value", "value+velocity"])
def encoded(request, data):  # noqa: F811
    """`x.zoo` of `kitchen.npz`, by the model in `mine`."""
    options = (*SMALL, "--degree", "3", "--grid", "anchored", "--boundary", request.param)
    ok("fit-actions", "kitchen.npz", "-o", "mine", *options, "--json")
    ok("encode", "mine", "kitchen.npz", "-o", "x.zoo")
    return data


def test_r5_decoding_begins_where_the_episodes_do(encoded, capsys):
    fails(capsys, ["decode", "x.zoo", "-o", "out"], "--start", "the file of actions that was encoded")
    ok("decode", "x.zoo", "-o", "out", "--start", "kitchen.npz", "--batch-size", "5")
    tok = zoo.load("./mine")
    first = torch.from_numpy(np.stack([episode[0] for episode in encoded]))
    tokens = tokenfile.load("x.zoo").tokens
    expected = tok.decode(tokens, **tok.at_rest(first))
    assert len(listed("out")) == len(encoded)
    for name, row, episode in zip(tokenfile.load("x.zoo").names, expected, encoded, strict=True):
        decoded = np.load(f"out/{name}.npy")
        assert decoded.shape == episode.shape
        np.testing.assert_allclose(decoded, row[: len(episode)].numpy(), atol=1e-5)
        assert np.abs(decoded - episode)[:, :2].max() < 0.3


def test_r5_episodes_are_found_by_name_or_in_order(encoded, capsys):
    ok("decode", "x.zoo", "-o", "out", "--start", "kitchen.npz")
    store("others.npz", encoded[:1])
    fails(
        capsys, ["decode", "x.zoo", "-o", "no", "--start", "others.npz"], "12 items", "1 episode", "an episode for each"
    )
    store("again.npz", [episode[:1] for episode in encoded], dof_names=["x", "y", "grip"])
    ok("decode", "x.zoo", "-o", "second", "--start", "again.npz")
    for name in listed("out"):
        assert np.array_equal(np.load(f"out/{name}"), np.load(f"second/{name}"))
    store("turned.npz", encoded, dof_names=["y", "x", "grip"])
    fails(capsys, ["decode", "x.zoo", "-o", "no", "--start", "turned.npz"], "another order")
    store("wide.npz", [np.zeros((2, 5), "f4")] * 12)
    fails(capsys, ["decode", "x.zoo", "-o", "no", "--start", "wide.npz"], "5")


def test_r5_other_models_take_no_start(data, capsys):  # noqa: F811
    ok("fit-actions", "kitchen.npz", "-o", "mine", *SMALL, "--json")
    ok("encode", "mine", "kitchen.npz", "-o", "x.zoo")
    fails(capsys, ["decode", "x.zoo", "-o", "out", "--start", "kitchen.npz"], "leave --start out")
