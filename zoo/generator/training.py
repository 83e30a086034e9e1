"""Training a generator on the tokens of any tokenizer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn

from zoo import loading
from zoo.checkpoint.fingerprint import fingerprint
from zoo.errors import ConfigError
from zoo.generator.config import PRESETS
from zoo.generator.data import TokenBatch, TokenData
from zoo.generator.model import TokenGenerator
from zoo.training import OptimizerConfig, TokenizerModule
from zoo.training.figures import ratio

__all__ = ["GeneratorTraining"]

_DEFAULT_OPTIMIZER = OptimizerConfig(lr=6e-4, betas=(0.9, 0.95), weight_decay=0.05, final_ratio=0.01)


class GeneratorTraining(TokenizerModule):
    """Trains a generator by the cross-entropy of each id given those before it (arXiv 2410.21264, section 3.4).

    Weight decay is of linear maps alone: embeddings, positions and norms do not decay. Data are
    `zoo.generator.data.TokenData` of the same tokenizer.

    Args:
        tokenizer: Whose tokens: a name, a folder or an `hf://` address, as `zoo.load` takes.
        config: Values of `GeneratorConfig`. What the tokenizer says is filled in: modality, codebooks, `max_tokens` if
            all its items have one length, and otherwise `has_end`; with `condition_frames` also `prefix_tokens`.
            `size`, one of `PRESETS`, stands for layers, heads and width.
        weights: As of `TokenizerModule`.
        optimizer: Optimiser and schedule.
        loss_weights: As of `TokenizerModule`.

    Raises:
        ConfigError: A value is unusable.
    """

    family: ClassVar[str] = "generator"
    default_weights: ClassVar[Mapping[str, float]] = {"cross_entropy": 1.0}

    def __init__(
        self,
        tokenizer: str,
        config: dict[str, Any],
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__(_completed(config, tokenizer), weights, optimizer, loss_weights)

    @property
    def generator(self) -> TokenGenerator:
        """What is trained; every training of this library keeps that under the name `tokenizer`."""
        return cast("TokenGenerator", self.tokenizer)

    def losses(self, batch: TokenBatch) -> dict[str, Tensor]:
        """Return the mean negative log-probability of an id, ends included."""
        labels = batch.labels if self.generator.config.num_classes else None
        log_probs = self.generator.log_prob(batch.ids, batch.lengths, labels, batch.prefix)
        total, count = -log_probs.sum(), self.generator.num_predicted(batch.ids, batch.lengths)
        self.tally("cross_entropy", ratio, total.detach().double().cpu(), count.cpu())
        in_bits = total.detach().double().cpu() / torch.log(torch.tensor(2.0, dtype=torch.float64))
        self.tally("bits_per_token", ratio, in_bits, batch.lengths.sum().cpu())
        return {"cross_entropy": total / count.clamp(min=1)}

    def num_items(self, batch: TokenBatch) -> int:
        """Return how many items a batch has."""
        return len(batch.ids)

    def undecayed(self) -> Iterable[nn.Parameter]:
        """Return the embeddings and positions."""
        return self.generator.tables()

    def on_fit_start(self) -> None:
        """Refuse the tokens of another tokenizer, and other conditions.

        Raises:
            ConfigError: The data are other tokens.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        if isinstance(data, TokenData) and data.fingerprint() != self.generator.config.fingerprint:
            raise ConfigError(
                f"the data are tokens of {data.tokenizer}, and the model is to learn those of "
                f"{self.generator.config.tokenizer}: give both the same tokenizer."
            )
        if isinstance(data, TokenData) and data.condition_frames != self.generator.config.condition_frames:
            raise ConfigError(
                f"the data tell the first {data.condition_frames} frames of a clip, and the model is to continue "
                f"{self.generator.config.condition_frames}: give data and model.config the same condition_frames."
            )


def _completed(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """Return the values of a config with what a tokenizer says."""
    tokenizer = loading.load(name, decoder=False)
    spec = tokenizer.spec
    stated: dict[str, Any] = {
        "modality": spec.modality,
        "codebook_size": spec.require_codebook(),
        "num_codebooks": spec.num_codebooks,
        "tokenizer": tokenizer.name,
        "fingerprint": fingerprint(tokenizer, decoder=False),
        "has_end": spec.num_tokens is None,
    }
    if spec.num_tokens is not None:
        stated["max_tokens"] = spec.num_tokens
    values = dict(config)
    if values.get("condition_frames") and spec.num_tokens is not None:
        stated["prefix_tokens"] = spec.num_tokens
    size = values.pop("size", None)
    if size is not None and size not in PRESETS:
        raise ConfigError(f"model.config: size must be one of {', '.join(PRESETS)}, got {size!r}.")
    if size is not None:
        stated |= dict(zip(("num_layers", "num_heads", "width"), PRESETS[size], strict=True))
    if "max_tokens" not in {**stated, **values}:
        raise ConfigError(f"model.config lacks max_tokens: items of {tokenizer.name} have different lengths.")
    return {**stated, **values}
