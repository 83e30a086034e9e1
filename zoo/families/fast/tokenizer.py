"""FAST, frequency-space action sequence tokenization (Pertsch et al., arXiv 2501.09747).

Neighbouring commands of a robot are nearly equal, so a token for each of them says little. FAST turns a chunk of
actions into its cosine coefficients along time, of which smooth motion has only a few that matter, rounds them, and
writes them down as text, low frequencies first; byte-pair encoding then compresses the text, above all its long runs of
zeros. Smooth chunks cost few tokens and rough ones more, and the error is that of the rounding, whatever the motion.
The price is that lengths vary, a vocabulary has to be learnt, one wrong id changes a whole chunk, and not every
sequence of ids decodes: this tokenizer says which do not, and never guesses unless asked to.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import numpy as np
import torch
from torch import Tensor, nn

from zoo.components.layers.normalization import RangeNormalizer
from zoo.components.layers.reach import Reach
from zoo.components.statistics import RunningRange
from zoo.errors import ConfigError, InputError, TokenError
from zoo.families.fast.bpe import FAR_OUTSIDE, CoefficientBpe
from zoo.families.fast.config import FastConfig
from zoo.families.fast.options import DecodeOptions
from zoo.families.fast.parsing import Parsed, fill, parse
from zoo.families.fast.transform import CosineTransform, windows
from zoo.modalities.action import ActionTokenizer, refresh_after_load, require_usable
from zoo.modalities.chunks import cut_at, split
from zoo.process.fresh import fresh
from zoo.spec import TokenSpec
from zoo.tokens import PAD_ID, Tokens

__all__ = ["FastTokenizer"]

_FIT_BATCH = 4096


class FastTokenizer(ActionTokenizer):
    """Tokens of action chunks (B, T, D): byte-pair encoded cosine coefficients, a different number for each chunk.

    Longer sequences are cut into consecutive chunks, each encoded on its own; `decode` finds their borders by counting
    coefficients, T·D a chunk. A last chunk that is not full holds its last action.

    Attributes:
        encoder: Actions → cosine coefficients (`CosineTransform`), in physical units.
        quantizer: Normalised coefficients ↔ integers ↔ ids (`CoefficientBpe`).
        decoder: Integers → normalised actions, up to the scale (`CosineTransform`).
        normalizer: Physical → normalised units, or None if inputs are normalised already.
    """

    family: ClassVar[str] = "fast"
    config_class: ClassVar[type] = FastConfig
    official: ClassVar[str] = "zoo.families.fast.official"
    decode_options: ClassVar[type] = DecodeOptions
    asset_names: ClassVar[tuple[str, ...]] = ("tokenizer.json",)

    config: FastConfig
    encoder: CosineTransform | nn.Identity
    quantizer: CoefficientBpe
    decoder: CosineTransform | nn.Identity
    normalizer: RangeNormalizer | None

    def __init__(self, config: FastConfig) -> None:
        super().__init__(config)
        steps, dofs = config.horizon, config.num_dofs
        if steps is None or dofs is None:  # until `for_chunks` says the shape
            self.encoder, self.decoder = nn.Identity(), nn.Identity()
        else:
            # Both follow from the settings and hold no weights, so they are computed for real even where a caller, such
            # as the shape check before loading, only wants an outline on the meta device.
            with fresh():
                self.encoder = CosineTransform(steps, dofs)
                self.decoder = CosineTransform(steps, dofs, is_inverse=True)
                self.decoder.set_units(
                    torch.full((dofs,), 2.0**8, dtype=torch.float32)
                )  # of integers, which thus stay exact
        self.quantizer = CoefficientBpe(config.scale, config.bpe_vocab_size)
        self.normalizer = None if config.action_quantiles is None or dofs is None else RangeNormalizer(dofs)
        self.reach = Reach(dofs or 1, config.limit)
        self.spec = TokenSpec(
            modality="action",
            codebook_size=config.bpe_vocab_size,
            sample_rate=config.control_rate,
            input_size=None if steps is None or dofs is None else (steps, dofs),
        )
        self.register_load_state_dict_post_hook(refresh_after_load)  # type: ignore[no-untyped-call]
        self._refresh()
        self.reset_fit()

    def encode(self, x: Any, lengths: Any = None) -> Tokens:
        """Turn actions into tokens.

        Args:
            x: (B, L, D) or (L, D) actions in physical units, a path, an array, or a list of sequences.
            lengths: (B,) valid steps of each sequence of a padded batch.

        Returns:
            Ids (B, N), N being the most that an item has.

        Raises:
            InputError: NaN, a wrong number of degrees of freedom, an empty sequence, or values so far from the fitted
                data that their unit must be wrong.
            NotFittedError: There is no vocabulary yet.
            ConfigError: The chunk's shape is not stated yet (`for_chunks`).
        """
        with torch.no_grad():
            integers, per_item, signal = self._quantised(x, lengths)
            chunks = iter(self.quantizer.ids(integers))
            rows = [[i for _ in range(count) for i in next(chunks)] for count in per_item.tolist()]
            ids = np.full((len(rows), max(map(len, rows))), PAD_ID, dtype=np.int64)
            for target, row in zip(ids, rows, strict=True):
                target[: len(row)] = row
            return Tokens(
                torch.from_numpy(ids).to(self.device),
                torch.tensor([len(row) for row in rows], device=self.device),
                self.config.bpe_vocab_size,
                self.name,
                signal_lengths=signal,
            )

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        num_chunks: int | None = None,
        malformed: Literal["error", "pad", "zeros"] = "error",
    ) -> Tensor:
        """Turn tokens into actions.

        Args:
            tokens: What `encode` returned, or ids (B, N).
            lengths: (B,) valid ids of each item, where bare ids are given.
            num_chunks: Chunks that each item must have: state it for ids that a policy generated. If None, what the
                signals' lengths say, if the tokens know them, and else any whole number.
            malformed: What to do with an item whose ids do not spell whole chunks: raise an error; `pad` it with zero
                coefficients, or cut it, unreadable coefficients becoming zero; or give the whole item the neutral
                action, normalised `zeros`. Ids carry no borders, so that one malformed chunk makes all chunks of its
                item unreliable. `decode_flags` tells which items are concerned.

        Returns:
            (B, n·T, D) float32 in physical units, cut to the longest signal if the tokens know it; zero past the end of
            shorter items.

        Raises:
            TokenError: Ids out of range, malformed, or another tokenizer's.
        """
        if malformed not in ("error", "pad", "zeros"):
            raise TokenError(f"malformed must be 'error', 'pad' or 'zeros', got {malformed!r}.")
        with torch.no_grad():
            tokens = self._checked(tokens, lengths)
            parsed = self._parse(tokens, num_chunks)
            wrong = [number for number, item in enumerate(parsed) if item.problem]
            if wrong and malformed == "error":
                raise TokenError(
                    f"{len(wrong)} of {len(parsed)} items do not decode; item {wrong[0]}: {parsed[wrong[0]].problem}. "
                    "See decode_flags for which, and pass malformed='pad' or 'zeros' to decode them nevertheless."
                )
            integers = fill(parsed, self.horizon * self.num_dofs, malformed)
            actions = self._actions(torch.from_numpy(integers).to(self.device).view(-1, self.horizon, self.num_dofs))
            return cut_at(actions.view(len(parsed), -1, self.num_dofs), self._ends(tokens, parsed))

    def decode_flags(self, tokens: Any, lengths: Any = None, *, num_chunks: int | None = None) -> Tensor:
        """Return which items do not spell whole chunks of readable coefficients, (B,) bool.

        An item that `encode` made and that is not flagged decodes to the coefficients that were encoded, but for those
        that `count_clipped` counts.

        Args:
            tokens: As for `decode`.
            lengths: As for `decode`.
            num_chunks: As for `decode`.
        """
        parsed = self._parse(self._checked(tokens, lengths), num_chunks)
        return torch.tensor([bool(item.problem) for item in parsed], device=self.device)

    def count_clipped(self, x: Any, lengths: Any = None) -> Tensor:
        """Count the coefficients that are smaller than the alphabet's first, and so are raised to it, (B,) int64.

        Args:
            x: As for `encode`.
            lengths: As for `encode`.
        """
        with torch.no_grad():
            integers, per_item, _ = self._quantised(x, lengths)
            counts = self.quantizer.is_clipped(integers).sum((1, 2))
            items = torch.arange(len(per_item), device=self.device).repeat_interleave(per_item)
            return torch.zeros_like(per_item).index_add_(0, items, counts)

    def clipped_share(self, x: Any, *, start: Any = None) -> float:
        """Return the share of coefficients below the alphabet; see `ActionTokenizer.clipped_share`."""
        with torch.no_grad():
            integers, _, _ = self._quantised(x, None)
            return float(self.quantizer.is_clipped(integers).double().mean())

    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return the steps of each decoded sequence that are signal, (B,) int64."""
        return self._ends(tokens, None if tokens.signal_lengths is not None else self._parse(tokens, None))

    # --------------------------------------------------------------------------------------------------------- fitting

    @property
    def is_fitted(self) -> bool:
        """Whether there is a vocabulary."""
        return self.quantizer.is_set

    @property
    def device(self) -> torch.device:
        """Where the statistics are."""
        return self.quantizer.min_token.device

    def reset_fit(self) -> Self:
        """Forget all data seen by `fit` and `partial_fit`; the statistics stay until the next data."""
        self._episodes: list[Tensor] = []
        return self

    def partial_fit(self, episodes: Any) -> Self:
        """Add data, and fit anew to all data seen since `reset_fit` (a loaded tokenizer has seen none).

        A vocabulary cannot be updated, and the quantiles decide what is in it, so the data itself is kept, 4 bytes a
        value, until `reset_fit`. The result does not depend on the parts that the data came in.

        Args:
            episodes: What `fit` takes.

        Raises:
            InputError: Unusable data, or data whose coefficients span more than the vocabulary. Nothing has changed
                then.
        """
        return self._fit_to([*self._episodes, *self.as_episodes(episodes)])

    def merge_fit(self, other: FastTokenizer) -> Self:
        """Add the data that another tokenizer of the same settings has seen, such as that of another shard."""
        if other.config != self.config:
            raise ConfigError("only tokenizers with the same settings can share data.")
        return self._fit_to([*self._episodes, *other._episodes])

    def _fit_to(self, episodes: list[Tensor]) -> Self:
        if not episodes:
            return self
        # Fitted aside, so that data which turns out unusable costs nothing.
        fresh = type(self)(self.config).to(self.device).train(self.training)
        quantiles = self.config.action_quantiles
        if fresh.normalizer is not None and quantiles is not None:
            seen = RunningRange().update(torch.cat(episodes))
            low, high = (seen.quantile(q) for q in quantiles)
            fresh.require_reach_of(seen, low, high)
            fresh.normalizer.set_range(low, high)
            fresh._refresh()
        chunks = windows(episodes, self.horizon, self.config.fit_stride or self.horizon)
        starts = range(0, len(chunks), _FIT_BATCH)
        integers = torch.cat([fresh._rounded(chunks[i : i + _FIT_BATCH].to(self.device)) for i in starts])
        fresh.quantizer.fit(integers, self.config.variant, self.config.margin)
        for part in ("encoder", "quantizer", "normalizer", "reach"):
            setattr(self, part, getattr(fresh, part))
        self._episodes = episodes
        self.became_another()
        return self

    # ----------------------------------------------------------------------------------------------------------- shape

    def for_chunks(self, *, horizon: int, num_dofs: int, control_rate: float | None = None) -> FastTokenizer:
        """Return this tokenizer for chunks of another shape, with the same vocabulary.

        For released tokenizers, which do not say the shape: `zoo.load(folder).for_chunks(horizon=50, num_dofs=14)`.

        Args:
            horizon: Steps in a chunk, T.
            num_dofs: Degrees of freedom, D.
            control_rate: Commands per second, Hz, if known.

        Raises:
            ConfigError: The tokenizer normalises, so that its statistics belong to its own degrees of freedom.
        """
        if self.normalizer is not None and num_dofs != self.num_dofs:
            raise ConfigError(
                f"the statistics of this tokenizer are of {self.num_dofs} degrees of freedom, they do not fit "
                f"{num_dofs}: fit a new one."
            )
        config = replace(self.config, horizon=horizon, num_dofs=num_dofs, control_rate=control_rate)
        shaped = type(self)(config)
        if self.is_fitted:
            shaped.quantizer.load(self.quantizer.to_json())
        shaped.load_state_dict(self.state_dict())
        shaped.name, shaped.source, shaped.trained_on = self.name, self.source, self.trained_on
        shaped.spec = replace(shaped.spec, licence=self.spec.licence)
        return shaped.to(self.device).train(self.training)

    @property
    def horizon(self) -> int:
        """Steps in a chunk, T.

        Raises:
            ConfigError: It is not stated yet.
        """
        return self._stated(self.config.horizon)

    @property
    def num_dofs(self) -> int:
        """Degrees of freedom, D.

        Raises:
            ConfigError: It is not stated yet.
        """
        return self._stated(self.config.num_dofs)

    def _stated(self, value: int | None) -> int:
        if value is None:
            raise ConfigError(
                f"{self.name} takes chunks of any shape, so say which: "
                "tokenizer = tokenizer.for_chunks(horizon=…, num_dofs=…)."
            )
        return value

    # --------------------------------------------------------------------------------------------------------- storage

    def load_assets(self, assets: Mapping[str, bytes]) -> None:
        """Take over the vocabulary."""
        self.quantizer.load(assets["tokenizer.json"].decode("utf-8"))

    def assets(self) -> dict[str, bytes]:
        """Return the vocabulary."""
        return {"tokenizer.json": self.quantizer.to_json().encode("utf-8")}

    # ----------------------------------------------------------------------------------------------------------- parts

    def _refresh(self) -> None:
        """Tell the encoder the units that its inputs have, and how far they may lie from the fitted data."""
        if isinstance(self.encoder, CosineTransform):
            if self.normalizer is None:
                self.encoder.set_units(torch.ones(self.num_dofs, device="cpu"))
                self.reach.set_range(-torch.ones_like(self.reach.low), torch.ones_like(self.reach.low))
            elif not self.normalizer.centre.is_meta:
                centre, half = self.normalizer.centre, self.normalizer.half_range
                require_usable(self, (centre - half, centre + half))
                self.encoder.set_units(centre.abs() + half)
                self.reach.set_range(centre - half, centre + half)

    def _rounded(self, chunks: Tensor) -> Tensor:
        """Return the rounded normalised coefficients of chunks (C, T, D), int64."""
        try:
            coefficients: Tensor = self.encoder(chunks)
        except InputError as error:  # chunks are known to be finite
            raise InputError(f"actions reach ±{float(chunks.abs().max()):.4g}. {FAR_OUTSIDE}") from error
        if self.normalizer is not None:
            # Normalising is affine and the transform linear: of the centre, it leaves the constant coefficient only.
            coefficients[:, 0] -= self.horizon**0.5 * self.normalizer.centre
            coefficients /= self.normalizer.half_range
        return self.quantizer.round(coefficients)

    def _quantised(self, x: Any, lengths: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Return the integers of all chunks (C, T, D), each item's number of chunks, and its steps."""
        actions = self.as_actions(x, lengths)
        chunks = split(actions, self.horizon)
        return self._rounded(chunks.values), chunks.per_item, chunks.signal

    def _actions(self, integers: Tensor) -> Tensor:
        """Return the actions of integers (C, T, D), float32 in physical units."""
        normalised = self.quantizer.values(self.decoder(integers.float()))
        return (normalised if self.normalizer is None else self.normalizer.restore(normalised)).float()

    def _checked(self, tokens: Any, lengths: Any) -> Tokens:
        self.require_ready()
        checked = self.as_tokens(tokens, lengths)
        if not len(checked):
            raise TokenError("there is nothing to decode: the batch has no items.")
        return checked

    def _parse(self, tokens: Tokens, num_chunks: int | None) -> list[Parsed]:
        """Read the ids of each item as integers, and compare their number with what is expected."""
        DecodeOptions(num_chunks)  # checks it
        expected = [num_chunks] * len(tokens)
        if tokens.signal_lengths is not None:
            if (steps := tokens.signal_lengths.tolist()) and min(steps) < 1:
                raise TokenError(f"these tokens say that they hold {steps} steps, and a sequence has at least 1.")
            expected = [self.num_chunks(length) for length in steps]
            if num_chunks is not None and set(expected) != {num_chunks}:
                raise TokenError(
                    f"num_chunks is {num_chunks}, but the signals' lengths make it {expected}: leave it out."
                )
        shape = (self.horizon, self.num_dofs)
        return [
            parse(self.quantizer, ids, shape, chunks) for ids, chunks in zip(tokens.tolist(), expected, strict=True)
        ]

    def _ends(self, tokens: Tokens, parsed: list[Parsed] | None) -> Tensor:
        """Return the steps of each item that are signal."""
        if tokens.signal_lengths is not None or parsed is None:
            return super().output_lengths(tokens)
        return torch.tensor([item.num_chunks * self.horizon for item in parsed], device=self.device)
