"""A prior over ids, of one codebook or several."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.components.layers.mlp import MLP
from zoo.components.prior.causal import Cache, CausalConfig, CausalTransformer, initialise, valid_positions
from zoo.components.prior.sampling import draw_ids
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError, TokenError

__all__ = ["TokenPrior", "TokenPriorConfig"]


@dataclass(frozen=True)
class TokenPriorConfig:
    """A prior over ids.

    Attributes:
        codebook_size: V.
        num_codebooks: K; ids are (B, T) if it is 1 and (B, T, K) otherwise.
        num_classes: Classes that it can be conditioned on.
        class_dropout: Probability, in training, that an item's class is withheld.
        input_dim: Width of the code vectors that stand for earlier tokens; None if their ids do.
        transformer: Sizes.

    Raises:
        ConfigError: A value is unusable.
    """

    codebook_size: int
    num_codebooks: int = 1
    num_classes: int = 0
    class_dropout: float = 0.1
    input_dim: int | None = None
    transformer: CausalConfig = field(default_factory=CausalConfig)

    def __post_init__(self) -> None:
        check_fields(self, "token prior")
        for name, least in (("codebook_size", 1), ("num_codebooks", 1), ("num_classes", 0), ("input_dim", 1)):
            value = getattr(self, name)
            if value is not None and value < least:
                raise ConfigError(f"token prior: {name} must be at least {least}, got {value}.")
        if not 0 <= self.class_dropout <= 1:
            raise ConfigError(f"token prior: class_dropout is a probability, got {self.class_dropout}.")


class TokenPrior(nn.Module):
    """p(ids) = Π_t Π_k p(id_tk | tokens before t, ids of t before k, class), by a GPT over T positions.

    Position t sees the class, or that there is none, and the tokens before t. The K ids of a token are predicted in
    turn by a small network that sees the transformer's output and the ids before, so that the product is a probability
    of the whole sequence, and T does not grow with K.

    That ids and classes are in range is the caller's to check.

    Args:
        config: Sizes.
    """

    def __init__(self, config: TokenPriorConfig) -> None:
        super().__init__()
        self.config = config
        size, num, width = config.codebook_size, config.num_codebooks, config.transformer.width
        self.embed = nn.Embedding(num * size, width) if config.input_dim is None else nn.Linear(config.input_dim, width)
        self.classes = nn.Embedding(config.num_classes + 1, width)
        self.heads = nn.ModuleList(nn.Linear(width, size) for _ in range(num))
        if num > 1:
            self.inner = nn.Embedding((num - 1) * size, width)
            self.inner_norm = nn.LayerNorm(width)
            self.inner_mlp = MLP(width, 4 * width)
        initialise(self)
        self.transformer = CausalTransformer(config.transformer)

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of every id, given those before it.

        Args:
            ids: int64 (B, T) or (B, T, K).
            lengths: (B,) tokens of each item; what follows them is padding and may hold anything. All T if None.
            labels: int64 (B,) classes; a negative one, and None, is no class.
            vectors: (B, T, input_dim) the codes of the ids, if the config has an `input_dim`. Gradients reach them.

        Returns:
            (B, T, V) or (B, T, K, V).

        Raises:
            TokenError: Ids or vectors do not fit.
            InputError: Lengths or labels do not fit, or T is more than the prior's positions.
        """
        columns = self._columns(ids)
        valid = valid_positions(lengths, columns)
        columns = columns.masked_fill(~valid[..., None], 0)
        seen = columns[:, :-1] if self.config.input_dim is None else self._checked(vectors, columns, valid)[:, :-1]
        x = torch.cat([self._start(labels, len(ids)), self._embed(seen)], 1)[:, : ids.shape[1]]
        contexts = self._contexts(self.transformer(x), columns)
        logits = torch.stack([head(contexts[:, :, k]) for k, head in enumerate(self.heads)], 2)
        return logits[:, :, 0] if self.config.num_codebooks == 1 else logits

    def log_prob(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Return the natural logarithm of the probability of each id, float32, shaped as ids; 0 where there is padding.

        Arguments and errors as of `forward`.
        """
        logits = self(ids, lengths, labels, vectors).float()
        valid = valid_positions(lengths, ids).view(*ids.shape[:2], *[1] * (ids.ndim - 2))
        targets = ids.masked_fill(~valid, 0)
        loss = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(ids.shape)
        return -loss.masked_fill(~valid, 0)

    def loss(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        vectors: Tensor | None = None,
    ) -> Tensor:
        """Return the mean negative log-probability of an id, in nats; 0 if there is none. As `forward` otherwise."""
        log_probs = self.log_prob(ids, lengths, labels, vectors)
        num = valid_positions(lengths, ids).sum() * self.config.num_codebooks
        return -log_probs.sum() / num.clamp(min=1)

    @torch.no_grad()
    def generate(
        self,
        num_tokens: int,
        num_items: int = 1,
        *,
        labels: Tensor | None = None,
        prompt: Tensor | None = None,
        temperature: float = 1.0,
        top_k: int | None = None,
        generator: torch.Generator | None = None,
        codes: Callable[[Tensor], Tensor] | None = None,
        is_cached: bool = True,
    ) -> Tensor:
        """Draw ids; call it in evaluation mode, without dropout.

        Args:
            num_tokens: T.
            num_items: B; as many as labels or prompts, if there are any.
            labels: As in `forward`.
            prompt: (B, P) or (B, P, K) the first tokens.
            temperature: As in `draw_ids`.
            top_k: As in `draw_ids`.
            generator: As in `draw_ids`.
            codes: Vectors of ids, `Quantizer.codes`, if the config has an `input_dim`.
            is_cached: Keep keys and values instead of computing them again for every token.

        Returns:
            int64 (B, T) or (B, T, K), with the prompt.

        Raises:
            TokenError: The prompt does not fit.
            InputError: An argument is missing or out of range, or T is more than the prior's positions.
        """
        self.transformer.require_room(num_tokens)
        device = self.transformer.positions.device
        given = [len(x) for x in (labels, prompt) if x is not None]
        batch = given[0] if given else num_items
        done = torch.empty(batch, 0, self.config.num_codebooks, dtype=torch.int64, device=device)
        if prompt is not None:
            done = self._columns(prompt.to(device))
        if done.shape[1] > num_tokens:
            raise InputError(f"the prompt has {done.shape[1]} tokens, more than the {num_tokens} asked for.")
        if (self.config.input_dim is None) != (codes is None):
            raise InputError("codes, from ids to vectors, are needed if and only if the config has an input_dim.")
        start = self._start(labels, batch)
        cache = Cache(num_tokens) if is_cached else None
        for position in range(done.shape[1], num_tokens):
            seen = 0 if cache is None else cache.length
            # What is new: everything at first, then the token of the last round. The start stands before token 0.
            new = done[:, max(0, seen - 1) : position]
            x = self._embed(new if codes is None else self._vectors(codes, new))
            x = x if seen else torch.cat([start, x], 1)
            output = self.transformer(x, cache)[:, -1:]
            token = done.new_zeros(batch, 1, self.config.num_codebooks)
            for k, head in enumerate(self.heads):
                logits = head(self._contexts(output, token)[:, :, k])
                token[..., k] = draw_ids(logits, temperature=temperature, top_k=top_k, generator=generator)
            done = torch.cat([done, token], 1)
        return done[..., 0] if self.config.num_codebooks == 1 else done

    def _columns(self, ids: Tensor) -> Tensor:
        """Return ids with an axis for codebooks, (B, T, K)."""
        num = self.config.num_codebooks
        is_right = ids.ndim == 2 if num == 1 else ids.ndim == 3 and ids.shape[2] == num
        if not is_right or ids.dtype != torch.int64:
            shape = "(B, T)" if num == 1 else f"(B, T, {num})"
            raise TokenError(f"ids must be int64 {shape}, got {ids.dtype} of {tuple(ids.shape)}.")
        return ids[..., None] if num == 1 else ids

    def _checked(self, vectors: Tensor | None, columns: Tensor, valid: Tensor) -> Tensor:
        """Return vectors with zeros for padding."""
        shape = (*columns.shape[:2], self.config.input_dim)
        if vectors is None or vectors.shape != shape:
            got = None if vectors is None else tuple(vectors.shape)
            raise TokenError(f"the prior takes the vectors of the ids, {shape}, as its input; got {got}.")
        return vectors.masked_fill(~valid[..., None], 0)

    def _vectors(self, codes: Callable[[Tensor], Tensor], columns: Tensor) -> Tensor:
        return codes(columns[..., 0] if self.config.num_codebooks == 1 else columns)

    def _embed(self, seen: Tensor) -> Tensor:
        """Return tokens, ids (B, n, K) or vectors (B, n, input_dim), as inputs (B, n, D)."""
        embedded: Tensor
        if self.config.input_dim is not None:
            embedded = self.embed(seen)
            return embedded
        embedded = self.embed(_numbered(seen, self.config.codebook_size)).sum(2)
        return embedded

    def _start(self, labels: Tensor | None, batch: int) -> Tensor:
        """Return what stands before token 0, (B, 1, D)."""
        none = self.config.num_classes
        device = self.transformer.positions.device
        if labels is None:
            labels = torch.full((batch,), none, device=device)
        elif labels.shape != (batch,) or labels.dtype != torch.int64 or not none:
            raise InputError(
                f"labels must be {batch} int64, of a prior that has classes; got {labels.dtype} of "
                f"{tuple(labels.shape)}, and there are {none} classes."
            )
        else:
            labels = torch.where(labels < 0, none, labels).to(device)
            if self.training and self.config.class_dropout:
                labels = torch.where(
                    torch.rand(batch, dtype=torch.float32, device=device) < self.config.class_dropout, none, labels
                )
        start: Tensor = self.classes(labels)[:, None]
        return start

    def _contexts(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Return what the heads see, (B, n, K, D), of outputs (B, n, D); k sees the first k of ids (B, n, K)."""
        if self.config.num_codebooks == 1:
            return outputs[:, :, None]
        before = self.inner(_numbered(columns[..., :-1], self.config.codebook_size)).cumsum(2)
        x = outputs[:, :, None] + F.pad(before, (0, 0, 1, 0))
        contexts: Tensor = x + self.inner_mlp(self.inner_norm(x))
        return contexts


def _numbered(columns: Tensor, size: int) -> Tensor:
    """Return ids (..., K) as rows of one table for all codebooks."""
    return columns + size * torch.arange(columns.shape[-1], device=columns.device)
