"""What tokenizers of videos have in common: windows of a fixed number of frames, one after another."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from torch import Tensor

from zoo.components.exact.one_by_one import any_attention, canonical
from zoo.data._source import Source, is_source
from zoo.errors import InputError, TokenError
from zoo.modalities.image import PixelTokenizer
from zoo.tokens import PAD_ID, Latents, Tokens

__all__ = ["Place", "VideoTokenizer"]

_TOGETHER = 8  # windows that fast mode, and whoever decodes, has in one kernel


class Place(NamedTuple):
    """Which window of which item of a batch it is, both from 0."""

    item: int
    window: int


Finish = Callable[[Tensor, list[Place]], Tensor]
"""What is made of windows (B, 3, t, H, W), (B, N, …), given which they are."""


class VideoTokenizer(PixelTokenizer):
    """A tokenizer of videos (B, 3, T, H, W) in 0…1.

    One with a `spec.input_size` of (T, H, W) and `spec.num_tokens` N takes videos of any number of frames F ≥ 1: they
    are cut into windows of T frames, each is encoded alone, and their tokens follow one another, ⌈F/T⌉·N in all. A last
    window that is not full repeats its last frame until it has `frame_multiple` frames or a multiple of it; the true
    number of frames is in `signal_lengths`, so that `decode` gives back exactly as many. Of one that has no such size
    an item is a window, of whatever length.

    A family makes what `PixelTokenizer` says, of one window. What decodes T frames alone needs no more; where windows
    of fewer frames can be encoded and decoded as such, it says so by `frame_multiple` and `window_pixels`.
    """

    @property
    def window(self) -> int | None:
        """Frames of a window, T; None if any number of frames is one."""
        size = self.spec.input_size
        return size[0] if size is not None and len(size) == 3 and self.spec.num_tokens is not None else None

    @property
    def frame_multiple(self) -> int:
        """What the number of frames of a window must be a multiple of, at most T."""
        return self.window or 1

    def window_pixels(self, vectors: Tensor, num_frames: int) -> Tensor:
        """Return the pixels (B, 3, t, H, W) of the vectors (B, N, D) of windows.

        Args:
            vectors: They.
            num_frames: Frames that they were encoded from, a multiple of `frame_multiple`, T unless that is less.
        """
        return self.pixels(vectors)

    def encode(self, x: Any, lengths: Any = None, *, on_white: bool = False) -> Tokens:
        """Turn videos into tokens.

        Args:
            x: Float (B, 3, T, H, W) in 0…1, one item, uint8, lists of PIL images, paths, or a list of videos whose
                lengths may differ.
            lengths: (B,) frames of each item of a padded batch.
            on_white: Lay transparent frames on white instead of refusing them.

        Raises:
            InputError: NaN, another size, out of range, transparent, or an unreadable file.
        """
        size = self.spec.require_codebook()
        ids, counts, frames = self.encode_windows(
            x, lengths, on_white, lambda pixels, _: self.quantizer.ids(self.vectors(pixels))
        )
        return Tokens(ids, counts, size, self.name, self._grid(counts), signal_lengths=frames)

    def encode_latents(self, x: Any, lengths: Any = None, *, on_white: bool = False) -> Latents:
        """Turn videos into the vectors that are quantized; arguments and errors as of `encode`."""
        if self.spec.latent_dim is None:
            return super().encode_latents(x, lengths)
        values, counts, frames = self.encode_windows(
            x, lengths, on_white, lambda pixels, _: self.vectors(pixels).float()
        )
        return Latents(values, counts, self.name, self._grid(counts), signal_lengths=frames)

    def decode(self, tokens: Any, lengths: Any = None, *, clamp: bool = True) -> Tensor:
        """Turn tokens into videos.

        Args:
            tokens: What `encode` returned, or ids (B, T) with `lengths`.
            lengths: (B,) valid ids of each item.
            clamp: Bring what the decoder overshoots back to 0…1.

        Returns:
            Float pixels (B, 3, F, H, W), of as many frames as were encoded; shorter items are followed by zeros, and
            `output_lengths` tells them.

        Raises:
            TokenError: Ids out of range, too few, or another model's; or it was loaded without its decoder.
        """
        tokens = self.as_tokens(tokens, lengths)
        if self.window is None:
            return super().decode(tokens, clamp=clamp)
        self.require_decoder("decode")
        with torch.no_grad():
            made = self._joined(tokens, self.quantizer.codes)
        return made.clamp(0, 1) if clamp else made

    def decode_latents(self, latents: Latents | Tensor) -> Tensor:
        """Turn latents, or their bare values (B, T, D), into pixels in 0…1, as `decode` does."""
        if self.window is None or self.spec.latent_dim is None or not isinstance(latents, Latents):
            return super().decode_latents(latents)
        self.require_decoder("decode")
        with torch.no_grad():
            values = self.latent_values(latents)
            if values.ndim != 3 or values.shape[2] != self.spec.latent_dim or 0 in values.shape:
                raise TokenError(
                    f"latents of {self.name} are (B, T, {self.spec.latent_dim}), not empty, got {tuple(values.shape)}."
                )
            return self._joined(replace(latents, values=values), lambda vectors: vectors).clamp(0, 1)

    def num_tokens(self, length: int) -> int:
        """Return how many tokens `length` frames give: those of a window for each that is begun.

        Raises:
            InputError: It depends on the item.
        """
        return super().num_tokens(length) * (1 if self.window is None else max(1, -(-length // self.window)))

    def check_decode(self, tokens: Tokens | None = None, **options: Any) -> None:
        """Refuse tokens of anything but whole windows; see `Tokenizer.check_decode`."""
        super().check_decode(tokens, **options)
        if tokens is not None and self.window is not None:
            for _ in self._windows_of(tokens):
                pass

    def output_lengths(self, tokens: Tokens) -> Tensor:
        """Return the frames of each item, (B,) int64."""
        return self._frames_of(tokens)

    def encode_chunks(
        self, x: Source | Tensor | Iterable[Tensor], *, frame_rate: float | None = None, **options: Any
    ) -> Iterator[Tokens]:
        """Turn a long video or a stream into tokens, window by window, in memory that is that of a few windows.

        Put together in order they are the tokens of `encode`.

        Args:
            x: A video file, by its path, its bytes, or open, which is never in memory as decoded as a whole; a video
                (3, F, H, W) as `encode` takes one; or an iterable of consecutive parts of one.
            frame_rate: Frames a second that are taken of a file; all if None.
            options: Of `encode`.

        Returns:
            An iterator over `Tokens` of one item each; all but the last are of T frames.

        Raises:
            InputError: As for `encode`, perhaps only once what is wrong is reached; or nothing comes.
        """
        for windows in self._streamed(x, frame_rate, 1, options):
            yield self.encode(windows, **options)

    def encode_stream(
        self, x: Source | Tensor | Iterable[Tensor], *, frame_rate: float | None = None, **options: Any
    ) -> Tokens:
        """Return the tokens that `encode` gives of one video, in memory that is that of a few windows.

        Arguments and errors are those of `encode_chunks`.
        """
        parts = [self.encode(windows, **options) for windows in self._streamed(x, frame_rate, _TOGETHER, options)]
        counts, frames = (
            torch.cat([getattr(part, name) for part in parts]).sum(0, keepdim=True)
            for name in ("lengths", "signal_lengths")
        )
        ids = torch.cat([part.ids.flatten(0, 1)[None] for part in parts], 1)
        return replace(parts[0], ids=ids, lengths=counts, signal_lengths=frames, grid=self._grid(counts))

    def _streamed(
        self, x: Source | Tensor | Iterable[Tensor], frame_rate: float | None, together: int, options: Mapping[str, Any]
    ) -> Iterator[list[Tensor]]:
        """Yield the windows of a stream, so many at a time."""
        blocks: Iterable[Any]
        if is_source(x):
            from zoo.data._video import frames_of

            on_white = bool(options.get("on_white"))
            blocks = (frame[:, None] for frame, _ in frames_of(x, frame_rate=frame_rate, on_white=on_white))
        else:
            blocks = [x] if isinstance(x, (Tensor, np.ndarray)) else cast("Iterable[Any]", x)
        windows = _windows(map(self._block, blocks), self.window or sys.maxsize)
        while batch := list(itertools.islice(windows, together)):
            yield batch

    def decode_chunks(self, tokens: Tokens, **options: Any) -> Iterator[Tensor]:
        """Turn the tokens of one video into pixels (3, t, H, W), window by window.

        Args:
            tokens: One item.
            options: Of `decode`.

        Raises:
            TokenError: As for `decode`; or there are several items.
        """
        tokens = self.as_tokens(tokens)
        if len(tokens) != 1:
            raise TokenError(f"windows are those of one video, got {len(tokens)}: pass tokens[i].")
        if self.window is None:
            yield self.decode(tokens, **options)[0]
            return
        for frames, ids in self._windows_of(tokens):
            count, here = (torch.tensor([number], device=ids.device) for number in (ids.shape[1], frames))
            yield self.decode(replace(tokens, ids=ids, lengths=count, signal_lengths=here, grid=None), **options)[0]

    # Windows

    def encode_windows(self, x: Any, lengths: Any, on_white: bool, finish: Finish) -> tuple[Tensor, Tensor, Tensor]:
        """Return what is made of the windows of each item, for families whose `encode` has more options.

        Args:
            x: As for `encode`.
            lengths: As for `encode`.
            on_white: As for `encode`.
            finish: Makes ids or vectors of windows.

        Returns:
            What `finish` makes, (B, T, …) and `PAD_ID` past an item's end; its tokens, (B,); its frames, (B,).
        """
        items = self.as_items(x, lengths, on_white=on_white)
        cut = [self.cut(item) for item in items]
        places = [Place(item, number) for item, windows in enumerate(cut) for number in range(len(windows))]
        rows = iter(self._each([window for windows in cut for window in windows], places, finish))
        joined = [torch.cat(list(itertools.islice(rows, len(windows)))) for windows in cut]
        counts = [len(row) for row in joined]
        padded = joined[0].new_full((len(items), max(counts), *joined[0].shape[1:]), PAD_ID)
        for row, whole in zip(padded, joined, strict=True):
            row[: len(whole)] = whole
        frames = [item.shape[1] for item in items]
        counted, lasting = (torch.tensor(each, device=padded.device) for each in (counts, frames))
        return padded, counted, lasting

    def cut(self, video: Tensor) -> list[Tensor]:
        """Return the windows (3, t, H, W) of a video (3, F, H, W), the last one filled up by its last frame."""
        windows = list(torch.split(video, self.window or video.shape[1], 1))
        if missing := -windows[-1].shape[1] % self.frame_multiple:
            windows[-1] = torch.cat([windows[-1], windows[-1][:, -1:].expand(-1, missing, -1, -1)], 1)
        return windows

    def _each(self, windows: list[Tensor], places: list[Place], finish: Finish) -> list[Tensor]:
        """Return what `finish` makes of each window, (N, …), a function of it alone in exact mode."""
        with torch.no_grad():
            if self.is_exact:
                # One memory layout for all, since convolutions may round differently in another.
                alone = [(window[None].contiguous(), [place]) for window, place in zip(windows, places, strict=True)]
                made = canonical(self.device, len(alone), lambda run: run(lambda one: finish(*one), alone))
                return [row[0] for row in made]
            made = list(windows)
            for alike in _alike([window.shape for window in windows]):
                batch = torch.stack([windows[number] for number in alike]).to(self.input_dtype)
                with any_attention:
                    rows = finish(batch, [places[number] for number in alike])
                for number, row in zip(alike, rows, strict=True):
                    made[number] = row
            return made

    def _windows_of(self, tokens: Tokens | Latents) -> Iterator[tuple[int, Tensor]]:
        """Yield the frames, and the ids or vectors (1, N, …), of each window of each item.

        Raises:
            TokenError: Their number is not that of the frames.
        """
        count, most = self.spec.num_tokens or 1, self.window or 1
        values = tokens.ids if isinstance(tokens, Tokens) else tokens.values
        lengths, all_frames = tokens.lengths.tolist(), self._frames_of(tokens).tolist()
        for row, length, frames in zip(values, lengths, all_frames, strict=True):
            windows = max(1, -(-length // count))
            is_prefix = self.spec.is_ordered and 0 < length <= count
            if not (length == windows * count or is_prefix) or not (windows - 1) * most < frames <= windows * most:
                raise TokenError(
                    f"{self.name} decodes whole windows of {count} tokens, which are up to {most} frames each; got "
                    f"{length} tokens of {frames} frames."
                )
            for number in range(windows):
                yield min(most, frames - number * most), row[None, number * count : min(length, (number + 1) * count)]

    def _joined(self, tokens: Tokens | Latents, vectors_of: Callable[[Tensor], Tensor]) -> Tensor:
        """Return the pixels of all items, zeros behind the shorter ones."""
        windows = list(self._windows_of(tokens))
        made: list[Tensor] = [part for _, part in windows]
        is_fast = not self.is_exact and "decoder" in self.fast_modules
        for places in _alike([(here, part.shape) for here, part in windows]):
            here = windows[places[0]][0]
            vectors = vectors_of(torch.cat([made[place] for place in places]))
            filled = -(-here // self.frame_multiple) * self.frame_multiple
            with any_attention:
                pixels = self.window_pixels(vectors.to(self.fast_dtype) if is_fast else vectors, filled).float()
            for place, clip in zip(places, pixels[:, :, :here], strict=True):
                made[place] = clip
        frames, rows = self._frames_of(tokens).tolist(), iter(made)
        counts = [-(-count // (self.window or 1)) for count in frames]
        videos = [torch.cat(list(itertools.islice(rows, count)), 1) for count in counts]
        if len(videos) == 1:
            return videos[0][None]
        batch = videos[0].new_zeros(len(videos), 3, max(frames), *videos[0].shape[2:])
        for row, video in zip(batch, videos, strict=True):
            row[:, : video.shape[1]] = video
        return batch

    def _frames_of(self, tokens: Tokens | Latents) -> Tensor:
        if tokens.signal_lengths is not None:
            known: Tensor = tokens.signal_lengths
            return known
        if self.window is not None:
            return -(-tokens.lengths // (self.spec.num_tokens or 1)).clamp(max=-1) * self.window
        size, grid = self.spec.input_size, tokens.grid
        return torch.full_like(tokens.lengths, size[0] if size else grid[0] if grid else 1)

    def _grid(self, counts: Tensor) -> tuple[int, ...] | None:
        """Return the arrangement of tokens, which several windows do not have."""
        return self.grid if self.window is None or bool((counts == (self.spec.num_tokens or 0)).all()) else None

    def _block(self, block: Any) -> Tensor:
        """Return a checked part of a stream, (3, t, H, W)."""
        if not isinstance(block, (Tensor, np.ndarray)) or block.ndim != 4:
            found = f"the shape {tuple(block.shape)}" if hasattr(block, "shape") else type(block).__name__
            raise InputError(f"a stream is made of consecutive videos (3, t, H, W), tensors or arrays, got {found}.")
        return self.as_items(block)[0]


def _windows(blocks: Iterable[Tensor], size: int) -> Iterator[Tensor]:
    """Cut consecutive parts (3, t, H, W) of a video into windows of `size` frames, the last one perhaps shorter.

    Raises:
        InputError: There are no parts, or they are of different sizes.
    """
    held: list[Tensor] = []
    count, is_empty = 0, True
    for block in blocks:
        if held and block.shape[2:] != held[0].shape[2:]:
            raise InputError(f"the parts of a video must be of one size, got {[*held[0].shape]} and {[*block.shape]}.")
        held.append(block)
        count += block.shape[1]
        while count >= size:
            whole = torch.cat(held, 1) if len(held) > 1 else held[0]
            yield whole[:, :size]
            is_empty = False
            held, count = [whole[:, size:].clone()] if count > size else [], count - size
    if count:
        yield torch.cat(held, 1)
    elif is_empty:
        raise InputError("the stream is empty: there is nothing to encode.")


def _alike(kinds: list[Any]) -> Iterator[list[int]]:
    """Yield the places of equal values, a few at a time."""
    places: dict[Any, list[int]] = {}
    for place, kind in enumerate(kinds):
        places.setdefault(kind, []).append(place)
    for alike in places.values():
        for first in range(0, len(alike), _TOGETHER):
            yield alike[first : first + _TOGETHER]
