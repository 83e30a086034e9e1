"""Residual quantization: every stage quantises what the stages before it left over (arXiv 2107.03312)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from zoo.components.quantizers.base import Quantizer, require, straight_through
from zoo.components.quantizers.fsq import FSQ, FSQConfig
from zoo.components.quantizers.lfq import LFQ, LFQConfig
from zoo.components.quantizers.stochastic_vq import StochasticVQ, StochasticVQConfig
from zoo.components.quantizers.vq import VQ, VQConfig

__all__ = ["STAGES", "Residual", "ResidualConfig"]

STAGES: dict[str, type[Quantizer]] = {"fsq": FSQ, "lfq": LFQ, "stochastic_vq": StochasticVQ, "vq": VQ}
"""What a stage can be, by kind: whatever has codes like its inputs and nothing to learn behind them."""


@dataclass(frozen=True)
class ResidualConfig:
    """Residual quantization.

    Attributes:
        stage: What each stage is.
        num_stages: K.
        scale: Stage k works on the residual divided by scale^k; for stages whose codes do not shrink by themselves,
            as those of FSQ and LFQ.
        dropout_rate: Probability that a training step uses only a random number of stages, so that prefixes decode.
    """

    stage: VQConfig | StochasticVQConfig | FSQConfig | LFQConfig
    num_stages: int
    scale: float = 1.0
    dropout_rate: float = 0.0
    kind: Literal["residual"] = "residual"

    def __post_init__(self) -> None:
        require(self.num_stages >= 1, f"residual: num_stages must be at least 1, got {self.num_stages}.")
        require(0 < self.scale <= 1, f"residual: scale must be above 0 and at most 1, got {self.scale}.")
        require(0 <= self.dropout_rate <= 1, f"residual: dropout_rate is a probability, got {self.dropout_rate}.")


class Residual(Quantizer):
    """r_0 = z, c_k = Q_k(r_k), r_{k+1} = r_k - sg(c_k); the code is Σ c_k and the ids are (..., K).

    Gradients pass straight through the sum; stages learn from their own losses, which are averaged. The first k ids
    are a code as well, a coarser one. Residuals are differences of single numbers, so that the ids of every stage are
    as independent of the batch as those of the first.

    Attributes:
        stages: The K quantizers.
    """

    def __init__(self, config: ResidualConfig) -> None:
        make: Any = STAGES[config.stage.kind]
        stages: list[Quantizer] = [make(config.stage) for _ in range(config.num_stages)]
        super().__init__(stages[0].dim, stages[0].codebook_size, config.num_stages)
        self.config = config
        self.stages = nn.ModuleList(stages)

    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (..., k), of the first k ≤ K stages, float32 (..., D)."""
        code = torch.zeros(*ids.shape[:-1], self.dim, dtype=torch.float32, device=ids.device)
        for k, stage_ids in enumerate(ids.unbind(-1)):
            code = code + self._part(k, stage_ids)
        return code

    def _ids(self, rows: Tensor) -> Tensor:
        ids = []
        for k, stage in enumerate(self._stages()):
            ids.append(stage._ids(rows / self.config.scale**k))
            rows = rows - self._part(k, ids[-1])
        return torch.stack(ids, -1)

    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        active = self._draw_active(generator)
        residual, code = rows, torch.zeros_like(rows)
        all_ids, losses = [], dict[str, Tensor]()
        for k, stage in enumerate(self._stages()):
            scale = self.config.scale**k
            part, ids, stage_losses = stage._quantize(residual / scale, valid, generator)
            part = part.detach() * scale
            all_ids.append(ids)
            residual = residual - part
            if k < active:
                code = code + part
                for name, loss in stage_losses.items():
                    losses[name] = losses.get(name, torch.zeros_like(loss)) + loss / active
        return straight_through(rows, code), torch.stack(all_ids, -1), losses

    def _draw_active(self, generator: torch.Generator | None) -> int:
        """Return how many stages this step uses."""
        stages = self.num_codebooks
        if not self.training or not self.config.dropout_rate:
            return stages
        device = "cpu" if generator is None else generator.device
        chance, share = torch.rand(2, dtype=torch.float32, generator=generator, device=device).tolist()
        return 1 + int(share * stages) if chance < self.config.dropout_rate else stages

    def _part(self, k: int, ids: Tensor) -> Tensor:
        return self._stages()[k].codes(ids) * self.config.scale**k

    def _stages(self) -> list[Quantizer]:
        return list(self.stages)  # type: ignore[arg-type]
