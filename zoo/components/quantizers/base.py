"""What every quantizer is: vectors to codes, ids, losses and statistics, and ids back to codes."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any, ClassVar, NamedTuple

import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.errors import ConfigError, InputError

__all__ = [
    "Quantized",
    "Quantizer",
    "full_precision",
    "integer_dot",
    "mean",
    "require",
    "straight_through",
    "valid_only",
]

_MAX_COUNTED = 2**20


class Quantized(NamedTuple):
    """What `Quantizer.forward` returns, the same in training and evaluation.

    Attributes:
        codes: (..., D) the quantised vectors, in the input's dtype. Their gradient reaches the input.
        ids: int64 (...), or (..., K) if there are several codebooks. Where the mask is False they mean nothing.
        losses: By name, already weighted as the config says: a trainer adds their sum to its own loss.
        stats: By name, without gradient: `usage`, the share of the codebook seen in this batch, and `perplexity`, the
            exponential of the entropy of its ids; for several codebooks the mean over them.
        sums: In evaluation, of those losses that are no means over vectors: a function that makes the loss, and what it
            makes it of, which adds up over batches.
    """

    codes: Tensor
    ids: Tensor
    losses: dict[str, Tensor]
    stats: dict[str, Tensor]
    sums: dict[str, tuple[Any, ...]] = {}  # noqa: RUF012  never changed


class Quantizer(KeepsPrecision):
    """Vectors of width `input_dim` to ids below `codebook_size` and to codes of width `dim`.

    Vectors are rounded to float32 first, if they are not, and worked on in float32 whatever the autocast; weights stay
    float32 under `.half()`. `ids` is a function of each vector alone: neither the batch it is in, nor the number of
    threads, nor the kernel that a matrix product uses changes an id, near ties included.

    Subclasses implement `_ids`, `_quantize` and `codes`. The constructor takes a dataclass of plain values.

    Args:
        dim: Width of the codes.
        codebook_size: Ids of one codebook, the largest if they differ; 0 if there are no ids.
        num_codebooks: K; ids have a last axis of length K unless K is 1.
        input_dim: Width of the vectors, if not `dim`.
    """

    config_class: ClassVar[type]
    """The dataclass of its settings, a `QuantizerConfig`."""

    def __init__(self, dim: int, codebook_size: int, num_codebooks: int = 1, input_dim: int | None = None) -> None:
        super().__init__()
        self.dim = dim
        self.codebook_size = codebook_size
        self.num_codebooks = num_codebooks
        self.input_dim = dim if input_dim is None else input_dim

    def forward(self, z: Tensor, mask: Tensor | None = None, generator: torch.Generator | None = None) -> Quantized:
        """Quantise z (..., input_dim).

        Args:
            z: The vectors.
            mask: bool (...), False where z is padding, which then enters neither losses nor statistics. The padding
                may hold anything.
            generator: Source of whatever randomness training has; the device's default one if None.
        """
        return self._on_rows(z, mask, lambda rows, valid: self._quantize(rows, valid, generator))

    def ids(self, z: Tensor) -> Tensor:
        """Return the ids of z (..., input_dim), int64 (...) or (..., K). Deterministic, also in training mode."""
        if torch.is_grad_enabled() or torch.is_autocast_enabled(z.device.type):
            # Only where there is something to switch off: contexts cost as much time as a small batch does.
            with torch.no_grad(), full_precision(z):
                return self.ids(z)
        return self._shape_ids(self._ids(self._rows(z)), z)

    @abstractmethod
    def codes(self, ids: Tensor) -> Tensor:
        """Return the codes of ids (...) or (..., K), float32 (..., D); the very values that `forward` returns.

        That ids are in range is the caller's to check.
        """

    @abstractmethod
    def _ids(self, rows: Tensor) -> Tensor:
        """Return the ids of float32 rows (N, input_dim), (N,) or (N, K)."""

    @abstractmethod
    def _quantize(
        self, rows: Tensor, valid: Tensor | None, generator: torch.Generator | None
    ) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
        """Return codes (N, D), ids (N,) or (N, K), and losses over the rows where `valid` (N,) is True."""

    def _on_rows(
        self,
        z: Tensor,
        mask: Tensor | None,
        quantize: Callable[[Tensor, Tensor | None], tuple[Tensor, Tensor, dict[str, Tensor]]],
    ) -> Quantized:
        """Flatten, quantise in float32, give the shape back, add statistics."""
        if mask is not None and (mask.shape != z.shape[:-1] or mask.dtype != torch.bool):
            raise InputError(
                f"the mask must be bool of shape {tuple(z.shape[:-1])}, got {mask.dtype} of {tuple(mask.shape)}."
            )
        valid = None if mask is None else mask.reshape(-1)
        with full_precision(z):
            codes, ids, losses = quantize(self._rows(z), valid)
            stats = _usage(valid_only(ids, valid), self.codebook_size) if self.num_codebooks else {}
            sums = {} if self.training else self._sums(valid_only(self._rows(z), valid))
        codes = codes.reshape(*z.shape[:-1], self.dim)
        return Quantized(codes.to(z.dtype), self._shape_ids(ids, z), losses, stats, sums)

    def _sums(self, rows: Tensor) -> dict[str, tuple[Any, ...]]:
        """Return `Quantized.sums` of float32 rows (N, input_dim)."""
        return {}

    def _rows(self, z: Tensor) -> Tensor:
        if z.ndim < 1 or z.shape[-1] != self.input_dim or not z.is_floating_point():
            raise InputError(
                f"{type(self).__name__} takes floating vectors (..., {self.input_dim}), got {z.dtype} of shape "
                f"{tuple(z.shape)}."
            )
        rows = z if z.ndim == 2 else z.reshape((z.shape[:-1].numel(), self.input_dim))
        return rows.float()

    def _shape_ids(self, ids: Tensor, z: Tensor) -> Tensor:
        return ids if z.ndim == 2 else ids.reshape((*z.shape[:-1], *ids.shape[1:]))

    def extra_repr(self) -> str:
        """Return the sizes, for `repr`."""
        return f"dim={self.dim}, codebook_size={self.codebook_size}, num_codebooks={self.num_codebooks}"


def full_precision(x: Tensor) -> AbstractContextManager[Any]:
    """Return a context without autocast on the device of x; the context costs time, so only where there is one."""
    device = x.device.type
    return torch.autocast(device, enabled=False) if torch.is_autocast_enabled(device) else nullcontext()


class _StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, z: Tensor, codes: Tensor) -> Tensor:
        return codes.view_as(codes)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> tuple[Any, None]:
        return gradients[0], None


def straight_through(z: Tensor, codes: Tensor) -> Tensor:
    """Return `codes` bit for bit, with the gradient of `z` (arXiv 1308.3432)."""
    # z + (codes - z).detach() would round, and differ from what the ids decode to.
    result: Tensor = _StraightThrough.apply(z, codes.detach())  # type: ignore[no-untyped-call]
    return result


def valid_only(x: Tensor, valid: Tensor | None) -> Tensor:
    """Return the rows of x (N, ...) where `valid` (N,) is True; all, if it is None."""
    # Selected, not multiplied by zero: padding may be NaN.
    return x if valid is None else x[valid]


def mean(x: Tensor) -> Tensor:
    """Return the mean of x, 0 if it is empty."""
    return x.sum() / max(1, x.numel())


def integer_dot(digits: Tensor, powers: Tensor) -> Tensor:
    """Return Σ_j digits[..., j] · powers[j], all int64."""
    # Integer matrix products are the fastest way on a CPU and do not exist elsewhere.
    return digits @ powers if digits.device.type == "cpu" else (digits * powers).sum(-1)


def require(condition: bool, message: str) -> None:
    """Raise `ConfigError` with `message` unless `condition` holds."""
    if not condition:
        raise ConfigError(message)


def _usage(ids: Tensor, codebook_size: int) -> dict[str, Tensor]:
    """Return share used and perplexity of ids (N,) or (N, K), averaged over the K."""
    columns = (ids[:, None] if ids.ndim == 1 else ids).T
    used, perplexity = [], []
    for column in columns:
        if codebook_size <= _MAX_COUNTED:
            counts = column.new_zeros(codebook_size).scatter_add_(0, column, torch.ones_like(column))
        else:
            counts = column.unique(return_counts=True)[1]
        p = counts.float() / max(1, len(column))
        used.append((counts > 0).sum().float() / codebook_size)
        perplexity.append(torch.special.entr(p).sum().exp())
    return {"usage": torch.stack(used).mean(), "perplexity": torch.stack(perplexity).mean()}
