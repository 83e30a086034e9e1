"""Tokenizers in programs that are compiled: encode and decode run as they are, what is around them is compiled."""

import pytest
import torch
import toy
from tiny_stabletoken import make, speech

CALLS = {
    "stabletoken": lambda: (make(), speech(9000)),
    "action": lambda: (toy.make("action"), toy.signals("action", 3)),
}


@pytest.fixture(autouse=True)
def begun_anew():
    yield
    torch.compiler.reset()


@pytest.mark.parametrize("name", CALLS)
def test_x14_compiled_calls_are_those_of_python(name):
    tokenizer, x = CALLS[name]()
    expected = tokenizer.encode(x)
    tokens = torch.compile(tokenizer.encode, backend="eager")(x)
    assert torch.equal(tokens.ids, expected.ids)
    if name == "action":
        assert torch.equal(torch.compile(tokenizer.decode, backend="eager")(tokens), tokenizer.decode(expected))


def test_x14_what_is_around_a_call_is_compiled():
    tokenizer, x = CALLS["action"]()
    graphs = []

    def backend(graph, _):
        graphs.append([node.target for node in graph.graph.nodes if node.op == "call_method"])
        return graph.forward

    def policy(x):
        return tokenizer.encode(x.mul(1.0)).ids.add(7)

    assert torch.equal(torch.compile(policy, backend=backend)(x), tokenizer.encode(x).ids + 7)
    assert graphs == [["mul"], ["add"]]


def test_x14_a_full_graph_is_refused_with_what_can_be_compiled():
    tokenizer, x = CALLS["action"]()
    with pytest.raises(torch._dynamo.exc.Unsupported, match=r"tokenizer\.encoder\.compile\(\)"):
        torch.compile(tokenizer.encode, backend="eager", fullgraph=True)(x)


def test_x14_an_encoder_is_compiled_in_fast_mode():
    tokenizer = make().eval()
    tokenizer.is_exact = False
    waves = [speech(9000), speech(5000, 1)]
    expected = tokenizer.encode(waves)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph.forward

    tokenizer.encoder.compile(backend=backend)
    assert torch.equal(tokenizer.encode(waves).ids, expected.ids)
    assert graphs
