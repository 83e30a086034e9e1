"""The released config, in the authors' words and in ours: flat arguments of their constructor."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from zoo.checkpoint import weights as _weights
from zoo.components.prior import CausalConfig, CodePriorConfig
from zoo.components.quantizers import QuantizerConfig, StochasticVQConfig, VQConfig
from zoo.errors import CheckpointError, ConfigError, shown
from zoo.families.larp.config import LARPConfig, TrunkConfig
from zoo.families.larp.official.names import PRIOR
from zoo.families.larp.prior import PRESETS

__all__ = ["Released", "read", "values"]

_NOTHING = ("none", "no", "null", "")
"""What stands for something absent, beside null."""

_LEARNED_START = 0.1  # of a temperature that is learned: the authors' inverse one starts from 10
# Their options, ours, and what holds where a config does not say.
_OPTIONS = {
    "learned_encoder_patch_pe": ("learns_patch_positions", False),
    "learned_encoder_latent_query_embed": ("learns_queries", True),
    "learned_decoder_latent_pe": ("learns_latent_positions", False),
    "learned_decoder_patch_query_embed": ("learns_patch_queries", False),
    "use_encoder_patch_token_type_embed": ("has_patch_type", False),
    "use_encoder_latent_query_token_type_embed": ("has_query_type", False),
    "use_decoder_latent_token_type_embed": ("has_latent_type", False),
    "use_decoder_patch_query_token_type_embed": ("has_patch_query_type", False),
}
_GAUSSIAN = "encoder_query_gaussian_init"


@dataclass(frozen=True)
class Released:
    """What a released model is.

    Attributes:
        config: In our words.
        prior: Of the prior whose weights are there; None if there are none.
    """

    config: LARPConfig
    prior: CodePriorConfig | None


def read(settings: Mapping[str, Any], kinds: _weights.Kinds, where: str) -> Released:
    """Return what a released model is.

    Args:
        settings: Its config.
        kinds: Shapes by released name, which the config must agree with before anything of its sizes is made.
        where: What was read, for messages.

    Raises:
        CheckpointError: A setting is missing, of another type, contradicts the tensors, or is nothing that is known.
    """
    top = _Values(settings, where)
    bottleneck = top.named("bottleneck", "bottleneck")
    regularizer = bottleneck.named("regularizer", "vq")
    if not bottleneck.is_absent("norm"):
        raise CheckpointError(f"{bottleneck.where}: norm must be none, got {shown(bottleneck.found['norm'])}.")
    size, channels = top.side("input_size"), top.get("in_channels", int, 3)
    patch = {name: top.get(name, int) for name in ("temporal_patch_size", "patch_size")}
    for name, value in patch.items():
        if top.get(f"decoder_{name}", int, value) != value:
            raise CheckpointError(f"{where}: decoder_{name} must be {name}, as the authors' code takes it.")
    if channels != 3:
        raise CheckpointError(f"{where}: in_channels must be 3, got {channels}.")
    options = {ours: top.get(theirs, bool, default) for theirs, (ours, default) in _OPTIONS.items()}
    try:
        config = LARPConfig(
            num_frames=top.get("frame_num", int),
            image_size=size,
            num_tokens=top.get("bottleneck_token_num", int),
            encoder=_trunk(top, "encoder"),
            decoder=_trunk(top, "decoder"),
            quantizer=_quantizer(regularizer, bottleneck.get("bottleneck_dim", int)),
            query_start="normal" if top.get(_GAUSSIAN, bool, True) else "sincos",
            query_std=top.get("query_init_std", float, 0.02),
            latent_period=top.get("latent_pe_scale_factor", float, 10_000.0),
            **patch,
            **options,
        )
        _require_shapes(config, kinds, where)
        prior = _prior(top, config) if any(name.startswith(PRIOR) for name in kinds) else None
    except ConfigError as error:
        raise CheckpointError(f"{where} has unusable values. {error}") from error
    return Released(config, prior)


def values(
    config: LARPConfig, like: Mapping[str, Any] | None = None, prior: CodePriorConfig | None = None
) -> dict[str, Any]:
    """Return the released config of a tokenizer of ours, its keys sorted.

    Args:
        config: Ours.
        like: A released config whose other arguments are kept.
        prior: Of the prior that is written as well, if one is.

    Raises:
        ConfigError: The quantizer is another than the published kinds, the latents have a norm, or no preset is of the
            prior's size.
    """
    if config.latent_norm != "none":
        raise ConfigError(f"the released layout is of models without a norm of latents, got {config.latent_norm!r}.")
    made: dict[str, Any] = copy.deepcopy(dict(like or {}))
    for half, trunk in (("encoder", config.encoder), ("decoder", config.decoder)):
        made |= {
            f"{half}_depth": trunk.depth,
            f"{half}_hidden_size": trunk.width,
            f"{half}_num_heads": trunk.num_heads,
        }
    for name in ("temporal_patch_size", "patch_size"):
        made |= {name: getattr(config, name), f"decoder_{name}": getattr(config, name)}
    made |= {theirs: getattr(config, ours) for theirs, (ours, _) in _OPTIONS.items()}
    made |= {
        "bottleneck_token_num": config.num_tokens,
        "frame_num": config.num_frames,
        "in_channels": 3,
        "input_size": config.image_size,
        "latent_pe_scale_factor": config.latent_period,
        "query_init_std": config.query_std,
        _GAUSSIAN: config.query_start == "normal",
    }
    bottleneck = _mapping(made.get("bottleneck"))
    arguments = _mapping(bottleneck.get("args"))
    regularizer = _mapping(arguments.get("regularizer"))
    dim, of_codes = _codes(config.quantizer)
    regularizer = {"name": "vq", "args": {**_mapping(regularizer.get("args")), **of_codes}}
    arguments = {"norm": "none", **arguments, "bottleneck_dim": dim, "regularizer": regularizer}
    made["bottleneck"] = {"name": "bottleneck", "args": arguments}
    made["prior_model"] = _prior_values(_mapping(made.get("prior_model")), prior, made.get("prior_model"))
    return dict(sorted(made.items()))


class _Values:
    """Values of a mapping of the config.

    Args:
        found: The mapping.
        where: File and path, for messages.
    """

    def __init__(self, found: Mapping[str, Any], where: str) -> None:
        self.found = found
        self.where = where

    def is_absent(self, name: str) -> bool:
        """Whether nothing is meant."""
        value = self.found.get(name)
        return value is None or (isinstance(value, str) and value.lower() in _NOTHING)

    def get(self, name: str, kind: type, default: Any = None) -> Any:
        """Return a value of a type, an integer counting as a float; the default if it is absent.

        Raises:
            CheckpointError: It is of another type, or absent and there is no default.
        """
        value: Any = self.found.get(name)
        if self.is_absent(name):
            if default is None:
                raise CheckpointError(f"{self.where} lacks {name}: download it again.")
            return default
        if kind is float and type(value) is int and abs(value) < 2**53:
            value = float(value)
        if type(value) is not kind or (isinstance(value, float) and not math.isfinite(value)):
            raise CheckpointError(f"{self.where}: {name} must be {kind.__name__}, got {shown(value)}.")
        return value

    def side(self, name: str) -> int:
        """Return a size in pixels: a number, or two equal ones."""
        value = self.found.get(name)
        if isinstance(value, list) and len(value) == 2 and value[0] == value[1]:
            value = value[0]
        return int(_Values({name: value}, self.where).get(name, int))

    def named(self, name: str, expected: str) -> _Values:
        """Return the arguments of an entry `{name, args}` of the one name that is known.

        Raises:
            CheckpointError: It is something else.
        """
        entry = self.found.get(name)
        if not isinstance(entry, dict) or entry.get("name") != expected or not isinstance(entry.get("args"), dict):
            raise CheckpointError(
                f"{self.where}: {name} must be a mapping with the name {expected!r} and its args, got {shown(entry)}."
            )
        return _Values(entry["args"], f"{self.where}: {name}")


def _trunk(top: _Values, half: str) -> TrunkConfig:
    depth, width, heads = (top.get(f"{half}_{name}", int) for name in ("depth", "hidden_size", "num_heads"))
    return TrunkConfig(depth, width, heads)


def _quantizer(regularizer: _Values, dim: int) -> QuantizerConfig:
    size = regularizer.get("codebook_size", int)
    commitment = regularizer.get("commitment_loss_weight", float, 0.25)
    codebook = regularizer.get("codebook_loss_weight", float, 1.0)
    is_normalized = regularizer.get("l2_normalized", bool)
    if not regularizer.get("stochastic", bool):
        return VQConfig(size, dim, cosine=is_normalized, commitment_weight=commitment, codebook_weight=codebook)
    if not is_normalized:
        raise CheckpointError(f"{regularizer.where}: l2_normalized must be true where stochastic is.")
    temperature = regularizer.get("stochastic_temperature", float)
    is_learned = temperature <= 0
    return StochasticVQConfig(
        size, dim, _LEARNED_START if is_learned else temperature, commitment, codebook, learns_temperature=is_learned
    )


def _codes(config: QuantizerConfig) -> tuple[int, dict[str, Any]]:
    """Return the width of the codes, and the arguments of the authors' quantizer."""
    is_plain = isinstance(config, VQConfig) and config.ema_decay is None
    if isinstance(config, VQConfig) and is_plain and not config.revive_below and not config.kmeans_iterations:
        own: dict[str, Any] = {"l2_normalized": config.cosine, "stochastic": False}
    elif isinstance(config, StochasticVQConfig):
        temperature = 0.0 if config.learns_temperature else config.temperature
        own = {"l2_normalized": True, "stochastic": True, "stochastic_temperature": temperature}
    else:
        raise ConfigError(
            "the released layout has a stochastic_vq, or a vq whose codebook is learned by gradient alone, and this "
            f"one is {config.kind!r}."
        )
    weights = {
        "commitment_loss_weight": config.commitment_weight,
        "codebook_loss_weight": config.codebook_weight,
        "entropy_loss_weight": 0.0,
    }
    return config.dim, {"codebook_size": config.codebook_size, **weights, **own}


