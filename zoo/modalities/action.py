"""What tokenizers of robot actions have in common: chunks of a fixed horizon, and statistics fitted on data."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.errors import InputError, NotFittedError, TokenError
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

__all__ = ["ActionTokenizer", "Chunks", "refresh_after_load", "split"]


@dataclass(frozen=True)
class Chunks:
    """Action sequences cut into consecutive chunks of one horizon.

    Args:
        values: (B, n, T, D) float32; past an item's end its last action is repeated.
        valid: (B, n) int64, the steps of each chunk that are data: T, fewer in an item's last chunk, 0 past it.
        per_item: (B,) int64, chunks of each item.
    """

    values: Tensor
    valid: Tensor
    per_item: Tensor


def split(x: Tensor, lengths: Tensor | None, horizon: int) -> Chunks:
    """Cut sequences x (B, L, D) of `lengths` (B,) into consecutive chunks of `horizon` steps; nothing is dropped."""
    batch, steps, dofs = x.shape
    if lengths is None:
        lengths = torch.full((batch,), steps, device=x.device)
    num_chunks = -(-steps // horizon)
    index = torch.arange(num_chunks * horizon, device=x.device).expand(batch, -1)
    index = torch.minimum(index, lengths[:, None] - 1)
    values = x.gather(1, index[:, :, None].expand(-1, -1, dofs))
    starts = torch.arange(num_chunks, device=x.device) * horizon
    valid = (lengths[:, None] - starts).clamp(0, horizon)
    return Chunks(values.view(batch, num_chunks, horizon, dofs), valid, -(-lengths // horizon))


class ActionTokenizer(KeepsPrecision, Tokenizer):
    """A tokenizer of action sequences (B, L, D), in physical units, that works on chunks of `horizon` steps.

    Sequences of any length are cut into consecutive chunks, and their tokens follow one another. The statistics a
    tokenizer needs are fitted once, explicitly, and then frozen: `encode` changes nothing, and neither does a policy
    around it that is converted to half precision.

    Attributes:
        fitting: Module of the family, "" if it needs none, whose `settle(values, episodes, threshold)` replaces "auto"
            among the values of a config by what the data needs, and also returns what was tried, as plain values.
    """

    fitting: ClassVar[str] = ""

    @property
    def horizon(self) -> int:
        """Steps in a chunk, T."""
        return int(self.config.horizon)

    @property
    def num_dofs(self) -> int:
        """Degrees of freedom, D."""
        return int(self.config.num_dofs)

    @property
    def num_fixed(self) -> int:
        """Commands before a chunk that it continues, which `encode` and `decode` are then given as `start`."""
        return 0

    @property
    @abstractmethod
    def is_fitted(self) -> bool:
        """Whether the statistics are known."""

    @abstractmethod
    def partial_fit(self, episodes: Any) -> Self:
        """Add data to the statistics and refresh the bounds.

        Args:
            episodes: What `fit` takes.
        """

    @abstractmethod
    def reset_fit(self) -> Self:
        """Forget all statistics."""

    def fit(self, episodes: Any) -> Self:
        """Fit the statistics on data, from scratch, and freeze them.

        Args:
            episodes: Sequences (L_i, D) as arrays or tensors in a list, one tensor (B, L, D), or the result of
                `zoo.data.actions.read_actions`. Physical units.

        Returns:
            The tokenizer itself.

        Raises:
            InputError: No data, NaN, or a wrong number of degrees of freedom.
        """
        sequences = self.as_episodes(episodes)  # refused data must not cost the old statistics
        return self.reset_fit().partial_fit(sequences)

    def require_ready(self) -> None:
        """Raise `NotFittedError` if there are no statistics yet."""
        if not self.is_fitted:
            raise NotFittedError(
                f"this {self.family} tokenizer has no statistics yet: call fit(episodes) first, or load a fitted one, "
                f'such as zoo.load("{self.family}").'
            )

    def as_episodes(self, episodes: Any) -> list[Tensor]:
        """Return data for fitting as float32 sequences (L_i, D) on the CPU, checked."""
        sequences = getattr(episodes, "episodes", episodes)
        if isinstance(sequences, (Tensor, np.ndarray)) and sequences.ndim != 3:
            raise InputError(
                f"an array to fit on must be (B, L, D), got the shape {tuple(sequences.shape)}; pass a single "
                "sequence (L, D) as a list of one."
            )
        if not isinstance(sequences, Iterable) or isinstance(sequences, (str, bytes, Mapping)):
            raise InputError(
                f"fit takes a list of sequences (L, D), or what zoo.data.actions.read_actions returns for a path, got "
                f"{type(episodes).__name__}."
            )
        ready = []
        for number, sequence in enumerate(sequences):
            try:
                if isinstance(sequence, np.ndarray) and sequence.dtype.kind in "fiu":
                    sequence = sequence.astype(np.float64)  # takes what torch refuses: byte orders, negative strides
                x = sequence if isinstance(sequence, Tensor) else torch.as_tensor(sequence, device="cpu")
            except (TypeError, ValueError, RuntimeError) as error:
                raise InputError(f"episode {number} is no array of numbers (L, {self.num_dofs}): {error}.") from error
            if x.ndim != 2 or x.shape[1] != self.num_dofs or not len(x):
                raise InputError(
                    f"episode {number} has the shape {tuple(x.shape)}; expected (L, {self.num_dofs}) with L ≥ 1."
                )
            if x.is_complex() or x.dtype == torch.bool:
                raise InputError(f"episode {number} holds {x.dtype}; actions are real numbers.")
            x = x.detach().to("cpu", torch.float32)
            if not x.isfinite().all():
                step, dof = (int(i) for i in (~x.isfinite()).nonzero()[0])
                raise InputError(
                    f"episode {number}, step {step}, DoF {dof} is {float(x[step, dof])}: remove or repair it first."
                )
            ready.append(x)
        if not ready:
            raise InputError("there is no data to fit on: give at least one episode.")
        return ready

    def as_actions(self, x: Any, lengths: Any = None) -> tuple[Tensor, Tensor | None]:
        """Return what `encode` was given as float32 (B, L, D) on the tokenizer's device, and its lengths.

        Values are not searched for NaN here: every family does so as part of its arithmetic.
        """
        self.require_ready()
        if not (type(x) is Tensor and x.ndim == 3 and lengths is None and x.is_floating_point()):
            x, lengths = self.as_batch(x, lengths)
        if x.shape[2] != self.num_dofs or not x.shape[1] or not x.shape[0]:
            raise InputError(
                f"{self.name} takes actions (B, L, {self.num_dofs}) with B and L ≥ 1, got the shape {tuple(x.shape)}."
            )
        return x.detach().to(self.device, torch.float32), lengths

    def require_finite(self, x: Tensor) -> None:
        """Raise `InputError` that names the first NaN or infinity of x (B, L, D), if there is any."""
        finite = x.isfinite()
        if not finite.all():
            item, step, dof = (int(i) for i in (~finite).nonzero()[0])
            raise InputError(
                f"item {item}, step {step}, DoF {dof} is {float(x[item, step, dof])}: remove or repair such steps "
                "first."
            )

    def num_chunks(self, length: int) -> int:
        """Return how many chunks a sequence of `length` steps is cut into."""
        if length < 1:
            raise InputError(f"a sequence has at least 1 step, got {length}.")
        return -(-length // self.horizon)

    def num_tokens(self, length: int) -> int:
        """Return how many ids a sequence of `length` steps gives.

        Raises:
            InputError: The length is below 1, or the family's counts depend on the values.
        """
        if self.spec.num_tokens is None:
            raise InputError(f"{self.name} has a variable number of tokens: encode, and look at tokens.lengths.")
        return self.num_chunks(length) * self.spec.num_tokens

    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return the steps of each decoded sequence that are signal, (B,) int64.

        Raises:
            TokenError: The family's counts depend on the values and these tokens do not say their signals' lengths.
        """
        if tokens.signal_lengths is not None:
            return tokens.signal_lengths
        if self.spec.num_tokens is None:
            raise TokenError("these tokens do not say the length of their signals: decode them to find out.")
        return tokens.lengths // self.spec.num_tokens * self.horizon

    def chunk_tokens(self, tokens: Tokens) -> tuple[Tensor, Tensor]:
        """Return the ids of a fixed-length family as chunks (B, n, J), and each item's number of chunks (B,).

        Raises:
            TokenError: A length is not a whole number of chunks.
        """
        per_chunk = self.spec.num_tokens
        if per_chunk is None:
            raise TokenError(f"{self.name} has chunks of variable length.")
        per_item = tokens.lengths // per_chunk
        is_whole = torch.equal(per_item * per_chunk, tokens.lengths)
        if not is_whole or tokens.ids.shape[1] % per_chunk or not tokens.ids.numel():
            raise TokenError(
                f"{self.name} decodes whole chunks of {per_chunk} tokens, got lengths {tokens.lengths.tolist()}"
                f" in ids of shape {tuple(tokens.ids.shape)}."
            )
        return tokens.ids.view(len(tokens), -1, per_chunk), per_item


def refresh_after_load(tokenizer: Any, _: object) -> None:
    """Call `_refresh` of a tokenizer whose state has been loaded; a function, not a lambda, so that it can be pickled.

    For `register_load_state_dict_post_hook`.
    """
    tokenizer._refresh()
