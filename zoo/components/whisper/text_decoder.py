"""Whisper's text decoder: from states of speech to its transcript."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.layers.block import BlockConfig, CrossBlock
from zoo.components.whisper.config import WhisperConfig

__all__ = ["TextDecoder"]

Cache = list[tuple[Tensor, Tensor]]


class TextDecoder(nn.Module):
    """Whisper's decoder: text tokens so far and states of the speech → logits of the next one.

    Args:
        config: Of the Whisper model.
    """

    def __init__(self, config: WhisperConfig) -> None:
        super().__init__()
        self.config = config
        self.tokens = nn.Embedding(config.vocabulary, config.d_model)
        self.positions = nn.Embedding(config.max_text, config.d_model)
        block = BlockConfig(config.d_model, config.num_text_heads, config.text_ffn_size, key_bias=False)
        self.layers = nn.ModuleList(block.cross_block() for _ in range(config.num_text_layers))
        self.norm = nn.LayerNorm(config.d_model)

    def forward(self, ids: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Return the logits of the text token after each, (B, L, V).

        Args:
            ids: (B, L) text tokens, prompt first.
            states: (B, T, D) of the speech.
            mask: (B, T) which of the states count.
        """
        length = ids.shape[1]
        causal = torch.ones(length, length, dtype=torch.bool, device=ids.device).tril()
        return self._step(ids, 0, self._memories(states), mask, causal, None)[0]

    @torch.no_grad()
    def transcribe(self, states: Tensor, mask: Tensor, prompts: Sequence[Sequence[int]], most: int) -> list[list[int]]:
        """Return the likeliest next text token again and again, for each item until its end or `most` of them.

        Args:
            states: (B, T, D) of the speech.
            mask: (B, T) which of the states count.
            prompts: What each transcript starts with, as many text tokens each; not returned.
            most: Text tokens at most.
        """
        end = self.config.end_id
        ids = torch.tensor([list(prompt) for prompt in prompts], device=states.device)
        length = ids.shape[1]
        memories, past, start = self._memories(states), None, 0
        causal = torch.ones(length, length, dtype=torch.bool, device=states.device).tril()
        found: list[Tensor] = []
        is_done = torch.zeros(len(states), dtype=torch.bool, device=states.device)
        for _ in range(min(most, self.config.max_text - length)):
            logits, past = self._step(ids, start, memories, mask, causal if past is None else None, past)
            start += ids.shape[1]
            choice = logits[:, -1, : self._speakable].argmax(1)
            is_done |= choice == end
            if bool(is_done.all()):
                break
            ids = torch.where(is_done, end, choice)[:, None]
            found.append(ids)
        rows = torch.cat(found, 1).tolist() if found else [[] for _ in range(len(states))]
        return [row[: row.index(end)] if end in row else row for row in rows]

    @property
    def _speakable(self) -> int:
        """How many text tokens a transcript is made of: the end's and those before; special ones come after."""
        return self.config.end_id + 1

    def _memories(self, states: Tensor) -> Cache:
        return [cast(CrossBlock, layer).memory.keys_values(states) for layer in self.layers]

    def _step(
        self, ids: Tensor, start: int, memories: Cache, memory_mask: Tensor, mask: Tensor | None, past: Cache | None
    ) -> tuple[Tensor, Cache]:
        x = self.tokens(ids) + self.positions.weight[start : start + ids.shape[1]]
        present: Cache = []
        for number, module in enumerate(self.layers):
            layer = cast(CrossBlock, module)
            keys, values = layer.keys_values(x)
            if past is not None:
                keys, values = torch.cat([past[number][0], keys], 2), torch.cat([past[number][1], values], 2)
            x = layer.attend(x, keys, values, memories[number], mask, memory_mask[:, None, None])
            present.append((keys, values))
        return F.linear(self.norm(x), self.tokens.weight), present