def _prior(top: _Values, config: LARPConfig) -> CodePriorConfig:
    """Return the settings of a prior whose weights are there."""
    entry = top.found.get("prior_model")
    if not isinstance(entry, dict) or _Values(entry, "").is_absent("name"):
        raise CheckpointError(f"{top.where} names no prior_model, and the weights have one.")
    values = _Values(entry, f"{top.where}: prior_model")
    name = values.get("name", str)
    if name not in PRESETS:
        raise CheckpointError(f"{values.where}: name must be one of {', '.join(PRESETS)}, got {shown(name)}.")
    sizes: CausalConfig = PRESETS[name]
    arguments = _Values(_mapping(entry.get("args")), f"{values.where}: args")
    if not arguments.get("l2_normalized", bool, True):
        raise CheckpointError(f"{arguments.where}: l2_normalized must be true.")
    sizes = replace(
        sizes,
        max_length=arguments.get("max_seq_len", int, values.get("max_seq_len", int, sizes.max_length)),
        dropout=0.0 if values.get("no_dropout", bool, False) else sizes.dropout,
    )
    counts_all = values.get("avg_loss_over_rounds", bool, True) and not values.get(
        "no_grad_before_last_round", bool, False
    )
    quantizer: Any = config.quantizer
    return CodePriorConfig(
        quantizer.dim,
        values.get("latent_ce_temperature", float, 1.0),
        values.get("n_rounds", int, 2),
        counts_all,
        sizes,
    )


