"""The released config of a tokenizer of ours."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

from zoo.components.quantizers import FSQConfig
from zoo.errors import ConfigError
from zoo.families.flextok.config import FlexTokConfig, TrunkConfig
from zoo.families.flextok.official import nodes

__all__ = ["values"]


def values(config: FlexTokConfig, like: Mapping[str, Any] | None = None) -> dict[str, Any]:
    """Return the released config, its modules in the order in which they run.

    Args:
        config: Ours.
        like: A released config whose other arguments, and nodes that only train, are kept.

    Raises:
        CheckpointError: `like` is not a released config.
        ConfigError: The quantizer is another than the published kind.
    """
    if not isinstance(config.quantizer, FSQConfig):
        raise ConfigError(f"the released layout has an fsq quantizer, and this one is {config.quantizer.kind!r}.")
    old = {} if like is None else copy.deepcopy(dict(like))
    if like is not None:
        nodes.check(like, "the config to go by")
    made = {"vae": _entry(nodes.TOP, "vae", _autoencoder(config), old)}
    for half, parts, arguments in (
        ("encoder", nodes.ENCODER, _encoder(config)),
        ("decoder", nodes.DECODER, _decoder(config)),
    ):
        kept = old.get(half, {})
        modules = kept.get("module_dict", {})
        ready = {name: _entry(parts, name, arguments.get(name, {}), modules) for name in parts}
        made[half] = {**_entry(nodes.TOP, half, {}, old), "module_dict": ready}
    quantizer = config.quantizer
    fsq = {"levels": list(quantizer.levels)} | (
        {"drop_quant_p": quantizer.bypass_rate} if quantizer.bypass_rate else {}
    )
    made["regularizer"] = _entry(nodes.TOP, "regularizer", fsq, old)
    for name in nodes.OTHERS:
        partial = {"_partial_": True} if name == "pipeline" else {}
        made[name] = _entry(nodes.OTHERS, name, partial, old)
    return made


def _entry(parts: Mapping[str, nodes.Part], name: str, arguments: Mapping[str, Any], old: Mapping[str, Any]) -> Any:
    """Return an entry: its class first, what it had, and the arguments that say what our config says."""
    part = parts[name]
    fixed = {key: value for key, value in part.fixed.items() if value is not None}
    return {"_target_": part.targets[0], **fixed, **old.get(name, {}), **arguments}


def _autoencoder(config: FlexTokConfig) -> dict[str, Any]:
    groups = config.autoencoder.norm_groups
    return {
        "latent_channels": config.latent_channels,
        "scaling_factor": config.scaling_factor,
        "sample_posterior": False,  # as tokens are made here
        "hf_hub_path": None,
        **({} if groups == 32 else {"norm_num_groups": groups}),
    }


def _trunk(trunk: TrunkConfig) -> dict[str, Any]:
    return {"dim": trunk.width, "depth": trunk.depth, "head_dim": trunk.head_dim, "mlp_ratio": trunk.mlp_ratio}


def _patches(config: FlexTokConfig) -> dict[str, Any]:
    return {"patch_sizes": [config.patch_size, config.patch_size]}


def _positions(config: FlexTokConfig) -> dict[str, Any]:
    return {"posemb_type": "sincos", "max_sizes": list(config.grid)}


def _encoder(config: FlexTokConfig) -> dict[str, dict[str, Any]]:
    return {
        "enc_channels_to_last": _per_sample(nodes.FIRST_TO_LAST),
        "enc_patch_emb": _patches(config),
        "enc_posemb_module": _positions(config),
        "enc_register_module": {"n_min": config.num_tokens, "n_max": config.num_tokens},
        "enc_transformer": _trunk(config.encoder),
    }


def _decoder(config: FlexTokConfig) -> dict[str, dict[str, Any]]:
    return {
        "dec_registers_posemb_module": {"max_sizes": [config.num_tokens]},
        "dec_nested_dropout": {"size_sampling_mode": config.nested_dropout},
        "dec_latent_dropout": {"_target_": nodes.DECODER["dec_latent_dropout"].targets[0]},
        "dec_noise_channels_to_last": _per_sample(nodes.FIRST_TO_LAST),
        "dec_noise_patch_emb": _patches(config),
        "dec_patches_posemb_module": _positions(config),
        "dec_time_embedder": {"max_timestep": config.max_timestep, "frequency_embedding_size": 256},
        "dec_transformer": _trunk(config.decoder),
        "dec_channels_to_first": _per_sample(nodes.LAST_TO_FIRST),
    }


def _per_sample(function: str) -> dict[str, Any]:
    return {"per_sample_op": {"_target_": function, "_partial_": True}}
