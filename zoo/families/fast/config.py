"""The settings of a FAST tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo import config as configs
from zoo.components.layers.reach import LIMIT
from zoo.errors import ConfigError
from zoo.modalities.action_settings import MAX_HORIZON, check_chunk, check_quantiles, require_between

__all__ = ["FastConfig"]

_MAX_HORIZON = 1024
_BYTES = 256


@dataclass(frozen=True)
class FastConfig:
    """Settings of a FAST tokenizer. The defaults are the paper's, but for the safer alphabet.

    Args:
        num_dofs: Degrees of freedom, D. None for a tokenizer of chunks of any shape, such as the released FAST+:
            `FastTokenizer.for_chunks` then states it before use.
        horizon: Steps in a chunk, T; None as for `num_dofs`.
        scale: What coefficients are multiplied by before rounding: larger is finer and costs more tokens.
        bpe_vocab_size: Number of ids, V; fewer are used if the data has too few repetitions to learn so many.
        control_rate: Commands per second, Hz, if known.
        action_quantiles: Quantiles of the actions that normalised units put at -1 and +1, or None if inputs are
            normalised already, as the released processor expects them.
        variant: How the vocabulary is learnt. `parity`: as the released processor does it, whose vocabulary lacks bytes
            that the fitted data did not have, so that a chunk with an unseen coefficient loses it and does not decode.
            `safe`: all 256 bytes are in the vocabulary, and tokens may cross the borders that the released one's text
            rule draws.
        margin: How far below the smallest coefficient of the data the `safe` alphabet starts, as a fraction of their
            range. Smaller coefficients are raised to its start.
        fit_stride: Steps between the chunks that are fitted on; None for the horizon, as `encode` cuts sequences. A
            policy that is trained on chunks from every step is served better by a smaller one.
        limit: How many half ranges from the middle of the fitted range a value may lie; beyond, its unit must be wrong.
    """

    num_dofs: int | None = None
    horizon: int | None = None
    scale: float = 10.0
    bpe_vocab_size: int = 1024
    control_rate: float | None = None
    action_quantiles: tuple[float, float] | None = (0.01, 0.99)
    variant: Literal["parity", "safe"] = "safe"
    margin: float = 0.25
    fit_stride: int | None = None
    limit: float = LIMIT

    def __post_init__(self) -> None:
        configs.check_fields(self, "FAST")
        check_chunk("FAST", self.num_dofs, self.horizon, self.control_rate, self.limit, max_horizon=_MAX_HORIZON)
        self._require(
            self.action_quantiles is None or (self.num_dofs is not None and self.horizon is not None),
            "num_dofs and horizon may be None only where inputs are normalised already: state both, or set "
            "action_quantiles to None",
        )
        require_between("FAST", "scale", self.scale, 1e-6, 1e6)
        least = _BYTES if self.variant == "safe" else 2
        require_between("FAST", f"bpe_vocab_size of the {self.variant} variant", self.bpe_vocab_size, least, 2**20)
        check_quantiles("FAST", "action_quantiles", self.action_quantiles)
        require_between("FAST", "margin", self.margin, 0, 1000)
        if self.fit_stride is not None:
            require_between("FAST", "fit_stride", self.fit_stride, 1, MAX_HORIZON)

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"FAST: {message}.")
