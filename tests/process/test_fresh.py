"""Modules are built alike whatever the process's dtype, device and generator are, and leave these alone."""

import sys
import threading

import numpy as np
import pytest
import torch
from process_defaults import DTYPES, defaults
from torch import nn

from zoo.components.vocoder.convolution import Upsampling
from zoo.process.fresh import _DRAWING, fresh


def drawing_module():
    """A module that draws in every way that constructors do."""
    module = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    module.queries = nn.Parameter(torch.randn(3, 8) * 0.02)
    module.table = nn.Parameter(nn.init.trunc_normal_(torch.empty(5, 8), std=0.02))
    module.turn = nn.Parameter(nn.init.orthogonal_(torch.empty(4, 4)))
    module.embedding = nn.Embedding(6, 8)
    module.convolution = nn.utils.parametrizations.weight_norm(nn.Conv1d(4, 4, 3))
    module.register_buffer("order", torch.randperm(9))
    module.register_buffer("clocks", torch.empty(7).exponential_())
    module.register_buffer("near", torch.normal(torch.zeros(3), 1.0))
    module.register_buffer("like", torch.rand_like(module.clocks))
    return module


def making_module():
    """A module that makes tensors in every way that constructors do."""
    module = nn.LayerNorm(3)
    made = {
        "zeros": torch.zeros(3),
        "ones": torch.ones(3),
        "full": torch.full((3,), 0.1),
        "many": torch.full((3,), 7),
        "arange": torch.arange(0.0, 1.0, 0.25),
        "steps": torch.arange(4),
        "linspace": torch.linspace(0, 1, 7),
        "eye": torch.eye(2),
        "hann": torch.hann_window(8),
        "tensor": torch.tensor([0.1, 0.2]),
        "scalar": torch.tensor(0.1),
        "flag": torch.tensor(False),
        "ids": torch.tensor([1, 2]),
        "as_tensor": torch.as_tensor([0.1]),
        "array": torch.as_tensor(np.arange(3.0)),
        "number": torch.tensor(np.float64(0.1)),
        "wide": torch.zeros(2, dtype=torch.float64),
        "like": torch.zeros_like(torch.zeros(2, dtype=torch.float16)),
        "again": torch.as_tensor(torch.zeros(2, dtype=torch.float64)),
        "told": torch.as_tensor([1.0], dtype=torch.float16),
    }
    for name, tensor in made.items():
        module.register_buffer(name, tensor)
    return module


def same(one, other):
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(a[key].dtype == b[key].dtype and torch.equal(a[key], b[key]) for key in a)


def test_numbers_are_those_of_the_seed_and_the_generator_is_left_alone():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        expected = drawing_module()
        state = torch.get_rng_state()
        with fresh(seed=5):
            found = drawing_module()
        assert torch.equal(torch.get_rng_state(), state)
    assert same(found, expected)
    with fresh(seed=6):
        assert not same(drawing_module(), expected)


def test_every_call_that_takes_a_generator_is_known():
    takes = {
        schema.name.removeprefix("aten::")
        for schema in torch._C._jit_get_all_schemas()
        if schema.name.startswith("aten::") and any(argument.name == "generator" for argument in schema.arguments)
    }
    places = (torch, torch.Tensor)
    calls = {
        name: [getattr(place, name) for place in places if hasattr(place, name)]
        for name in takes
        if not name.startswith(("_", "rrelu")) and name != "random"  # layers' own; torch.random is a module
    }
    assert sum(map(len, calls.values())) > 20
    assert [name for name, found in calls.items() if not _DRAWING.issuperset(found)] == []


@pytest.mark.parametrize("dtype", DTYPES)
def test_default_dtype(dtype):
    with fresh():
        expected = making_module(), drawing_module()
    with defaults(dtype), fresh():
        found = making_module(), drawing_module()
    assert all(map(same, found, expected))
    assert {p.dtype for p in found[1].parameters()} == {torch.float32}


def test_default_device():
    with fresh():
        expected = making_module()
    with defaults(device="meta"):
        with fresh():
            found = making_module()
        assert torch.zeros(1).is_meta
    assert same(found, expected)


def test_meta_is_an_outline():
    state = torch.get_rng_state()
    with defaults(torch.float64), fresh("meta"):
        outline, drawn = making_module(), nn.TransformerEncoderLayer(8, 2, 16)
    assert all(tensor.is_meta for tensor in (*outline.state_dict().values(), *drawn.parameters()))
    assert torch.equal(torch.get_rng_state(), state)
    with fresh():
        expected = making_module()
    kinds = [{name: (t.shape, t.dtype) for name, t in m.state_dict().items()} for m in (outline, expected)]
    assert kinds[0] == kinds[1]


def test_one_inside_another():
    with fresh("meta"):
        with fresh():
            inner = torch.zeros(1)
        outer = torch.zeros(1)
    assert not inner.is_meta
    assert outer.is_meta


def test_weights_can_be_trained_although_the_caller_infers():
    with torch.inference_mode(), fresh():
        layer = nn.Linear(2, 2)
    layer(torch.ones(1, 2)).sum().backward()
    assert layer.weight.grad is not None


def test_other_threads_notice_nothing():
    inside, looked = threading.Event(), threading.Event()

    def build():
        with fresh("meta", seed=1):
            torch.rand(3)
            inside.set()
            looked.wait()

    thread = threading.Thread(target=build)
    with defaults(torch.float64):
        thread.start()
        inside.wait()
        made = torch.zeros(1)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            drawn = torch.rand(2)
            torch.manual_seed(0)
            looked.set()
            thread.join()
            assert torch.equal(drawn, torch.rand(2))
    assert made.dtype == torch.float64
    assert not made.is_meta


def test_an_outline_is_drawn_without_torchs_compiler(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch._dynamo", None)  # an import of it fails
    with fresh("meta"):
        made = [nn.Embedding(3, 2), nn.Linear(2, 2), nn.Conv1d(2, 2, 3), Upsampling(2, 3, 4, 2)]
        nn.init.trunc_normal_(made[1].weight)
    assert all(parameter.is_meta for module in made for parameter in module.parameters())
    assert made[3].gain.shape == (2, 1, 1)
