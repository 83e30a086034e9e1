"""Binning, the action tokens of RT-1, RT-2 and OpenVLA (arXiv 2212.06817, 2307.15818, 2406.09246).

Each value of an action chunk becomes a token on its own: the range that nearly all values of a degree of freedom lie
in, from the 1 % to the 99 % quantile, is cut into 256 equal bins, and values beyond are clipped to its ends. Nothing is
shared between steps, so that a chunk costs T·D tokens however slow the motion is, every sequence of ids decodes, and
one wrong id spoils one value of one step. This is the baseline that tokenizers of whole chunks are compared with.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

import torch
from torch import Tensor, nn

from zoo import config as configs
from zoo.components.layers.normalization import RangeNormalizer
from zoo.components.layers.reach import LIMIT, Reach
from zoo.components.quantizers.uniform import UniformGrid
from zoo.components.statistics import RunningRange
from zoo.data.ragged import Ragged
from zoo.errors import ConfigError
from zoo.families.binning.quantizer import EdgeGrid
from zoo.modalities.action import ActionTokenizer, refresh_after_load, require_usable
from zoo.modalities.action_settings import check_chunk, check_quantiles, require_between
from zoo.modalities.chunks import cut_at, split
from zoo.spec import TokenSpec
from zoo.tokens import Tokens

__all__ = ["BinningConfig", "BinningTokenizer"]

_BLOCK = 2**15


@dataclass(frozen=True)
class BinningConfig:
    """Settings of a binning tokenizer.

    Args:
        num_dofs: Degrees of freedom, D.
        horizon: Steps in a chunk, T.
        codebook_size: Codes of each value, V.
        rule: `openvla`: V edges over [-1, 1] and V - 1 bins between them, decoded to their centres; 0 is a centre.
            Our code is OpenVLA's bin number less one, so that the id in a language model is the same (see
            `zoo.tokens.vocabulary.to_llm_ids`). `linear`: V levels from -1 to 1, decoded exactly to the level; 0
            lies between two.
        action_quantiles: Quantiles of the actions that are mapped to -1 and +1, or None if inputs are in [-1, 1]
            already and nothing is to be fitted.
        control_rate: Commands per second, Hz, if known.
        limit: How many half ranges from the middle of the fitted range a value may lie; beyond, its unit must be wrong.
    """

    num_dofs: int
    horizon: int
    codebook_size: int = 256
    rule: Literal["openvla", "linear"] = "openvla"
    action_quantiles: tuple[float, float] | None = (0.01, 0.99)
    control_rate: float | None = None
    limit: float = LIMIT

    def __post_init__(self) -> None:
        configs.check_fields(self, "binning")
        check_chunk("binning", self.num_dofs, self.horizon, self.control_rate, self.limit)
        require_between("binning", "codebook_size", self.codebook_size, 2, 2**20)
        check_quantiles("binning", "action_quantiles", self.action_quantiles)


class BinningTokenizer(ActionTokenizer):
    """Tokens of action chunks (B, T, D): the bin of every value, T·D ids a chunk.

    Ids are time-major: id t·D + d is step t of degree of freedom d. Clipping to the fitted quantiles is part of the
    method; `count_clipped` says how much of it happens.

    Attributes:
        encoder: The identity: values are quantised as they are.
        quantizer: Normalised values ↔ ids (`EdgeGrid` or `UniformGrid`).
        decoder: The identity.
        normalizer: Physical → normalised units, or None if inputs are normalised already.
    """

    family: ClassVar[str] = "binning"
    config_class: ClassVar[type] = BinningConfig

    config: BinningConfig
    encoder: nn.Identity
    quantizer: EdgeGrid | UniformGrid
    decoder: nn.Identity
    normalizer: RangeNormalizer | None

    def __init__(self, config: BinningConfig) -> None:
        super().__init__(config)
        self.encoder = nn.Identity()
        if config.rule == "openvla":
            self.quantizer = EdgeGrid(config.codebook_size)
        else:
            self.quantizer = UniformGrid((), config.codebook_size)
            self.quantizer.set_bounds(torch.tensor(-1.0, dtype=torch.float32), torch.tensor(1.0, dtype=torch.float32))
        self.decoder = nn.Identity()
        self.normalizer = None if config.action_quantiles is None else RangeNormalizer(config.num_dofs)
        self.reach = Reach(config.num_dofs, config.limit)
        num_tokens = config.horizon * config.num_dofs
        self.spec = TokenSpec(
            modality="action",
            codebook_size=config.codebook_size,
            num_tokens=num_tokens,
            token_rate=None if config.control_rate is None else config.num_dofs * config.control_rate,
            sample_rate=config.control_rate,
            input_size=(config.horizon, config.num_dofs),
        )
        self._is_fitted = config.action_quantiles is None
        if self._is_fitted:
            ones = torch.ones(config.num_dofs, device=self.reach.low.device)
            self.reach.set_range(-ones, ones)
        self.register_load_state_dict_post_hook(refresh_after_load)  # type: ignore[no-untyped-call]
        self.reset_fit()

    def encode(self, x: Any, lengths: Any = None) -> Tokens:
        """Turn actions into tokens.

        Args:
            x: (B, L, D) or (L, D) actions in physical units, a path, an array, or a list of sequences.
            lengths: (B,) valid steps of each sequence of a padded batch.

        Returns:
            Ids (B, n·T·D) for sequences of up to n chunks. A last chunk that is not full holds its last action.

        Raises:
            InputError: NaN, a wrong number of degrees of freedom, an empty sequence, or values so far from the fitted
                data that their unit must be wrong.
            NotFittedError: There are no quantiles yet.
        """
        with torch.no_grad():
            whole = self.whole_chunks(x, lengths)
            if whole is not None:
                ids = self._ids(whole)
                counts = ids.new_full((2, len(ids)), self.horizon)
                counts[0] = ids.shape[1]
                return Tokens(ids, counts[0], self.config.codebook_size, self.name, signal_lengths=counts[1])
            actions = self.as_actions(x, lengths)
            chunks = split(actions, self.horizon)
            return Tokens(
                chunks.padded(self._ids(chunks.values)),
                chunks.per_item * self.horizon * self.num_dofs,
                self.config.codebook_size,
                self.name,
                signal_lengths=chunks.signal,
            )

    def decode(self, tokens: Any, lengths: Any = None) -> Tensor:
        """Turn tokens into actions. Every sequence of whole chunks decodes.

        Args:
            tokens: What `encode` returned, or ids (B, n·T·D).
            lengths: (B,) valid ids of each item, where bare ids of unequal lengths are given.

        Returns:
            (B, n·T, D) float32 in physical units, cut to the longest signal if the tokens know it; zero past the end of
            shorter items.

        Raises:
            TokenError: Ids out of range, not a whole number of chunks, or another tokenizer's.
        """
        self.require_ready()
        with torch.no_grad():
            tokens = self.as_tokens(tokens, lengths)
            ids, _ = self.chunk_tokens(tokens)
            ids = ids.view(len(tokens), -1, self.num_dofs)
            actions: Tensor = self.decoder(self.quantizer.values(ids, torch.float64))
            if self.normalizer is not None:
                actions = self.normalizer.restore(actions)
            return cut_at(actions.float(), self.output_lengths(tokens))

    def count_clipped(self, x: Any, lengths: Any = None) -> Tensor:
        """Count the values that `encode` would clip to the fitted range, (B, D) int64.

        Args:
            x: As for `encode`.
            lengths: As for `encode`.
        """
        with torch.no_grad():
            actions = self.as_actions(x, lengths)
            clipped = self._clipped(actions).long()
            item = torch.arange(len(actions), device=clipped.device).repeat_interleave(actions.lengths)
            return clipped.new_zeros(len(actions), self.num_dofs).index_add_(0, item, clipped)

    def clipped_share(self, x: Any, *, start: Any = None) -> float:
        """Return the share of values beyond the fitted quantiles; see `ActionTokenizer.clipped_share`."""
        return float(self._clipped(self.as_actions(x)).double().mean())

    @property
    def device(self) -> torch.device:
        """Where the quantiles are, or, if there are none, what else it has."""
        return super().device if self.normalizer is None else self.normalizer.centre.device

    @property
    def is_fitted(self) -> bool:
        """Whether the quantiles are known, or none are needed."""
        return self._is_fitted

    def reset_fit(self) -> Self:
        """Forget all data seen by `fit` and `partial_fit`; the quantiles stay until the next data."""
        self._seen = RunningRange()
        return self

    def partial_fit(self, episodes: Any) -> Self:
        """Add data and refresh the quantiles from all data seen since `reset_fit` (a loaded tokenizer has seen none).

        Args:
            episodes: What `fit` takes.
        """
        seen = copy.deepcopy(self._seen)
        for episode in self.as_episodes(episodes):
            seen.update(episode)
        return self._set_statistics(seen)

    def merge_fit(self, other: BinningTokenizer) -> Self:
        """Add the data that another tokenizer of the same settings has seen, such as that of another shard."""
        if other.config != self.config:
            raise ConfigError("only tokenizers with the same settings can share statistics.")
        return self._set_statistics(copy.deepcopy(self._seen).merge(other._seen))

    def _set_statistics(self, seen: RunningRange) -> Self:
        """Take over the quantiles of data, or raise `InputError` and change nothing."""
        quantiles = self.config.action_quantiles
        if self.normalizer is not None and quantiles is not None and seen.count:
            low, high = (seen.quantile(q) for q in quantiles)
            self.require_reach_of(seen, low, high)
            self.normalizer.set_range(low, high)
            self._refresh()
            self.became_another()
        self._seen = seen
        return self

    def _clipped(self, actions: Ragged) -> Tensor:
        """Return which values lie outside the fitted range, (S, D) bool."""
        return self.quantizer.is_clipped(self._normalised(actions.values))

    def _ids(self, values: Tensor) -> Tensor:
        """Return the ids of chunks (C, T, D), (C, T·D), in blocks whose intermediate results stay in the cache."""
        ids = torch.empty(len(values), self.horizon * self.num_dofs, dtype=torch.int64, device=values.device)
        rows = max(1, _BLOCK // ids.shape[1])
        for part, target in zip(torch.split(values, rows), torch.split(ids, rows), strict=True):
            target.copy_(self.quantizer.ids(self.encoder(self._normalised(part))).flatten(1))
        return ids

    def _normalised(self, x: Tensor) -> Tensor:
        """Return x (..., D) in normalised units, float64."""
        return x.double() if self.normalizer is None else self.normalizer(x)

    def _refresh(self) -> None:
        if self.normalizer is not None:
            centre, half = self.normalizer.centre, self.normalizer.half_range
            require_usable(self, (centre - half, centre + half))
            self._is_fitted = not bool(half.isnan().any())
            self.reach.set_range(centre - half, centre + half)
