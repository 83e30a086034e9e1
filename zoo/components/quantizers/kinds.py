"""Which quantizers there are: the library's own, and those that other packages bring.

Another package names its quantizer's class in the entry-point group `zoo.quantizers`, under its kind. Every family and
recipe, and `residual`, can then use it as they use the library's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import TYPE_CHECKING, Any, Self

from zoo.config import from_dict
from zoo.errors import ConfigError, near_matches, shown

if TYPE_CHECKING:
    from zoo.components.quantizers.base import Quantizer

__all__ = ["KINDS", "QuantizerConfig", "StageConfig", "build", "kinds", "parse", "quantizer_class"]

_GROUP = "zoo.quantizers"
_HERE = "zoo.components.quantizers"
_BUILT_IN = {
    "fsq": f"{_HERE}.fsq:FSQ",
    "gaussian": f"{_HERE}.identity:Gaussian",
    "lfq": f"{_HERE}.lfq:LFQ",
    "none": f"{_HERE}.identity:Identity",
    "residual": f"{_HERE}.residual:Residual",
    "stochastic_vq": f"{_HERE}.stochastic_vq:StochasticVQ",
    "uniform": f"{_HERE}.uniform:Uniform",
    "voting_lfq": f"{_HERE}.voting_lfq:VotingLFQ",
    "vq": f"{_HERE}.vq:VQ",
}
KINDS = tuple(_BUILT_IN)
"""The kinds of the library's own."""


@dataclass(frozen=True)
class QuantizerConfig:
    """Settings of a quantizer: a frozen dataclass of plain values that checks itself, with its `kind` as a default.

    As the type of a config's field it stands for every kind that there is.
    """

    @property
    def kind(self) -> str:
        """Which quantizer it is; a field of every subclass."""
        raise NotImplementedError

    @classmethod
    def from_plain(cls, values: Any, where: str) -> Self:
        """Read the settings of any quantizer that can stand where `cls` is asked for, from plain values.

        Raises:
            ConfigError: As `parse`, or the kind cannot.
        """
        config = parse(values, where)
        if not isinstance(config, cls):
            fit = (kind for kind in _BUILT_IN if issubclass(quantizer_class(kind).config_class, cls))
            raise ConfigError(f"{where} must be of kind {', '.join(fit)}, got {config.kind!r}.")
        return config


@dataclass(frozen=True)
class StageConfig(QuantizerConfig):
    """Settings of what can be a stage of `residual`: codes like its inputs, and nothing that is learnt behind them."""


def kinds() -> tuple[str, ...]:
    """Return all kinds, other packages' included."""
    return tuple(sorted({*_BUILT_IN, *_plugins()}))


def quantizer_class(kind: str) -> type[Quantizer]:
    """Return the class of a kind, whose `config_class` is that of its settings.

    Raises:
        ConfigError: There is none, or another package's cannot be imported or is no quantizer of that kind.
    """
    target = _BUILT_IN.get(kind) or _plugins().get(kind)
    if target is None:
        raise ConfigError(f"there is no quantizer of the kind {shown(kind)}; {near_matches(kind[:80], kinds())}")
    try:
        found: Any = EntryPoint(kind, target, _GROUP).load()
    except Exception as error:  # whatever another package does when it is imported
        raise ConfigError(
            f"the quantizer {kind!r} cannot be imported from {target!r} ({type(error).__name__}: {error}): repair or "
            "uninstall the package that brings it."
        ) from error
    config = getattr(found, "config_class", None)
    stated = [field.default for field in fields(config) if field.name == "kind"] if is_dataclass(config) else []
    if not (isinstance(config, type) and issubclass(config, QuantizerConfig)) or stated != [kind]:
        raise ConfigError(
            f"the entry point {kind!r} of {_GROUP} must name a Quantizer whose config_class is a QuantizerConfig with "
            f"the kind {kind!r}; {target!r} is none."
        )
    cls: type[Quantizer] = found
    return cls


def parse(values: Mapping[str, Any], where: str = "quantizer") -> QuantizerConfig:
    """Read the settings of a quantizer from plain values, as JSON or YAML gives them.

    Args:
        values: `kind`, one of `kinds()`, and the fields of its dataclass.
        where: What the values were read from, for error messages.

    Raises:
        ConfigError: The kind is missing or unknown, a key is unknown or missing, or a value is unusable.
    """
    kind = values.get("kind") if isinstance(values, Mapping) else None
    if not isinstance(kind, str):
        raise ConfigError(f"{where} must be a mapping with a kind, one of {', '.join(kinds())}; got {shown(values)}.")
    if kind not in kinds():
        raise ConfigError(f"{where} has the unknown kind {shown(kind)}; {near_matches(kind[:80], kinds())}")
    config: QuantizerConfig = from_dict(quantizer_class(kind).config_class, values, where)
    return config


def build(config: QuantizerConfig | Mapping[str, Any]) -> Quantizer:
    """Return the quantizer of a config, or of the plain values of one.

    Raises:
        ConfigError: As `parse`.
    """
    ready = parse(config) if isinstance(config, Mapping) else config
    return quantizer_class(ready.kind)(ready)  # type: ignore[call-arg, arg-type]


@cache
def _plugins() -> dict[str, str]:
    """Return kind → target of other packages' entry points; the library's own kinds stay its own."""
    return {point.name: point.value for point in entry_points(group=_GROUP) if point.name not in _BUILT_IN}
