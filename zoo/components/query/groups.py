"""A transformer over named groups of tokens, with a rule which group sees which.

Tokens of patches, queries and text are one sequence to attention. Here they are told apart by name: the order in which
groups stand, and what each sees, are settings, and callers pass and receive tokens by name in any order.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn

from zoo.components.layers.block import Block, BlockConfig
from zoo.config import check_fields
from zoo.errors import ConfigError, InputError, near_matches

__all__ = ["GroupTransformer", "GroupTransformerConfig", "TokenGroup", "group_mask", "require_group"]

_STD = 0.02


@dataclass(frozen=True)
class TokenGroup:
    """A group of tokens.

    Attributes:
        name: Its name.
        sees: Names of the other groups whose tokens its own tokens attend to; all groups if None. They see each other
            in any case.
        is_causal: A token sees no later token of its own group.
        has_type: A learned vector, the same for all of its tokens, is added to each, from N(0, 0.02²).
    """

    name: str
    sees: tuple[str, ...] | None = None
    is_causal: bool = False
    has_type: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "token group")


@dataclass(frozen=True)
class GroupTransformerConfig:
    """A transformer over groups of tokens.

    Attributes:
        groups: In the order in which their tokens stand.
        block: Of each layer.
        num_layers: Layers.
        is_modulated_apart: Each group has shifts, scales and gates of its own, if the block is modulated; their rows of
            the linear map are in the order of the groups.

    Raises:
        ConfigError: A name is there twice, or is that of no group, or there is nothing.
    """

    groups: tuple[TokenGroup, ...]
    block: BlockConfig
    num_layers: int
    is_modulated_apart: bool = False

    def __post_init__(self) -> None:
        check_fields(self, "group transformer")
        if self.num_layers < 1:
            raise ConfigError(f"group transformer: num_layers must be at least 1, got {self.num_layers}.")
        names = [group.name for group in self.groups]
        if not names or len(set(names)) < len(names):
            raise ConfigError(f"group transformer: groups need names, each another, got {names}.")
        for group in self.groups:
            for name in group.sees or ():
                require_group(name, names)


def require_group(name: str, names: Sequence[str]) -> None:
    """Refuse a name that no group has.

    Raises:
        ConfigError: There is no such group.
    """
    if name not in names:
        raise ConfigError(f"group transformer: no group is named {name!r}; {near_matches(name, names)}")


def group_mask(groups: Sequence[TokenGroup], sizes: Sequence[int], device: torch.device | None = None) -> Tensor | None:
    """Return which token sees which, bool (T, T), row by row; None if all see all.

    Args:
        groups: In the order in which their tokens stand.
        sizes: How many tokens each has, T together.
        device: Of the mask.
    """
    names = [group.name for group in groups]
    seen = {group.name: {group.name, *(names if group.sees is None else group.sees)} for group in groups}
    if all(len(seen[group.name]) == len(names) and not group.is_causal for group in groups):
        return None
    rows = []
    for group, size in zip(groups, sizes, strict=True):
        row = []
        for name, width in zip(names, sizes, strict=True):
            part = torch.full((size, width), name in seen[group.name], dtype=torch.bool, device=device)
            row.append(part.tril() if name == group.name and group.is_causal else part)
        rows.append(torch.cat(row, 1))
    return torch.cat(rows)


class GroupTransformer(nn.Module):
    """Pre-norm blocks over all groups' tokens together, without positions and without a final norm.

    Args:
        config: Sizes, groups and what they see.

    Attributes:
        types: (D,) of each group that has one, by name.
    """

    def __init__(self, config: GroupTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.block.width
        self.types = nn.ParameterDict(
            {group.name: nn.Parameter(torch.randn(width) * _STD) for group in config.groups if group.has_type}
        )
        num_apart = len(config.groups) if config.is_modulated_apart else 1
        self.layers = nn.ModuleList(config.block.block(num_apart) for _ in range(config.num_layers))

    def forward(
        self,
        tokens: Mapping[str, Tensor],
        valid: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
        copies: Mapping[str, Tensor] | None = None,
    ) -> dict[str, Tensor]:
        """Return what the last layer makes of each token, by group.

        Args:
            tokens: (B, N, D) of each group.
            valid: Bool (B, N) of the groups that have padding, True at tokens. No other token sees padding, which may
                hold any finite values; what is returned in its place has no meaning.
            condition: (B, C), for blocks that are modulated.
            copies: (B, N) of some groups, for how many equal tokens each of their tokens stands, 0 for padding. Equal
                tokens stay equal through all layers, so that one is enough, if it is attended to as so many. Not for
                groups that are causal.

        Returns:
            (B, N, D) of each group.

        Raises:
            InputError: Groups are missing or unknown, or shapes do not fit.
        """
        last: dict[str, Tensor] = {}
        for made in self.stages(tokens, valid, condition, copies):
            last = made
        return last

    def stages(
        self,
        tokens: Mapping[str, Tensor],
        valid: Mapping[str, Tensor] | None = None,
        condition: Tensor | None = None,
        copies: Mapping[str, Tensor] | None = None,
    ) -> Iterator[dict[str, Tensor]]:
        """Yield what each layer makes of the tokens, the last one's being what `forward` returns; arguments as there.

        A caller that wants an early layer, such as for its alignment with another network's features, takes it on the
        way.
        """
        self._require_fits(tokens, valid or {})
        groups = self.config.groups
        parts = [tokens[group.name] for group in groups]
        parts = [part + self.types[g.name] if g.has_type else part for g, part in zip(groups, parts, strict=True)]
        sizes = [part.shape[1] for part in parts]
        x = torch.cat(parts, 1)
        mask = group_mask(groups, sizes, x.device)
        if valid:
            batch = len(x)
            seen = torch.cat(
                [valid.get(g.name, x.new_ones(batch, n).bool()) for g, n in zip(groups, sizes, strict=True)], 1
            )
            is_whole = any(size and g.name not in valid for g, size in zip(groups, sizes, strict=True))
            if mask is None and is_whole:  # all see all of a group: no row is empty, and one serves all
                mask = seen[:, None, None]
            else:
                mask = seen[:, None] if mask is None else mask & seen[:, None]
                # A row that sees nothing is not a number; padding sees at least itself.
                mask = (mask | torch.eye(x.shape[1], dtype=torch.bool, device=x.device))[:, None]
        if copies:
            counts = torch.cat(
                [copies.get(g.name, x.new_ones(len(x), n)) for g, n in zip(groups, sizes, strict=True)], 1
            )
            # exp(score + log n) is n times exp(score).
            bias = counts.log().to(x.dtype)[:, None, None]
            mask = bias if mask is None else bias.masked_fill(~mask, -torch.inf)
        group = None
        if self.config.is_modulated_apart:
            group = torch.repeat_interleave(torch.tensor(sizes, device=x.device))
        for layer in self.layers:
            x = cast(Block, layer)(x, mask, condition=condition, group=group)
            yield {group.name: part for group, part in zip(groups, torch.split(x, sizes, 1), strict=True)}

    def _require_fits(self, tokens: Mapping[str, Tensor], valid: Mapping[str, Tensor]) -> None:
        names = [group.name for group in self.config.groups]
        if set(tokens) != set(names):
            raise InputError(f"tokens are needed of the groups {', '.join(names)}, got {', '.join(tokens) or 'none'}.")
        width, batch = self.config.block.width, len(tokens[names[0]])
        for name, part in tokens.items():
            if part.ndim != 3 or len(part) != batch or part.shape[2] != width:
                raise InputError(
                    f"tokens of {name!r} must be (B, N, {width}), with as many items as the others, {batch}; got "
                    f"{tuple(part.shape)}."
                )
        for name, seen in valid.items():
            if name not in tokens:
                raise InputError(f"valid names {name!r}, which is no group; {near_matches(name, names)}")
            if seen.dtype != torch.bool or seen.shape != tokens[name].shape[:2]:
                raise InputError(
                    f"valid of {name!r} must be bool {tuple(tokens[name].shape[:2])}, got {seen.dtype} of "
                    f"{tuple(seen.shape)}."
                )
