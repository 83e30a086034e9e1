"""Generators as LARP's authors release theirs (arXiv 2410.21264): read, and written.

A folder of `hywang66/LARP-L-long-AR` or `-AR-FP` has `config.json`, the flat settings of their model, and
`model.safetensors`. `rope_base`, `max_batch_size` and keys that are not known here say nothing about the model, and are
left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from zoo.checkpoint import CONFIG, WEIGHTS, building, foreign
from zoo.config import from_dict
from zoo.errors import CheckpointError, ConfigError, ZooError, shown
from zoo.generator.config import GeneratorConfig
from zoo.generator.model import TokenGenerator
from zoo.process.fresh import fresh

__all__ = ["EXTRA_FILES", "load", "recognises", "settings", "write"]

EXTRA_FILES: tuple[str, ...] = ()

_TELLING = ("n_layer", "n_head", "cls_token_num", "frame_prediction", "vocab_size")

# Ours of theirs, where it is the value itself.
_SAME = {
    "codebook_size": "vocab_size",
    "max_tokens": "max_seq_len",
    "class_dropout": "class_dropout_prob",
    "width": "dim",
    "num_layers": "n_layer",
    "num_heads": "n_head",
    "num_kv_heads": "n_kv_head",
    "norm_eps": "norm_eps",
    "token_dropout": "token_dropout_p",
    "dropout": "resid_dropout_p",
    "mlp_dropout": "ffn_dropout_p",
    "attention_dropout": "attn_dropout_p",
    "drop_path": "drop_path_rate",
    "fixed_positions": "use_fixed_pe",
    "init_std": "initializer_range",
}

_LAYER = {
    "attention.out.weight": "attention.wo.weight",
    "mlp.gate.weight": "feed_forward.w1.weight",
    "mlp.up.weight": "feed_forward.w3.weight",
    "mlp.down.weight": "feed_forward.w2.weight",
    "attention_norm.weight": "attention_norm.weight",
    "mlp_norm.weight": "ffn_norm.weight",
}
_CONDITION_FRAMES = 5  # of Kinetics-600, which their settings do not say
_FUSED = ("q", "k", "v")  # in the order of the rows of `wqkv`


def recognises(folder: Path) -> bool:
    """Whether a folder holds such a generator."""
    try:
        found = foreign.read_json(folder / CONFIG)
    except CheckpointError:
        return False
    return all(key in found for key in _TELLING) and "format" not in found


def load(folder: Path) -> TokenGenerator:
    """Load a generator as its authors released it, in evaluation mode.

    Raises:
        CheckpointError: A file is missing or damaged, or a tensor is missing, unexpected or of another shape.
        ConfigError: A setting is missing, unknown here, or unusable.
    """
    where = str(folder / CONFIG)
    values = foreign.read_json(folder / CONFIG)
    try:
        config = settings(values, where)
        with fresh("meta"):
            skeleton = building.built(lambda: TokenGenerator(config), "generator", where)
        expected = _theirs(skeleton.state_dict(), config)
        found = foreign.read_fitting(foreign.weight_files(folder), expected, str(folder))
    except OSError as error:
        if isinstance(error, ZooError):
            raise
        raise CheckpointError(f"{folder} cannot be read: {error}.") from error
    with fresh("meta"):
        generator = TokenGenerator(config)
    generator.load_state_dict(_ours(found, config), assign=True)
    return generator.float().eval()


def settings(values: Mapping[str, Any], where: str = CONFIG) -> GeneratorConfig:
    """Return what their settings mean.

    Raises:
        ConfigError: One is missing, unknown here, or unusable.
    """
    for key in (*_SAME.values(), *_TELLING, "model_type", "num_classes", "multiple_of", "ffn_dim_multiplier"):
        if key not in values:
            raise ConfigError(f"{where} lacks the key {key!r}: download it again.")
    if values["model_type"] != "class_cond":
        raise ConfigError(f"{where}: model_type is {shown(values['model_type'])}; only 'class_cond' is known here.")
    for key in ("num_classes", "multiple_of", "cls_token_num", "dim"):
        if type(values[key]) is not int or not 1 <= values[key] <= 2**20:
            raise ConfigError(f"{where}: {key} must be a whole number of 1 to 2^20, got {shown(values[key])}.")
    if type(values["frame_prediction"]) is not bool:
        raise ConfigError(f"{where}: frame_prediction must be true or false, got {shown(values['frame_prediction'])}.")
    prefix = values["cls_token_num"] - 1
    if (prefix > 0) != values["frame_prediction"]:
        raise ConfigError(
            f"{where}: cls_token_num is {prefix + 1} with frame_prediction {values['frame_prediction']}: it is 1 for "
            "classes, and one more than the tokens of the frames that are continued."
        )
    plain = {ours: values[theirs] for ours, theirs in _SAME.items()}
    plain |= {"mlp_size": _mlp_size(values, where), "prefix_tokens": prefix, "modality": "video"}
    plain["condition_frames"] = _CONDITION_FRAMES if prefix else 0
    plain["num_classes"] = 0 if prefix else values["num_classes"]
    return from_dict(GeneratorConfig, plain, where)


def write(generator: TokenGenerator, folder: Path) -> None:
    """Write a generator of one codebook and one length as its authors release theirs.

    Raises:
        ConfigError: Their layout has no place for something that it has.
    """
    config = generator.config
    if config.num_codebooks > 1 or config.has_end or not (config.num_classes or config.prefix_tokens):
        raise ConfigError(
            "the released layout is of one codebook, of one length, and of classes or a prefix: save it with zoo.save."
        )
    values = {theirs: getattr(config, ours) for ours, theirs in _SAME.items()}
    usual = 8 * config.width // 3
    values |= {"model_type": "class_cond", "multiple_of": 256, "ffn_dim_multiplier": None}
    if config.hidden != -(-usual // 256) * 256:
        values |= {"multiple_of": config.hidden, "ffn_dim_multiplier": min(1.0, config.hidden / usual)}
    values |= {"cls_token_num": config.num_start, "frame_prediction": config.prefix_tokens > 0}
    values |= {"num_classes": config.num_classes or 1, "max_batch_size": 32, "rope_base": 10000}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / CONFIG).write_text(json.dumps(dict(sorted(values.items())), indent=2) + "\n", encoding="utf-8")
    tensors = _theirs(generator.state_dict(), config)
    save_file({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, folder / WEIGHTS)


def _mlp_size(values: Mapping[str, Any], where: str) -> int:
    hidden, multiplier = 8 * values["dim"] // 3, values["ffn_dim_multiplier"]
    if multiplier is not None:
        if type(multiplier) not in (int, float) or not 0 < multiplier <= 64:
            raise ConfigError(
                f"{where}: ffn_dim_multiplier must be null or a number up to 64, got {shown(multiplier)}."
            )
        hidden = int(multiplier * hidden)
    multiple: int = values["multiple_of"]
    return -(-int(hidden) // multiple) * multiple


def _names(config: GeneratorConfig) -> dict[str, str]:
    """Return their name of each of our tensors, where it is the tensor itself."""
    names = {"embed.weight": "tok_embeddings.weight", "stack.norm.weight": "norm.weight"}
    names["heads.0.weight"] = "output.weight"
    if not config.prefix_tokens:
        names["classes.weight"] = "cls_embedding.embedding_table.weight"
    for number in range(config.num_layers):
        names |= {f"stack.layers.{number}.{ours}": f"layers.{number}.{theirs}" for ours, theirs in _LAYER.items()}
    return names


def _theirs(state: Mapping[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    """Return our tensors as they have them."""
    found = {theirs: state[ours] for ours, theirs in _names(config).items()}
    found["abs_pe"] = state["stack.positions"][None]
    for number in range(config.num_layers):
        parts = [state[f"stack.layers.{number}.attention.{part}.weight"] for part in _FUSED]
        found[f"layers.{number}.attention.wqkv.weight"] = torch.cat(parts)
    return found


def _ours(tensors: Mapping[str, Tensor], config: GeneratorConfig) -> dict[str, Tensor]:
    """Return their tensors as we have them."""
    found = {ours: tensors[theirs] for ours, theirs in _names(config).items()}
    found["stack.positions"] = tensors["abs_pe"][0]
    head = config.width // config.num_heads
    shared = head * (config.num_kv_heads or config.num_heads)
    for number in range(config.num_layers):
        fused = tensors[f"layers.{number}.attention.wqkv.weight"]
        rows = torch.split(fused, [config.width, shared, shared])
        found |= {
            f"stack.layers.{number}.attention.{part}.weight": each.clone()
            for part, each in zip(_FUSED, rows, strict=True)
        }
    return found