def _prior_values(entry: dict[str, Any], prior: CodePriorConfig | None, there: Any) -> Any:
    """Return the entry of a prior, or what was there if none is written."""
    if prior is None:
        return there
    sizes = prior.transformer
    names = [
        name
        for name, preset in PRESETS.items()
        if replace(preset, max_length=sizes.max_length) == replace(sizes, dropout=0.1)
    ]
    if not names or sizes.dropout not in (0.0, 0.1):
        raise ConfigError(
            f"the released layout has priors of the sizes {', '.join(PRESETS)}, with a dropout of 0.1 or none."
        )
    arguments = {"l2_normalized": True, **_mapping(entry.get("args"))}
    if sizes.max_length != PRESETS[names[0]].max_length:
        arguments["max_seq_len"] = sizes.max_length
    return {
        "use_mix_ss": True,
        "mix_ss_max_ratio": 0.5,
        "mix_ss_peak_steps_ratio": 0.3,
        "no_grad_before_last_round": False,
        **entry,
        "name": names[0],
        "n_rounds": prior.num_rounds,
        "avg_loss_over_rounds": prior.counts_all_rounds,
        "no_dropout": not sizes.dropout,
        "latent_ce_temperature": prior.temperature,
        "args": arguments,
    }


def _require_shapes(config: LARPConfig, kinds: _weights.Kinds, where: str) -> None:
    """Refuse a config whose sizes are not those of the tensors, before anything as large is made."""
    times, rows, columns = config.grid
    wanted: dict[str, tuple[int, ...]] = {}
    for table, width, is_learned, axes in (
        ("encoder_patch_pe", config.encoder.width, config.learns_patch_positions, "encoder_t encoder_h encode_w"),
        (
            "decoder_patch_query_embed",
            config.decoder.width,
            config.learns_patch_queries,
            "decoder_t decoder_h decoder_w",
        ),
    ):
        if is_learned:
            shapes = ((1, times, 1, 1, width), (1, 1, rows, 1, width), (1, 1, 1, columns, width))
            wanted |= {f"{axis}_embed": shape for axis, shape in zip(axes.split(), shapes, strict=True)}
        else:
            wanted[table] = (1, times * rows * columns, width)
    wanted["encoder_latent_query_embed"] = (config.num_tokens, config.encoder.width)
    wanted["decoder_latent_pe"] = (1, config.num_tokens, config.decoder.width)
    quantizer: Any = config.quantizer
    wanted["bottleneck.regularizer.embedding.weight"] = (quantizer.codebook_size, quantizer.dim)
    for name, shape in wanted.items():
        found = kinds.get(name)
        if found is None or found[0] != shape:
            there = "is missing" if found is None else f"has the shape {shown(found[0])}"
            raise CheckpointError(f"the tensors of {where} do not fit its config: {name} {there} instead of {shape}.")
    for half, trunk in (("encoder", config.encoder), ("decoder", config.decoder)):
        start = f"{half}.blocks."
        depth = len({name.removeprefix(start).partition(".")[0] for name in kinds if name.startswith(start)})
        if depth != trunk.depth:
            raise CheckpointError(f"{where}: {half}_depth is {trunk.depth}, and the weights have {depth} layers.")


def _mapping(value: Any) -> dict[str, Any]:
    return dict(value) if isinstance(value, Mapping) else {}
