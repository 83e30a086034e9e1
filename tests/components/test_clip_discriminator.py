"""The judge of clips: its formulas, what it sees, bad sizes."""

import pytest
import torch
import torch.nn.functional as F

from zoo.components.discriminators.clips import ClipDiscriminator, ClipDiscriminatorConfig
from zoo.components.layers.positions import sincos_3d
from zoo.errors import ConfigError

SMALL = ClipDiscriminatorConfig(size=(4, 8, 8), patch=(2, 4, 4), width=16, num_layers=1, num_heads=2)


@pytest.fixture
def judge():
    torch.manual_seed(0)
    return ClipDiscriminator(SMALL).eval()


def test_a_token_without_a_place_becomes_the_judgement(judge):
    clips = torch.rand(3, 3, 4, 8, 8)
    patches = judge.embed(clips) + sincos_3d((2, 2, 2), 16)
    x = torch.cat([judge.judge.expand(3, 1, 16), patches], 1)
    with torch.no_grad():
        token = judge.layers[0](x)[:, 0]
        wanted = F.layer_norm(token, (16,), judge.norm.weight, judge.norm.bias, 1e-6) @ judge.project.weight[0]
        torch.testing.assert_close(judge(clips), wanted)
    assert judge.norm.eps == 1e-6
    assert judge.layers[0].attention_norm.eps == 1e-5
    assert judge.layers[0].attention.q.bias is None


def test_a_judgement_is_of_the_clip_alone_and_of_all_of_it(judge):
    clips = torch.rand(3, 3, 4, 8, 8).requires_grad_()
    logits = judge(clips)
    torch.testing.assert_close(logits[1:2], judge(clips[1:2]))
    (gradient,) = torch.autograd.grad(logits[1], clips)
    assert not gradient[[0, 2]].any()
    assert gradient[1].abs().amin() > 0
    assert judge(clips[:, :, :2]).shape == (3,)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": (4, 9, 8)}, "do not fill"),
        ({"patch": (0, 4, 4)}, "do not fill"),
        ({"width": 18}, "multiple of 4"),
        ({"num_heads": 3}, "num_heads"),
        ({"num_layers": 10**6}, "num_layers"),
        ({"size": (2**12, 2**12, 2**12), "patch": (1, 1, 1)}, "too many patches"),
    ],
    ids=str,
)
def test_sizes_that_cannot_be_built_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        ClipDiscriminatorConfig(**{**vars(SMALL), **values})
