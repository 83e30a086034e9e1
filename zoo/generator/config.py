"""Sizes of an autoregressive model over ids, and whose ids they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from zoo.config import check_fields, check_positive, check_product
from zoo.errors import ConfigError, near_matches
from zoo.spec import Modality

__all__ = ["PRESETS", "GeneratorConfig", "preset"]

PRESETS = {
    "S": (12, 6, 384),
    "B": (12, 12, 768),
    "L": (24, 16, 1024),
    "LP": (30, 20, 1280),
    "XL": (36, 20, 1280),
    "XXL": (48, 24, 1536),
    "XXXL": (48, 40, 2560),
}
"""Layers, heads and width of LARP's `llama-abs-…` (arXiv 2410.21264). `LP` is what was released."""

_MOST = 2**36
_MAY_BE_ZERO = ("num_classes", "prefix_tokens", "condition_frames")


@dataclass(frozen=True)
class GeneratorConfig:
    """An autoregressive model over the ids of a tokenizer.

    Attributes:
        modality: What the tokens are of.
        codebook_size: V.
        max_tokens: Tokens of an item; the most that there are, if it `has_end`.
        num_codebooks: K; ids are (B, T) if it is 1 and (B, T, K) otherwise.
        has_end: Whether items have different lengths. Then an end follows the last token: an id V of the first codebook
            that is predicted like the others, and never an input.
        num_classes: Classes that it can be conditioned on.
        class_dropout: Probability, in training, that an item's class is withheld.
        prefix_tokens: Tokens of a condition, such as the first frames of a clip, that stand before the item's own, with
            a separator between. Such a model has no classes. There is no condition if it is 0.
        condition_frames: Frames of a clip that this condition tells, see `zoo.generator.first_frames`; 0 if it is no
            clip's, or nobody said.
        width: D.
        num_layers: Layers.
        num_heads: Attention heads, a divisor of the width.
        num_kv_heads: Heads of keys and values, a divisor of `num_heads`; as many if None.
        mlp_size: Width inside the gated MLP; ⌊8 · D / 3⌋ rounded up to a multiple of 256 if None, as LLaMA has it.
        norm_eps: What RMS norms add to a mean square.
        token_dropout: Probability, in training, that a value of the embedded input is dropped.
        dropout: The same of attention's output.
        mlp_dropout: The same of the MLP's.
        attention_dropout: The same of an attention weight.
        drop_path: Probability, in training, that an item does without a branch of the last layer; it rises to that from
            0 in the first.
        fixed_positions: Sines and cosines instead of learned positions.
        init_std: Deviation of what weights start from; those of the output start at 0.
        tokenizer: Name of the tokenizer, "" if nobody said.
        fingerprint: Of that tokenizer without its decoder, see `zoo.checkpoint.fingerprint`; "" if nobody knows.

    Raises:
        ConfigError: A value is unusable.
    """

    modality: Modality
    codebook_size: int
    max_tokens: int
    num_codebooks: int = 1
    has_end: bool = False
    num_classes: int = 0
    class_dropout: float = 0.1
    prefix_tokens: int = 0
    condition_frames: int = 0
    width: int = 384
    num_layers: int = 12
    num_heads: int = 6
    num_kv_heads: int | None = None
    mlp_size: int | None = None
    norm_eps: float = 1e-5
    token_dropout: float = 0.1
    dropout: float = 0.1
    mlp_dropout: float = 0.1
    attention_dropout: float = 0.0
    drop_path: float = 0.0
    fixed_positions: bool = False
    init_std: float = 0.02
    tokenizer: str = ""
    fingerprint: str = ""

    def __post_init__(self) -> None:
        where = "generator"
        check_fields(self, where)
        check_positive(self, where, signed=_MAY_BE_ZERO)
        for name in _MAY_BE_ZERO:
            if getattr(self, name) < 0:
                raise ConfigError(f"{where}: {name} must be at least 0, got {getattr(self, name)}.")
        for name in ("token_dropout", "dropout", "mlp_dropout", "attention_dropout", "drop_path"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{where}: {name} must be at least 0 and below 1, got {getattr(self, name)}.")
        if not self.class_dropout <= 1:
            raise ConfigError(f"{where}: class_dropout is a probability, got {self.class_dropout}.")
        if self.norm_eps <= 0 or self.init_std <= 0:
            raise ConfigError(
                f"{where}: norm_eps and init_std must be above 0, got {self.norm_eps} and {self.init_std}."
            )
        if self.codebook_size < 2:
            raise ConfigError(f"{where}: codebook_size must be at least 2, got {self.codebook_size}.")
        if self.width % self.num_heads:
            raise ConfigError(f"{where}: {self.num_heads} heads do not divide a width of {self.width}.")
        if self.num_kv_heads is not None and self.num_heads % self.num_kv_heads:
            raise ConfigError(f"{where}: {self.num_kv_heads} heads of keys do not divide {self.num_heads} heads.")
        if self.prefix_tokens and self.num_classes:
            raise ConfigError(f"{where}: a prefix and classes exclude one another: set one of them to 0.")
        if self.condition_frames and not self.prefix_tokens:
            raise ConfigError(f"{where}: frames are a condition of prefix_tokens, and there are none of these.")
        if self.fixed_positions and self.width % 2:
            raise ConfigError(f"{where}: sines and cosines need an even width, got {self.width}.")
        check_product(self, where, ("num_codebooks", "codebook_size", "width"), _MOST)
        check_product(self, where, ("num_layers", "width", "width"), _MOST)

    @property
    def hidden(self) -> int:
        """Width inside the MLP."""
        return -(-(8 * self.width // 3) // 256) * 256 if self.mlp_size is None else self.mlp_size

    @property
    def num_start(self) -> int:
        """Positions before the first token: the class, or the prefix and its separator."""
        return self.prefix_tokens + 1

    @property
    def num_positions(self) -> int:
        """Positions that there are: each predicts what follows it, and nothing follows the last."""
        return self.num_start + self.max_tokens - (0 if self.has_end else 1)

    @property
    def num_outputs(self) -> int:
        """Ids that the first codebook can have, the end included."""
        return self.codebook_size + self.has_end


def preset(name: str, **values: Any) -> GeneratorConfig:
    """Return a config of one of the sizes in `PRESETS`.

    Args:
        name: Of the size, such as "LP".
        values: Further fields.

    Raises:
        ConfigError: There is no such size, or a value is unusable.
    """
    if name not in PRESETS:
        raise ConfigError(f"generator: there is no size {name!r}; {near_matches(name, PRESETS)}")
    layers, heads, width = PRESETS[name]
    return GeneratorConfig(num_layers=layers, num_heads=heads, width=width, **values)
