"""An autoregressive model over the ids of a tokenizer: one codebook or several, of equal or different lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.checkpoint.fingerprint import fingerprint
from zoo.components.layers.attention import Attention
from zoo.components.layers.block import Block
from zoo.components.layers.mlp import GatedMLP
from zoo.components.layers.norms import RMSNorm
from zoo.components.layers.positions import sincos_1d
from zoo.components.prior.causal import CausalStack, initialise, valid_positions
from zoo.errors import InputError, TokenError
from zoo.generator.config import GeneratorConfig
from zoo.generator.sampling import Sampling, check_classes, generate
from zoo.process.random import derive_seed
from zoo.spec import TokenSpec
from zoo.stored import Stored
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens

__all__ = ["TokenGenerator"]

_SAMPLING = Sampling()


class TokenGenerator(Stored):
    """p(ids) = Π_t Π_k p(id_tk | tokens before t, ids of t before k, condition), by a transformer over T positions.

    LLaMA's layers with learned absolute positions and no rotation, as LARP has them (arXiv 2410.21264): RMS norms,
    SwiGLU, no biases. Position t sees the class, or that there is none, or a prefix and a separator, and then the
    tokens before t. If there are several codebooks, the K ids of a token are predicted in turn by a small network that
    sees the transformer's output and the ids before, so that the product is a probability of the whole sequence and T
    does not grow with K.

    `zoo.load_generator` loads one, `zoo.save` stores one.

    Args:
        config: Sizes, and whose ids they are.

    Attributes:
        spec: Facts about the ids, as of the tokenizer that they are of.
    """

    family: ClassVar[str] = "generator"
    config_class: ClassVar[type] = GeneratorConfig
    float_dtypes: ClassVar[tuple[torch.dtype, ...]] = (torch.float32, torch.bfloat16, torch.float16)
    has_own_names: ClassVar[bool] = False  # larp.L_long_ar is over the ids of larp.L_long
    official: ClassVar[str] = "zoo.generator.official"

    config: GeneratorConfig

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__(config)
        width, size, num = config.width, config.codebook_size, config.num_codebooks
        self.spec = TokenSpec(
            config.modality, size, num, num_tokens=None if config.has_end else config.max_tokens, licence="Apache-2.0"
        )
        self.embed = nn.Embedding(num * size + (config.prefix_tokens > 0), width)
        if not config.prefix_tokens:
            self.classes = nn.Embedding(config.num_classes + 1, width)
        if num > 1:
            self.inner = nn.Embedding((num - 1) * size, width)
            self.inner_norm = RMSNorm(width, eps=config.norm_eps)
            self.inner_mlp = GatedMLP(width, config.hidden, bias=False)
        layers = (_block(config, number) for number in range(config.num_layers))
        self.stack = CausalStack(_positions(config), layers, RMSNorm(width, eps=config.norm_eps))
        sizes = [config.num_outputs] + [size] * (num - 1)
        heads = [nn.Linear(width, outputs, bias=False) for outputs in sizes]
        self.heads = nn.ModuleList(heads)
        initialise(self, config.init_std)
        for head in heads:
            nn.init.zeros_(head.weight)

    def forward(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return the logits of every id, given those before it.

        Args:
            ids: int64 (B, T) or (B, T, K), in range.
            lengths: (B,) tokens of each item; what follows them is padding and may hold anything. All T if None.
            labels: int64 (B,) classes; a negative one, and None, is no class.
            prefix: int64 (B, P) or (B, P, K), the tokens of the condition, if the config has `prefix_tokens`.

        Returns:
            (B, T, V) or (B, T, K, V). With an end it is (B, T + 1, V + 1) or (B, T + 1, K, V + 1): where an item is
            over as well, and with the end as the last id, which is -inf but for the first codebook.

        Raises:
            TokenError: Ids do not fit.
            InputError: Lengths, labels or prefix do not fit, or T is more than the model's tokens.
        """
        columns = self.columns(ids)
        columns = columns.masked_fill(~valid_positions(lengths, columns)[..., None], 0)
        start = self.start(len(ids), labels, prefix)
        given, predicted = (
            (columns, F.pad(columns, (0, 0, 0, 1))) if self.config.has_end else (columns[:, :-1], columns)
        )
        x = torch.cat([start, self.embedded(given)], 1)[:, : start.shape[1] - 1 + predicted.shape[1]]
        contexts = self.contexts(self.hidden(x)[:, start.shape[1] - 1 :], predicted)
        logits: list[Tensor] = [head(contexts[:, :, k]) for k, head in enumerate(self.heads)]
        if self.config.num_codebooks == 1:
            return logits[0]
        most = self.config.num_outputs
        return torch.stack([F.pad(each, (0, most - each.shape[-1]), value=-torch.inf) for each in logits], 2)

    def log_prob(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return the natural logarithm of the probability of each id, float32; arguments and errors as of `forward`.

        Returns:
            Shaped as ids, 0 where there is padding. With an end there is one position more, (B, T + 1) or
            (B, T + 1, K), and where an item is over, the first codebook has that of the end; so the sum is that of the
            whole item in any case.
        """
        logits = self(ids, lengths, labels, prefix).float()
        columns = self.columns(ids)
        valid = valid_positions(lengths, columns)[..., None].expand_as(columns)
        targets = columns.masked_fill(~valid, 0)
        if self.config.has_end:
            over = valid[..., 0].sum(1)[:, None, None]
            targets, valid = F.pad(targets, (0, 0, 0, 1)), F.pad(valid, (0, 0, 0, 1))
            first = targets[..., :1].scatter(1, over, self.config.codebook_size)
            targets = torch.cat([first, targets[..., 1:]], 2)
            valid = torch.cat([valid[..., :1].scatter(1, over, True), valid[..., 1:]], 2)
        losses = F.cross_entropy(logits.flatten(0, -2), targets.flatten(), reduction="none").view(targets.shape)
        found = -losses.masked_fill(~valid, 0)
        return found[..., 0] if self.config.num_codebooks == 1 else found

    def loss(
        self,
        ids: Tensor,
        lengths: Tensor | None = None,
        labels: Tensor | None = None,
        prefix: Tensor | None = None,
    ) -> Tensor:
        """Return the mean negative log-probability of what is predicted, ends included, in nats; 0 if there is nothing.

        Arguments and errors as of `forward`.
        """
        log_probs = self.log_prob(ids, lengths, labels, prefix)
        return -log_probs.sum() / self.num_predicted(ids, lengths).clamp(min=1)

    def num_predicted(self, ids: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Return how many ids `log_prob` sums the logarithms of, a scalar: K a token, and the ends."""
        num = valid_positions(lengths, ids).sum() * self.config.num_codebooks
        return num + len(ids) if self.config.has_end else num

    def sample(
        self,
        num_items: int = 1,
        *,
        labels: Sequence[int] | Tensor | None = None,
        prefix: Tokens | None = None,
        prompt: Tokens | None = None,
        sampling: Sampling = _SAMPLING,
        seed: int = 0,
        batch_size: int | None = None,
        is_cached: bool = True,
    ) -> Tokens:
        """Draw tokens for the tokenizer to decode.

        Each item draws its random numbers from a seed of its own, made of `seed` and its place, on the CPU: it does not
        depend on how many are drawn beside it, up to the rounding of logits.

        Args:
            num_items: B; as many as labels, prefixes or prompts, if there are any.
            labels: (B,) classes; a negative one is no class.
            prefix: The tokens of a condition, of a model that has `prefix_tokens`.
            prompt: The first tokens of the items, of one length, which are kept.
            sampling: How ids are drawn.
            seed: Of the random numbers.
            batch_size: Items at a time; all if None.
            is_cached: Keep keys and values instead of computing them again for every token.

        Returns:
            The tokens, prompts included, called by the tokenizer's name. An item without any token is possible, if
            lengths differ.

        Raises:
            TokenError: Prefix or prompt are another tokenizer's, or do not fit.
            InputError: An argument is missing or out of range.
        """
        given = [len(x) for x in (labels, prefix, prompt) if x is not None]
        batch = given[0] if given else num_items
        if batch < 1 or any(count != batch for count in given):
            raise InputError(
                f"labels, prefix and prompt must be of the same items, at least one; got {given or batch}."
            )
        classes = None if labels is None else torch.as_tensor(labels, dtype=torch.int64)
        check_classes(self.config, classes, sampling)
        rows: dict[str, Any] = {
            "labels": classes,
            "prefix": None if prefix is None else self._ids_of(prefix, "prefix"),
            "prompt": None if prompt is None else self._ids_of(prompt, "prompt"),
        }
        found: list[Tensor] = []
        for places in torch.split(torch.arange(batch), batch_size or batch):
            ids, lengths = generate(
                self,
                len(places),
                sampling=sampling,
                generators=[torch.Generator().manual_seed(derive_seed(seed, item)) for item in places.tolist()],
                is_cached=is_cached,
                **{name: None if value is None else value[places] for name, value in rows.items()},
            )
            found += [row[:length] for row, length in zip(ids, lengths.tolist(), strict=True)]
        return Tokens.from_ids(found, codebook_size=self.config.codebook_size, model=self.config.tokenizer)

    def require_made_by(self, tokenizer: Tokenizer) -> None:
        """Raise `TokenError` if the ids that this was trained on are not those of a tokenizer."""
        config, spec = self.config, tokenizer.spec
        own = (config.modality, config.codebook_size, config.num_codebooks)
        theirs = (spec.modality, spec.codebook_size, spec.num_codebooks)
        if own != theirs:
            raise TokenError(
                f"{self.name} is over ids of {config.modality}, {config.codebook_size} of {config.num_codebooks} "
                f"codebooks; {tokenizer.name} gives {spec.modality}, {spec.codebook_size} of {spec.num_codebooks}."
            )
        if config.fingerprint and config.fingerprint != fingerprint(tokenizer, decoder=False):
            raise TokenError(
                f"{self.name} was trained on ids of {config.tokenizer or 'another tokenizer'}, which has other weights "
                f"or settings than {tokenizer.name}: ids would mean something else. Load the one that it names."
            )

    def of(self, tokenizer: Tokenizer) -> TokenGenerator:
        """Take note whose ids these are, where nobody has said so, and return the model itself.

        Raises:
            TokenError: As of `require_made_by`.
        """
        self.require_made_by(tokenizer)
        self.config = replace(self.config, tokenizer=tokenizer.name, fingerprint=fingerprint(tokenizer, decoder=False))
        return self

    def tables(self) -> list[nn.Parameter]:
        """Return the parameters of embeddings and positions, which weight decay leaves alone."""
        embeddings = [module for module in self.modules() if isinstance(module, nn.Embedding)]
        return [p for part in (*embeddings, self.stack) for p in part.parameters(recurse=False)]

    # What sampling is made of.

    def columns(self, ids: Tensor) -> Tensor:
        """Return ids with an axis for codebooks, (B, T, K)."""
        num = self.config.num_codebooks
        is_right = ids.ndim == 2 if num == 1 else ids.ndim == 3 and ids.shape[2] == num
        if not is_right or ids.dtype != torch.int64:
            shape = "(B, T)" if num == 1 else f"(B, T, {num})"
            raise TokenError(f"ids must be int64 {shape}, got {ids.dtype} of {tuple(ids.shape)}.")
        if ids.shape[1] > self.config.max_tokens:
            raise InputError(
                f"{ids.shape[1]} tokens are more than the {self.config.max_tokens} that the generator has: build one "
                "with a higher max_tokens, or shorten the items."
            )
        return ids[..., None] if num == 1 else ids

    def embedded(self, columns: Tensor) -> Tensor:
        """Return tokens (B, n, K) as inputs (B, n, D)."""
        found: Tensor = self.embed(_numbered(columns, self.config.codebook_size)).sum(2)
        return found

    def start(self, batch: int, labels: Tensor | None, prefix: Tensor | None) -> Tensor:
        """Return what stands before the first token, (B, 1, D), or (B, P + 1, D) with a prefix.

        Raises:
            InputError: Labels or a prefix do not fit.
        """
        num, device = self.config.prefix_tokens, self.stack.positions.device
        if not num:
            if prefix is not None:
                raise InputError("this generator takes no prefix: leave it out.")
            start: Tensor = self.classes(self._labels(labels, batch, device))[:, None]
            return start
        if labels is not None:
            raise InputError("this generator is conditioned on tokens, and takes no labels: leave them out.")
        if prefix is None or prefix.shape[:2] != (batch, num):
            got = None if prefix is None else tuple(prefix.shape)
            raise InputError(f"this generator wants a prefix of {num} tokens for each of {batch} items, got {got}.")
        separator = self.embed.weight[-1].expand(batch, 1, -1)
        flat = prefix[..., None] if self.config.num_codebooks == 1 else prefix
        return torch.cat([self.embedded(flat.to(device)), separator], 1)

    def hidden(self, x: Tensor, cache: object = None) -> Tensor:
        """Return what the layers make of inputs (B, n, D), (B, n, D)."""
        if self.training and self.config.token_dropout:
            x = F.dropout(x, self.config.token_dropout)
        found: Tensor = self.stack(x, cache)
        return found

    def contexts(self, outputs: Tensor, columns: Tensor) -> Tensor:
        """Return what the heads see, (B, n, K, D), of outputs (B, n, D); k sees the first k of ids (B, n, K)."""
        if self.config.num_codebooks == 1:
            return outputs[:, :, None]
        before = self.inner(_numbered(columns[..., :-1], self.config.codebook_size)).cumsum(2)
        x = outputs[:, :, None] + F.pad(before, (0, 0, 1, 0))
        contexts: Tensor = x + self.inner_mlp(self.inner_norm(x))
        return contexts

    def _labels(self, labels: Tensor | None, batch: int, device: torch.device) -> Tensor:
        """Return rows of the table of classes, of which the last is no class."""
        none = self.config.num_classes
        if labels is None:
            return torch.full((batch,), none, device=device)
        if labels.shape != (batch,) or labels.dtype != torch.int64 or not none:
            raise InputError(
                f"labels must be {batch} int64, of a generator that has classes; got {labels.dtype} of "
                f"{tuple(labels.shape)}, and there are {none} classes."
            )
        rows = torch.where(labels < 0, none, labels).to(device)
        if self.training and self.config.class_dropout:
            chance = torch.rand(batch, dtype=torch.float32, device=device)
            rows = torch.where(chance < self.config.class_dropout, none, rows)
        return rows

    def _ids_of(self, tokens: Tokens, what: str) -> Tensor:
        """Return the ids of whole items."""
        tokens.require_unshifted("generate from")
        name = self.config.tokenizer
        if (tokens.model and name and tokens.model != name) or tokens.codebook_size != self.config.codebook_size:
            raise TokenError(
                f"the {what} was made by {tokens.model or 'another tokenizer'}, with {tokens.codebook_size} ids, and "
                f"{self.name} is over the {self.config.codebook_size} ids of {name or 'its tokenizer'}."
            )
        if bool((tokens.lengths != tokens.ids.shape[1]).any()):
            raise TokenError(f"the items of a {what} must have one length, got {tokens.lengths.tolist()}.")
        return tokens.ids


def _numbered(columns: Tensor, size: int) -> Tensor:
    """Return ids (..., K) as rows of one table for all codebooks."""
    return columns + size * torch.arange(columns.shape[-1], device=columns.device)


def _block(config: GeneratorConfig, number: int) -> Block:
    width, eps = config.width, config.norm_eps
    attention = Attention(
        width,
        config.num_heads,
        bias=False,
        out_bias=False,
        dropout=config.attention_dropout,
        num_kv_heads=config.num_kv_heads,
    )
    return Block(
        RMSNorm(width, eps=eps),
        attention,
        RMSNorm(width, eps=eps),
        GatedMLP(width, config.hidden, bias=False),
        dropout=config.dropout,
        mlp_dropout=config.mlp_dropout,
        drop_path=config.drop_path * number / max(1, config.num_layers - 1),
    )


def _positions(config: GeneratorConfig) -> Tensor:
    if config.fixed_positions:
        return sincos_1d(config.num_positions, config.width)
    positions = nn.Parameter(torch.empty(config.num_positions, config.width))
    nn.init.normal_(positions, std=config.init_std)
    return positions
