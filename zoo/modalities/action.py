"""What tokenizers of robot actions have in common: chunks of a fixed horizon, and statistics fitted on data."""

from __future__ import annotations

import hashlib
from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar, Self

import numpy as np
import torch
from torch import Tensor

from zoo.components.exact.precision import KeepsPrecision
from zoo.components.layers.reach import Reach
from zoo.components.statistics import RunningRange
from zoo.data.ragged import Ragged
from zoo.errors import CheckpointError, InputError, NotFittedError, TokenError
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

__all__ = ["ActionTokenizer", "refresh_after_load", "require_usable"]

_LARGEST = 1e15  # in any unit; float32 still has room for what is made of such numbers


class ActionTokenizer(KeepsPrecision, Tokenizer):
    """A tokenizer of action sequences (B, L, D), in physical units, that works on chunks of `horizon` steps.

    Sequences of any length are cut into consecutive chunks, and their tokens follow one another. The statistics a
    tokenizer needs are fitted once, explicitly, and then frozen: `encode` changes nothing, and neither does a policy
    around it that is converted to half precision.

    Attributes:
        fitting: Module of the family, "" if it needs none, whose `settle(values, episodes, threshold)` replaces "auto"
            among the values of a config by what the data needs, and also returns what was tried, as plain values.
        reach: How far from the fitted data actions are taken; set by the family with its statistics.
    """

    fitting: ClassVar[str] = ""

    reach: Reach

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

    def at_rest(self, first: Tensor) -> dict[str, Tensor]:
        """Return the options of `encode` and `decode` for robots at rest, which have sent what they send first.

        Args:
            first: (B, D) first command of each sequence.
        """
        fixed = self.num_fixed
        if not fixed:
            return {}
        return {"start": first if fixed == 1 else first[:, None].expand(-1, fixed, -1)}

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

    @abstractmethod
    def clipped_share(self, x: Any, *, start: Any = None) -> float:
        """Return the share of numbers that `encode` moves to the nearest end of what it has ids for, 0 … 1.

        Of values, coefficients or control points, whichever the family quantises. Large shares mean that the data is
        unlike what the tokenizer was fitted on.

        Args:
            x: As for `encode`.
            start: As for `encode`, of families that take it.
        """

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

    def as_actions(self, x: Any, lengths: Any = None) -> Ragged:
        """Return what `encode` was given as float32 sequences (L, D) on the tokenizer's device.

        Raises:
            InputError: NaN, a wrong number of degrees of freedom, an empty sequence, or values so large that their unit
                must be wrong.
            NotFittedError: There are no statistics yet.
        """
        self.require_ready()
        self.require_order(getattr(x, "dof_names", None))
        is_plain = type(x) is Tensor and x.ndim == 3 and lengths is None and x.is_floating_point() and x.numel()
        if is_plain and x.layout == torch.strided and not x.is_nested and not x.is_meta:
            actions = Ragged.of(x.detach().to(self.device, torch.float32))
        else:
            actions = self.as_ragged(x, lengths, check_finite=False)
            if actions.values.requires_grad:
                actions = replace(actions, values=actions.values.detach())
        if actions.values.shape[1] != self.num_dofs:
            raise InputError(
                f"{self.name} takes actions (B, L, {self.num_dofs}), got ({len(actions)}, "
                f"{max(actions.counts)}, {actions.values.shape[1]})."
            )
        self.require_in_reach(actions)
        return actions

    def whole_chunks(self, x: Any, lengths: Any = None) -> Tensor | None:
        """Return a batch of whole chunks (B, T, D) as `as_actions` does, or None if x is anything else.

        That is what a policy's every step is, so it takes the shortest way.

        Raises:
            InputError: As of `as_actions`.
            NotFittedError: The same.
        """
        if type(x) is not Tensor or lengths is not None or x.layout != torch.strided or x.is_nested or x.is_meta:
            return None
        if not x.is_floating_point() or x.shape[1:] != (self.horizon, self.num_dofs) or not x.numel():
            return None
        self.require_ready()
        actions = x.detach().to(self.device, torch.float32)
        if not self.reach.holds(actions):
            self.require_in_reach(actions)
        return actions

    def require_order(self, dof_names: Sequence[str] | None) -> None:
        """Raise `InputError` if degrees of freedom are called otherwise than those that the tokenizer was fitted on.

        Args:
            dof_names: What they are called, in order; None if that is not known, which is no mistake.
        """
        known = self.facts.get("dof_names")
        if dof_names is not None and known is not None and list(dof_names) != list(known):
            what = "in another order" if sorted(dof_names) == sorted(known) else "others"
            raise InputError(
                f"the degrees of freedom are {', '.join(dof_names)}, {what} than those that {self.name} was fitted on: "
                f"{', '.join(known)}. Bring them into that order, or pass arrays without names if they are the same."
            )

    def require_finite(self, x: Tensor | Ragged) -> None:
        """Raise `InputError` that names the first NaN or infinity of x, (B, L, D) or sequences, if there is any."""
        actions = x if isinstance(x, Ragged) else Ragged.of(x)
        finite = actions.values.isfinite()
        if not finite.all():
            place, dof = (int(i) for i in (~finite).nonzero()[0])
            ends = actions.lengths.cumsum(0)
            item = int((ends <= place).sum())
            step = place - int(ends[item] - actions.lengths[item])
            raise InputError(
                f"item {item}, step {step}, DoF {dof} is {float(actions.values[place, dof])}: remove or repair such "
                "steps first."
            )

    def require_in_reach(self, x: Tensor | Ragged) -> None:
        """Raise `InputError` if x holds NaN or infinities, or values so large that their unit must be wrong.

        Args:
            x: (B, L, D), or sequences (L, D).

        Raises:
            InputError: It does; the message says where, or how far outside the fitted data they are.
        """
        values = x if isinstance(x, Tensor) else x.values if x.even_length is None else x.batch()
        if not self.reach.holds(values):
            self.require_finite(x)
            raise InputError(self.reach.complaint(values))

    def require_reach_of(self, seen: RunningRange, low: Tensor, high: Tensor) -> None:
        """Raise `InputError` if data to fit on has values that `encode` would refuse after fitting to [low, high]."""
        reach = Reach(self.num_dofs, self.reach.limit)
        reach.set_range(low, high)
        extremes = torch.stack([seen.low, seen.high])
        if not reach.holds(extremes):
            raise InputError(f"the data to fit on cannot be encoded afterwards: {reach.complaint(extremes)}")

    def became_another(self) -> None:
        """Take note that new statistics have made this another model: its ids mean something else from now on.

        It loses the name, the origin and the description of the model that it was, and is called by a digest of what it
        is now, so that `decode` tells its tokens from those of any other.
        """
        digest = hashlib.sha256(repr(self.config).encode())
        for name, content in sorted(self.assets().items()):
            digest.update(name.encode() + content)
        for name, tensor in sorted(self.state_dict().items()):
            digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
        self.name = f"{self.family}.fitted-{digest.hexdigest()[:12]}"
        self.source = self.trained_on = ""
        self.facts = {}

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
            TokenError: A length is not a whole number of chunks, or not that which the signal's length gives.
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
        if tokens.signal_lengths is not None:
            wanted = -(-tokens.signal_lengths // self.horizon)
            if not torch.equal(wanted, per_item):
                raise TokenError(
                    f"these tokens say that they hold {tokens.signal_lengths.tolist()} steps, but they are of "
                    f"{per_item.tolist()} chunks of {self.horizon}."
                )
        return tokens.ids.reshape(len(tokens), -1, per_chunk), per_item


def require_usable(tokenizer: ActionTokenizer, *statistics: tuple[Tensor, Tensor]) -> None:
    """Raise `CheckpointError` if statistics would make actions that are not finite.

    Args:
        tokenizer: Whose they are.
        statistics: Pairs of a lower and an upper bound, of which the upper one must be greater; NaN if not known yet.
    """
    for low, high in statistics:
        if low.is_meta or bool(low.isnan().all()):
            continue
        if not bool(((low.abs() <= _LARGEST) & (high.abs() <= _LARGEST) & (high > low)).all()):
            raise CheckpointError(
                f"the statistics of this {tokenizer.family} tokenizer are unusable: a lower bound that is not below "
                f"the upper one, or numbers beyond ±{_LARGEST:g}. Fit it again, or download it again."
            )


def refresh_after_load(tokenizer: Any, _: object) -> None:
    """Call `_refresh` of a tokenizer whose state has been loaded; a function, not a lambda, so that it can be pickled.

    For `register_load_state_dict_post_hook`.
    """
    tokenizer._refresh()
