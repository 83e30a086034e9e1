"""The settings of a FAST tokenizer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo import config as configs
from zoo.errors import ConfigError

__all__ = ["FastConfig"]

_MAX_HORIZON = 1024
_MAX_DOFS = 1024
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

    def __post_init__(self) -> None:
        configs.check_fields(self, "FAST")
        self._require(
            self.num_dofs is None or 1 <= self.num_dofs <= _MAX_DOFS,
            f"num_dofs must be in 1 … {_MAX_DOFS} (or None), got {self.num_dofs}",
        )
        self._require(
            self.horizon is None or 1 <= self.horizon <= _MAX_HORIZON,
            f"horizon must be in 1 … {_MAX_HORIZON} steps (or None), got {self.horizon}",
        )
        self._require(
            self.action_quantiles is None or (self.num_dofs is not None and self.horizon is not None),
            "num_dofs and horizon may be None only where inputs are normalised already: state both, or set "
            "action_quantiles to None",
        )
        self._require(self.scale > 0, f"scale must be above 0, got {self.scale}")
        least = _BYTES if self.variant == "safe" else 2
        self._require(
            least <= self.bpe_vocab_size <= 2**20,
            f"bpe_vocab_size of the {self.variant} variant must be in {least} … 2^20, got {self.bpe_vocab_size}",
        )
        self._require(
            self.control_rate is None or self.control_rate > 0, f"control_rate must be above 0, got {self.control_rate}"
        )
        if self.action_quantiles is not None:
            low, high = self.action_quantiles
            self._require(0 <= low < high <= 1, f"action_quantiles must be 0 ≤ low < high ≤ 1, got {low}, {high}")
        self._require(self.margin >= 0, f"margin must be 0 or more, got {self.margin}")
        self._require(
            self.fit_stride is None or self.fit_stride >= 1,
            f"fit_stride must be at least 1 (or None), got {self.fit_stride}",
        )

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"FAST: {message}.")
