"""BEAST, the B-spline encoded action sequence tokenizer (Zhou et al., arXiv 2506.06072, NeurIPS 2025).

A chunk of robot actions is smooth, so a few numbers describe it: BEAST fits a B-spline to each degree of freedom by
ridge regression and quantises the spline's control points, each to one of 256 levels. The number of tokens is the same
for every chunk, every sequence of ids decodes, the decoded motion is smooth between and, if asked, across chunks, and
no network is trained. Fitting is one matrix product with a matrix that depends on the settings alone.
"""

from __future__ import annotations

from typing import Any, ClassVar, Literal, Self, cast

import torch
from torch import Tensor

from zoo.components.layers.normalization import CONSTANT, RangeNormalizer
from zoo.components.layers.reach import Reach
from zoo.components.quantizers.uniform import UniformGrid
from zoo.components.statistics import RunningRange
from zoo.data.ragged import Ragged
from zoo.errors import ConfigError, InputError, TokenError
from zoo.families.beast import arguments
from zoo.families.beast.bounds import fitted_bounds
from zoo.families.beast.config import BeastConfig
from zoo.families.beast.options import DecodeOptions, EncodeOptions
from zoo.families.beast.spline import Bases, SplineDecoder, SplineEncoder, episode_windows
from zoo.modalities.action import ActionTokenizer, refresh_after_load, require_usable
from zoo.modalities.chunks import Chunks, cut_at, split
from zoo.process.fresh import fresh
from zoo.spec import TokenSpec
from zoo.tokens import Latents, Tokens

__all__ = ["BeastTokenizer"]

_FIT_BLOCK = 2**20


