"""Who trains in bfloat16 on a processor that has no arithmetic for it is told."""

import torch

from zoo.cli._precision import advice, bfloat16_cost

CPU = torch.device("cpu")


def test_slow_bfloat16_is_said():
    assert "30 times as slowly" in advice("bf16-mixed", CPU, 30.2)
    assert "--trainer.precision 32-true" in advice("bf16-true", CPU, 3.0)


def test_nothing_is_said_where_nothing_is_lost():
    assert advice("bf16-mixed", CPU, 0.6) is None
    assert advice("32-true", CPU, 30.0) is None
    assert advice("bf16-mixed", torch.device("cuda"), 30.0) is None


def test_it_is_measured():
    assert 0.05 < bfloat16_cost() < 1000
