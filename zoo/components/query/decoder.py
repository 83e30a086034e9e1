"""The query decoder: queries for the parts of a signal, which latents, and perhaps a caption, fill in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast

from torch import Tensor, nn

from zoo.components.layers.positions import sincos_1d
from zoo.components.layers.start import start_table
from zoo.components.query.encoder import final_norm
from zoo.components.query.groups import GroupTransformer, GroupTransformerConfig, require_group
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError

__all__ = ["QueryDecoder", "QueryDecoderConfig"]


@dataclass(frozen=True)
class QueryDecoderConfig:
    """A query decoder.

    Attributes:
        transformer: Its layers, and the groups of tokens with the latents and the queries among them.
        input_size: Width of the latents.
        output_size: Width of what each query becomes.
        num_latents: N, the most latents there are.
        num_queries: M, how many queries the decoder has learned; None if they are passed to it.
        has_query_positions: A learned table is added to these, from N(0, 0.02²).
        positions: Of the latents: a "learned" table, a fixed one of sines and cosines ("sincos"), or None.
        max_period: Of the fixed table: see `sincos_1d`.
        latents: Name of the latents' group.
        queries: Name of the queries' group.
        has_norm: A norm like the blocks' stands behind the last layer.
        norm_eps: What that one adds to a variance; the same as the blocks' if None.

    Raises:
        ConfigError: A value is unusable, or a name is that of no group.
    """

    transformer: GroupTransformerConfig
    input_size: int
    output_size: int
    num_latents: int
    num_queries: int | None = None
    has_query_positions: bool = False
    positions: Literal["learned", "sincos"] | None = "learned"
    max_period: float = 10_000.0
    latents: str = "latents"
    queries: str = "queries"
    has_norm: bool = True
    norm_eps: float | None = None

    def __post_init__(self) -> None:
        check_fields(self, "query decoder")
        for name in ("input_size", "output_size", "num_latents", "num_queries"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"query decoder: {name} must be at least 1, got {value}.")
        if self.has_query_positions and self.num_queries is None:
            raise ConfigError("query decoder: queries that are passed bring their positions: set num_queries.")
        if self.latents == self.queries:
            raise ConfigError(f"query decoder: latents and queries are two groups, got {self.latents!r} for both.")
        for name in (self.latents, self.queries):
            require_group(name, [group.name for group in self.transformer.groups])


class QueryDecoder(nn.Module):
    """Latents → M outputs.

    Args:
        config: Sizes and groups.

    Attributes:
        embed: Latents → tokens.
        positions: (N, D), added to these; None if there are none. Learned ones start from N(0, 0.02²), fixed ones are
            stored with the weights.
        queries: (M, D), from N(0, 0.02²); None if they are passed.
        query_positions: (M, D), added to these; None if there are none.
        transformer: The layers.
        norm: Of their output; the identity if there is none.
        project: Queries' outputs → outputs.
    """

    positions: Tensor | None
    queries: nn.Parameter | None
    query_positions: nn.Parameter | None

    def __init__(self, config: QueryDecoderConfig) -> None:
        super().__init__()
        self.config = config
        width = config.transformer.block.width
        self.embed = nn.Linear(config.input_size, width)
        if config.positions == "sincos":
            self.register_buffer("positions", sincos_1d(config.num_latents, width, max_period=config.max_period))
        elif config.positions == "learned":
            self.positions = start_table((config.num_latents, width))
        else:
            self.positions = None
        num = config.num_queries
        self.queries = None if num is None else start_table((num, width))
        self.query_positions = start_table((num, width)) if num is not None and config.has_query_positions else None
        self.transformer = GroupTransformer(config.transformer)
        self.norm = final_norm(config.transformer, config.has_norm, config.norm_eps)
        self.project = nn.Linear(width, config.output_size)

    def forward(
        self,
        latents: Tensor,
        tokens: Mapping[str, Tensor] | None = None,
        *,
        queries: Tensor | None = None,
        valid: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
    ) -> Tensor:
        """Decode.

        Args:
            latents: (B, T, input_size), T at most N: the first T of them.
            tokens: (B, L, D) of each further group, such as a caption, embedded.
            queries: (M, D) or (B, M, D), with their positions, for a decoder that has learned none.
            valid: As of `GroupTransformer.forward`.
            condition: The same.

        Returns:
            (B, M, output_size).

        Raises:
            InputError: Groups are missing or unknown, there are too many latents, queries are missing or one too many,
                or shapes do not fit.
        """
        config = self.config
        if latents.ndim != 3 or latents.shape[2] != config.input_size or latents.shape[1] > config.num_latents:
            raise InputError(
                f"latents must be (B, T, {config.input_size}) with T up to {config.num_latents}, got "
                f"{tuple(latents.shape)}."
            )
        if (queries is None) == (self.queries is None):
            raise InputError(
                "this decoder has learned no queries: pass some."
                if queries is None
                else "this decoder has learned its queries: pass none, or build it with num_queries=None."
            )
        if {config.latents, config.queries} & set(tokens or ()):
            raise InputError(
                f"{config.latents!r} and {config.queries!r} are arguments of their own: pass other groups as tokens."
            )
        x = self.embed(latents)
        if self.positions is not None:
            x = x + self.positions[: x.shape[1]]
        own = cast(Tensor, self.queries if queries is None else queries)
        own = own if self.query_positions is None else own + self.query_positions
        own = own.expand(len(x), -1, -1) if own.ndim == 2 else own
        outputs = self.transformer({config.latents: x, config.queries: own, **(tokens or {})}, valid, condition)
        decoded: Tensor = self.project(self.norm(outputs[config.queries]))
        return decoded