class BeastTokenizer(ActionTokenizer):
    """Tokens of action chunks (B, T, D): the quantised control points of B-splines, J = F·D ids a chunk.

    Ids are basis-major: id n·D + d is control point n of degree of freedom d, so that time runs along the ids. Longer
    sequences are cut into consecutive chunks; a shorter last one is fitted as if its last action were held to the
    chunk's end, with a tenth of the weight that data has.

    Attributes:
        encoder: Actions → control points (`SplineEncoder`).
        quantizer: Control points → ids (`UniformGrid`), bounds in normalised units.
        decoder: Control points → actions (`SplineDecoder`).
        normalizer: Physical → normalised units.
        action_low: Smallest value of each degree of freedom in the fitted data, (D,).
        action_high: Largest value.
    """

    family: ClassVar[str] = "beast"
    config_class: ClassVar[type] = BeastConfig
    fitting: ClassVar[str] = "zoo.families.beast.fitting"
    encode_options: ClassVar[type] = EncodeOptions
    decode_options: ClassVar[type] = DecodeOptions

    config: BeastConfig
    encoder: SplineEncoder
    quantizer: UniformGrid
    decoder: SplineDecoder
    action_low: Tensor
    action_high: Tensor
    point_low: Tensor
    point_step: Tensor

    def __init__(self, config: BeastConfig) -> None:
        super().__init__(config)
        slots = (config.num_free, config.num_dofs)
        # Both maps follow from the settings and hold no weights, so they are computed for real even where a caller,
        # such as the shape check before loading, only wants an outline on the meta device.
        with fresh():
            self.encoder = SplineEncoder(config)
            self.decoder = SplineDecoder(config)
        self.quantizer = UniformGrid(slots, config.codebook_size)
        self.normalizer = RangeNormalizer(config.num_dofs)
        self.reach = Reach(config.num_dofs, config.limit)
        self._reach_is_covered = False  # whether what is in reach needs no other check
        if not self.quantizer.low.is_meta:
            self.encoder.to(self.quantizer.low.device)
            self.decoder.to(self.quantizer.low.device)
        for name in ("action_low", "action_high"):
            self.register_buffer(name, torch.full((config.num_dofs,), torch.nan, dtype=torch.float32))
        # Lowest level and distance of levels in physical units: what decoding multiplies ids with.
        for name in ("point_low", "point_step"):
            self.register_buffer(name, torch.full(slots, torch.nan, dtype=torch.float32), persistent=False)
        num_tokens = config.num_free * config.num_dofs
        rate = config.control_rate
        self.spec = TokenSpec(
            modality="action",
            codebook_size=config.codebook_size,
            num_tokens=num_tokens,
            token_rate=None if rate is None else num_tokens * rate / config.horizon,
            sample_rate=rate,
            input_size=(config.horizon, config.num_dofs),
            latent_dim=config.num_dofs,
        )
        self.register_load_state_dict_post_hook(refresh_after_load)  # type: ignore[no-untyped-call]
        self.reset_fit()

    def encode(self, x: Any, lengths: Any = None, *, start: Any = None) -> Tokens:
        """Turn actions into tokens.

        Args:
            x: (B, L, D) or (L, D) actions in physical units, a path, an array, or a list of sequences.
            lengths: (B,) valid steps of each sequence of a padded batch.
            start: The commands sent before each sequence, needed if the boundary is not `free`: (B, D) the last one
                for `value`, (B, 2, D) the last two, oldest first, for `value+velocity`.

        Returns:
            Ids (B, n·J) for sequences of up to n chunks.

        Raises:
            InputError: NaN, a wrong number of degrees of freedom, an empty sequence, a missing `start`, or values so
                far from the fitted data that their unit must be wrong.
            NotFittedError: There are no bounds yet.
        """
        with torch.no_grad():
            size, name = self.config.codebook_size, self.name
            whole = self.whole_chunks(x, lengths)
            if whole is None:
                actions = self.as_actions(x, lengths)
                whole = actions.batch() if actions.even_length == self.horizon else None
            if whole is not None:
                ids = self.quantizer.ids_(self._points(whole, self._before(start, len(whole)))).flatten(1)
                return Tokens(ids, ids.new_full((len(ids),), ids.shape[1]), size, name)
            points, chunks = self._chunk_points(actions, self._before(start, len(actions)))
            ids = self.quantizer.ids_(points).flatten(1)
            return Tokens(chunks.padded(ids), chunks.per_item * ids.shape[1], size, name, signal_lengths=chunks.signal)

    def decode(
        self,
        tokens: Any,
        lengths: Any = None,
        *,
        start: Any = None,
        times: Any = None,
        derivative: int = 0,
        out_of_range: Literal["error", "clamp"] = "error",
    ) -> Tensor:
        """Turn tokens into actions.

        Args:
            tokens: What `encode` returned, or ids (B, n·J).
            lengths: (B,) valid ids of each item, where bare ids of unequal lengths are given.
            start: The commands sent before each sequence, as for `encode`. With a `free` boundary it is optional,
                (B, D), and replaces the first control point of the smooth degrees of freedom of the first chunk, so
                that the motion starts there.
            times: (M,) positions in [0, 1] of each chunk to evaluate instead of its own T steps, such as
                `torch.linspace(0, 1, 200)`; never rescaled.
            derivative: 1 for the velocity, 2 for the acceleration …, per unit of chunk: divide by the chunk's duration
                to the same power for physical units.
            out_of_range: What to do with bare ids outside the codebook: raise, or take the nearest id.

        Returns:
            (B, n·T, D) float32 (not always contiguous), (B, n·M, D) with `times`, cut to the longest signal if the
            tokens know it; zero past the end of shorter items.

        Raises:
            TokenError: Ids out of range, not a whole number of chunks, or another tokenizer's.
            InputError: A missing or misshapen `start`, or `times` outside [0, 1].
        """
        self.require_ready()
        with torch.no_grad():
            if out_of_range not in ("error", "clamp"):
                raise TokenError(f"out_of_range must be 'error' or 'clamp', got {out_of_range!r}.")
            if out_of_range == "clamp" and not isinstance(tokens, Tokens):
                tokens = arguments.clamped_ids(tokens, self.config.codebook_size)
            tokens = self.as_tokens(tokens, lengths)
            ids, per_item = self.chunk_tokens(tokens)
            batch, chunks, _ = ids.shape
            numbers = ids.reshape(-1, self.config.num_free, self.num_dofs).float()
            points = torch.addcmul(self.point_low, numbers, self.point_step)
            curve = self._curve(points, batch, start, self._bases(times, derivative))
            signal = tokens.signal_lengths if times is None else None
            if chunks == 1 and signal is None and per_item.all():
                return curve
            return cut_at(curve, per_item * (curve.shape[1] // chunks) if signal is None else signal)

    def clipped_slots(self, x: Any, lengths: Any = None, *, start: Any = None) -> Tensor:
        """Count the control points of actions that lie outside the bounds, and so are clipped, (F, D) int64.

        Args:
            x: As for `encode`.
            lengths: As for `encode`.
            start: As for `encode`.
        """
        return self._clipped(self.as_actions(x, lengths), start).sum(0)

    def clipped_share(self, x: Any, *, start: Any = None) -> float:
        """Return the share of control points beyond their bounds; see `ActionTokenizer.clipped_share`."""
        return float(self._clipped(self.as_actions(x), start).double().mean())

    def encode_latents(self, x: Any, lengths: Any = None, *, start: Any = None, clamp: bool = True) -> Latents:
        """Turn whole chunks into control points in [-1, 1], differentiably.

        Args:
            x: (B, T, D) actions in physical units.
            lengths: None, since chunks are whole.
            start: As for `encode`.
            clamp: Whether control points outside the bounds are clipped to ±1.

        Returns:
            Values (B, F, D) float32; float64 if x is.

        Raises:
            InputError: NaN, another shape, lengths, or a missing `start`.
        """
        self.require_ready()
        if lengths is not None:
            raise InputError(f"the latents of {self.name} are of whole chunks: leave lengths out.")
        arguments.require_shape(x, self.horizon, self.config, "chunks")
        self.require_finite(x.detach())
        before = self._before(start, len(x))
        extended = x.double() if before is None else torch.cat([before.double(), x.double()], 1)
        points = self.encoder.linear(extended - self.normalizer.centre) / self.normalizer.half_range
        low, high = self.quantizer.low, self.quantizer.high
        z = ((points - low) / (high - low) * 2 - 1).to(arguments.precision(x))
        counts = torch.full((len(z),), z.shape[1], dtype=torch.int64, device=z.device)
        return Latents(z.clamp(-1, 1) if clamp else z, counts, self.name)

    def decode_latents(self, latents: Latents | Tensor, *, start: Any = None, times: Any = None) -> Tensor:
        """Turn control points into actions, differentiably.

        Args:
            latents: Values (B, F, D), or these alone; -1 and 1 are the control points' bounds.
            start: As for `decode`.
            times: As for `decode`.

        Returns:
            (B, T, D), or (B, M, D) with `times`, float32; float64 if the values are.

        Raises:
            InputError: Another shape, a missing `start`, or `times` outside [0, 1].
            TokenError: Another tokenizer's latents.
        """
        self.require_ready()
        z = self.latent_values(latents)
        arguments.require_shape(z, self.config.num_free, self.config, "control points")
        z = z.to(arguments.precision(z))
        points = self.point_low + (z + 1) * (self.point_step * ((self.config.codebook_size - 1) / 2))
        return self._curve(points, len(z), start, self._bases(times, 0))

    @property
    def num_fixed(self) -> int:
        """Commands before a chunk that its boundary continues: 0, 1 or 2."""
        return self.config.num_fixed

    @property
    def is_fitted(self) -> bool:
        """Whether the bounds are known."""
        return self.quantizer.is_set

    @property
    def device(self) -> torch.device:
        """Where the bounds are."""
        return self.point_low.device

    def reset_fit(self) -> Self:
        """Forget all data seen by `fit` and `partial_fit`; the bounds stay until the next data."""
        quantiles = self.config.bounds == "quantile"
        self._actions_seen = RunningRange()
        self._points_seen = RunningRange(capacity=2**16 if quantiles else 1)
        return self

    def partial_fit(self, episodes: Any) -> Self:
        """Add data, and refresh the bounds from all data seen since `reset_fit` (a loaded tokenizer has seen none).

        Bounds come from the windows that start at every step of an episode; a window that runs past the end holds the
        last action.

        Args:
            episodes: What `fit` takes.
        """
        for episode in self.as_episodes(episodes):
            self._actions_seen.update(episode)
            windows = episode_windows(episode, self.config)
            for part in torch.split(windows, max(1, _FIT_BLOCK // windows[0].numel())):
                self._points_seen.update(self.encoder.linear(part.double().to(self.device)))
        return self._set_statistics()

    def merge_fit(self, other: BeastTokenizer) -> Self:
        """Add the data that another tokenizer of the same settings has seen, such as that of another shard."""
        if not isinstance(other, BeastTokenizer) or other.config != self.config:
            raise ConfigError("only tokenizers with the same settings can share statistics.")
        self._actions_seen.merge(other._actions_seen)
        self._points_seen.merge(other._points_seen)
        return self._set_statistics()

    def set_bounds(self, low: Any, high: Any) -> Self:
        """State the control points' bounds instead of fitting them, (F, D) or broadcast, in physical units.

        Actions are then not normalised: normalised units are physical ones.
        """
        slots = (self.config.num_free, self.num_dofs)
        try:
            low, high = (torch.as_tensor(bound, dtype=torch.float64).expand(slots) for bound in (low, high))
        except (TypeError, ValueError, RuntimeError) as error:
            raise InputError(f"bounds must be numbers of the shape {slots}, or broadcast to it: {error}.") from error
        if not (low.isfinite() & high.isfinite() & (high > low)).all():
            raise InputError("bounds must be finite, and every upper bound must exceed its lower bound.")
        ones = torch.ones(self.num_dofs, dtype=torch.float32, device="cpu")
        self.normalizer.set_range(-ones, ones)
        self.quantizer.set_bounds(low, high)
        self.action_low = self.quantizer.low.amin(0).float()
        self.action_high = self.quantizer.high.amax(0).float()
        self._refresh()
        self.became_another()
        return self

    def _set_statistics(self) -> Self:
        config = self.config
        if not self._actions_seen.count:
            return self
        self.action_low = self._actions_seen.low.float().to(self.device)
        self.action_high = self._actions_seen.high.float().to(self.device)
        self.normalizer.set_range(*(self._actions_seen.quantile(q) for q in config.action_quantiles))
        of_centre = self.encoder.linear(
            self.normalizer.centre.expand(1, config.num_fixed + config.horizon, config.num_dofs)
        )[0]
        bounds = fitted_bounds(self._points_seen, of_centre, self.normalizer.half_range, config)
        self.quantizer.set_bounds(*bounds)
        self._refresh()
        self.became_another()
        return self

    def _refresh(self) -> None:
        """Derive what encoding and decoding multiply with from the statistics."""
        if not self.quantizer.is_set:
            return
        centre, half = self.normalizer.centre, self.normalizer.half_range
        # Bounds of actions may be equal, where a degree of freedom stands still.
        require_usable(self, (centre - half, centre + half), (self.quantizer.low, self.quantizer.high),
                       (self.action_low.double() - 1e-9, self.action_high.double() + 1e-9))  # fmt: skip
        largest = torch.maximum(self.action_low.abs(), self.action_high.abs())
        # What has never moved says nothing about the size of motions: 1, like its normalised unit, not almost 0.
        is_constant = self.action_high - self.action_low < CONSTANT
        self.encoder.set_scale(torch.where(is_constant, largest.clamp(min=1.0), largest), centre, half)
        self.decoder.set_range(self.action_low, self.action_high)
        self.reach.set_range(self.action_low, self.action_high)
        self._reach_is_covered = self.encoder.covers(self.reach.low, self.reach.high)
        self.point_low = (self.quantizer.low * half + centre).float()
        self.point_step = (self.quantizer.step * half).float()

    def _points(self, x: Tensor, before: Tensor | None) -> Tensor:
        """Return the normalised control points (B, F, D) of whole chunks (B, T, D)."""
        commands = x if before is None else torch.cat([before, x], 1)
        return cast(Tensor, self.encoder(commands, is_covered=self._reach_is_covered))

    def _chunk_points(self, actions: Ragged, before: Tensor | None) -> tuple[Tensor, Chunks]:
        """Return the normalised control points of every chunk of sequences, (C, F, D), and the chunks."""
        chunks = split(actions, self.horizon)
        extended = chunks.values
        if before is not None:
            earlier = extended[:, -before.shape[1] :].roll(1, 0)
            earlier[chunks.is_first] = before
            extended = torch.cat([earlier, extended], 1)
        points = extended.new_zeros((len(extended), self.config.num_free, self.num_dofs), dtype=torch.float64)
        for valid in sorted(set(chunks.valid.tolist())):
            rows = chunks.valid == valid
            encoder = self.encoder if valid == self.horizon else self.encoder.for_tail(valid)
            points[rows] = encoder(extended[rows][:, : self.config.num_fixed + valid])
        return points, chunks

    def _clipped(self, actions: Ragged, start: Any) -> Tensor:
        """Return which control points of sequences lie outside their bounds, (C, F, D) bool."""
        with torch.no_grad():
            points, _ = self._chunk_points(actions, self._before(start, len(actions)))
            return self.quantizer.is_clipped(points)

    def _before(self, start: Any, batch: int) -> Tensor | None:
        before = arguments.commands_before(start, batch, self.config, self.device)
        if before is not None:
            self.require_in_reach(before)
        return before

    def _bases(self, times: Any, derivative: int) -> Bases | None:
        if times is None and derivative == 0:
            return None
        return self.decoder.bases(arguments.evaluation_times(times, derivative), derivative)

    def _curve(self, points: Tensor, batch: int, start: Any, bases: Bases | None) -> Tensor:
        """Evaluate control points (B·n, F, D) as (B, n·M, D), each chunk continuing the one before if asked."""
        if self.config.num_fixed == 0:
            if start is not None:
                points = arguments.started(points, start, batch, self.config)
            curve: Tensor = self.decoder(points, None, bases)
            return curve.reshape(batch, -1, self.num_dofs)
        before = self._before(start, batch)
        parts = []
        by_chunk = points.view(batch, -1, *points.shape[1:]).unbind(1)
        for number, own in enumerate(by_chunk):
            parts.append(self.decoder(own, before, bases))
            if number < len(by_chunk) - 1:
                commands = parts[-1] if bases is None else self.decoder(own, before)
                before = commands[:, -self.config.num_fixed :]
        return torch.cat(parts, 1)
