"""The released config: which classes it may name, what their settings must be, and nothing that is built from it.

Each entry is a node of Hydra: `_target_`, the dotted path of a class, and arguments of its constructor. Building what a
downloaded file names would run whatever it likes, so here a path is only compared with the one that belongs there.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from zoo.checkpoint import foreign
from zoo.checkpoint import weights as _weights
from zoo.errors import CheckpointError, shown

__all__ = [
    "CONFIG",
    "DECODER",
    "ENCODER",
    "FIRST_TO_LAST",
    "LAST_TO_FIRST",
    "OTHERS",
    "TOP",
    "Node",
    "Nodes",
    "Part",
    "check",
    "read_values",
]

CONFIG = "config.json"
FLEXTOK = "flextok.flextok_wrapper.FlexTok"
_WEIGHTS = "model.safetensors"
_MAX_TEXT = 2**20

_MODEL = "flextok.model."
_SEQUENTIAL = f"{_MODEL}utils.wrappers.SequentialModuleDictWrapper"
_POSITIONS = f"{_MODEL}utils.posembs.PositionalEmbeddingAdder"
_PER_SAMPLE = f"{_MODEL}utils.dict_ops.PerSampleOp"
FIRST_TO_LAST = f"{_MODEL}utils.dict_ops.channels_first_to_last"
LAST_TO_FIRST = f"{_MODEL}utils.dict_ops.channels_last_to_first"
_PATCHES = f"{_MODEL}preprocessors.patching.PatchEmbedder"
_PACKER = f"{_MODEL}preprocessors.flex_seq_packing.BlockWiseSequencePacker"
_UNPACKER = f"{_MODEL}postprocessors.seq_unpacking.SequenceUnpacker"
_TRUNK = f"{_MODEL}trunks.transformers.FlexTransformer"
_MLP_HEAD = f"{_MODEL}postprocessors.heads.MLPHead"


@dataclass(frozen=True)
class Part:
    """What an entry may be: one of some classes, and arguments that must be these, or null, if they are there at all.

    Other arguments are what entries are called, what training does, and sizes that the shapes of the tensors say too.
    """

    targets: tuple[str, ...]
    fixed: Mapping[str, Any] = field(default_factory=dict)


def _part(*targets: str, **fixed: Any) -> Part:
    return Part(targets, fixed)


ENCODER = {
    "enc_channels_to_last": _part(_PER_SAMPLE),
    "enc_patch_emb": _part(_PATCHES, flatten_patches=False),
    "enc_posemb_module": _part(_POSITIONS),
    "enc_register_module": _part(f"{_MODEL}preprocessors.registers.Registers1D", ordering="nested"),
    "enc_seq_packer": _part(_PACKER, mask_mode="causal_last", per_subseq_embs=False),
    "enc_transformer": _part(_TRUNK, qk_norm=True, adaLN_expansion=None),
    "enc_unpacker": _part(_UNPACKER),
    "enc_to_latents": _part(f"{_MODEL}postprocessors.heads.LinearHead", use_mup_readout=False),
}
"""The encoder's modules, in the order in which they run."""

DECODER = {
    "dec_from_latents": _part(f"{_MODEL}preprocessors.linear.LinearLayer"),
    "dec_registers_posemb_module": _part(_POSITIONS, posemb_type="learnable_sum"),
    "dec_nested_dropout": _part(f"{_MODEL}preprocessors.token_dropout.MaskedNestedDropout"),
    "dec_latent_dropout": _part(
        f"{_MODEL}preprocessors.nullcond.LearnedNullCond", f"{_MODEL}preprocessors.nullcond.ZeroNullCond"
    ),
    "dec_noise_channels_to_last": _part(_PER_SAMPLE),
    "dec_noise_patch_emb": _part(_PATCHES, flatten_patches=False),
    "dec_patches_posemb_module": _part(_POSITIONS),
    "dec_seq_packer": _part(_PACKER, mask_mode="full", per_subseq_embs=True),
    "dec_time_embedder": _part(f"{_MODEL}preprocessors.time_embedding.TimestepEmbedder"),
    "dec_transformer": _part(_TRUNK, qk_norm=True, adaLN_expansion=2),
    "dec_unpacker": _part(_UNPACKER),
    "dec_to_patches": _part(f"{_MODEL}postprocessors.heads.ToPatchesLinearHead", use_mup_readout=False),
    "dec_channels_to_first": _part(_PER_SAMPLE),
}
"""The decoder's modules, in the order in which they run."""

_WORD = re.compile(r"\w{1,80}")
# Alignment with features of images, in training.
_ALIGNMENT = re.compile(r"dec_(repa|packed_seq_repa)\w*")
_ALIGNMENT_PARTS = _part(_UNPACKER, _MLP_HEAD)

TOP = {
    "vae": _part("flextok.vae_wrapper.StableDiffusionVAE"),
    "encoder": _part(_SEQUENTIAL),
    "decoder": _part(_SEQUENTIAL),
    "regularizer": _part("flextok.regularizers.quantize_fsq.FSQ"),
}
# What only training and sampling have, which have settings of their own here.
OTHERS = {
    "flow_matching_noise_module": _part("flextok.flow_matching.noise_modules.MinRFNoiseModule"),
    "pipeline": _part("flextok.flow_matching.pipelines.MinRFPipeline"),
}
_KNOWN = {
    FLEXTOK,
    FIRST_TO_LAST,
    LAST_TO_FIRST,
    *(
        target
        for parts in (ENCODER, DECODER, TOP, OTHERS, {"": _ALIGNMENT_PARTS})
        for part in parts.values()
        for target in part.targets
    ),
}


@dataclass(frozen=True)
class Node:
    """One entry of the config.

    Attributes:
        values: Its arguments.
        where: File and path, for messages.
    """

    values: Mapping[str, Any]
    where: str

    @property
    def target(self) -> str:
        """The last part of the path of its class."""
        return str(self.values["_target_"]).rpartition(".")[2]

    def get(self, name: str, kind: type, default: Any = None) -> Any:
        """Return an argument of a type, an integer counting as a float; the default if it is missing or null.

        Raises:
            CheckpointError: It is of another type.
        """
        value = self.values.get(name)
        if value is None:
            return default
        if kind is float and type(value) is int and abs(value) < 2**53:
            return float(value)
        if type(value) is not kind:
            raise CheckpointError(f"{self.where}: {name} must be {kind.__name__}, got {shown(value)}.")
        return value

    def sizes(self, name: str) -> list[int] | None:
        """Return an argument that is a list of integers, None if it is missing or null.

        Raises:
            CheckpointError: It is something else.
        """
        value = self.get(name, list)
        if value is not None and (len(value) > 64 or any(type(size) is not int for size in value)):
            raise CheckpointError(f"{self.where}: {name} must be a short list of integers, got {shown(value)}.")
        return value  # type: ignore[no-any-return]

    def require(self, name: str, expected: Any) -> None:
        """Refuse an argument that is there and is not the value expected.

        Raises:
            CheckpointError: It is not.
        """
        value = self.values.get(name)
        if value is not None and (type(value) is not type(expected) or value != expected):
            raise CheckpointError(
                f"{self.where}: {name} is {shown(value)}; only {expected!r} agrees with the weights and with what is "
                "known of this layout."
            )


@dataclass(frozen=True)
class Nodes:
    """All entries of a config, by name."""

    vae: Node
    regularizer: Node
    encoder: Mapping[str, Node]
    decoder: Mapping[str, Node]


def read_values(folder: Path) -> tuple[dict[str, Any], str]:
    """Return the plain values of the config, and where they were read.

    They are in `config.json`, or, of a model in a single file, in the metadata of the weights: an entry each, as
    Python's `str` has them, of which nothing is evaluated but literals.

    Raises:
        CheckpointError: There are none, or they are damaged.
    """
    if (folder / CONFIG).is_file():
        return foreign.read_json(folder / CONFIG), str(folder / CONFIG)
    path = folder / _WEIGHTS
    where = f"the metadata of {path}"
    if not path.is_file():
        raise CheckpointError(f"{folder} has neither {CONFIG} nor {_WEIGHTS}: download it again.")
    with _weights.opened(path) as file:
        metadata = file.metadata() or {}
    return {name: _literal(text, f"{where}, {name}") for name, text in metadata.items() if name != "format"}, where


def _literal(text: str, where: str) -> Any:
    if not text.lstrip().startswith("{"):
        return text
    if len(text) > _MAX_TEXT:
        raise CheckpointError(f"{where}: {len(text)} characters are no config.")
    try:
        return ast.literal_eval(text)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise CheckpointError(f"{where} is not a dictionary of plain values ({type(error).__name__}).") from error


def check(values: Mapping[str, Any], where: str) -> Nodes:
    """Return the entries of a config, each of the class that belongs there, with settings that are known to work.

    Whatever order they come in: saving has sorted them in some files.

    Raises:
        CheckpointError: An entry is missing, unknown, of a foreign class, or of settings that compute something else.
    """
    for path, target in _targets(values, where):
        if not isinstance(target, str) or target not in _KNOWN:
            raise CheckpointError(
                f"{path} names the class {shown(target)}, which is none of FlexTok's: nothing of it is imported or run."
            )
    if values.get("_target_", FLEXTOK) != FLEXTOK:
        raise CheckpointError(f"{where} is of {shown(values['_target_'])}, not of {FLEXTOK}.")
    for name in values:
        if name not in {*TOP, *OTHERS, "_target_"}:
            raise CheckpointError(f"{where} has the unknown entry {shown(name)}.")
    top = {name: _node(values, name, part, where) for name, part in (TOP | OTHERS).items() if name in values}
    for name in TOP:
        if name not in top:
            raise CheckpointError(f"{where} lacks the entry {name!r}: download it again.")
    return Nodes(
        top["vae"],
        top["regularizer"],
        _modules(top["encoder"], ENCODER),
        _modules(top["decoder"], DECODER),
    )


def _modules(half: Node, parts: Mapping[str, Part]) -> dict[str, Node]:
    modules = half.get("module_dict", dict, {})
    where = f"{half.where}.module_dict"
    for name in modules:
        if name not in parts and not (isinstance(name, str) and parts is DECODER and _ALIGNMENT.fullmatch(name)):
            raise CheckpointError(f"{where} has the unknown module {shown(name)}.")
    missing = [name for name in parts if name not in modules]
    if missing:
        raise CheckpointError(f"{where} lacks the modules {shown(missing)}.")
    for name in modules:
        if name not in parts:
            _node(modules, name, _ALIGNMENT_PARTS, where)
    nodes = {name: _node(modules, name, part, where) for name, part in parts.items()}
    for name, function in {
        "enc_channels_to_last": FIRST_TO_LAST,
        "dec_noise_channels_to_last": FIRST_TO_LAST,
        "dec_channels_to_first": LAST_TO_FIRST,
    }.items():
        named = {target for _, target in _targets(nodes[name].values, "")} if name in nodes else set()
        if named - {_PER_SAMPLE, function}:
            raise CheckpointError(f"{where}.{name} must apply {function}, got {shown(sorted(named))}.")
    return nodes


def _node(values: Mapping[str, Any], name: str, part: Part, where: str) -> Node:
    value, where = values[name], f"{where}: {name}" if ": " not in where else f"{where}.{name}"
    if not isinstance(value, dict) or value.get("_target_") not in part.targets:
        raise CheckpointError(
            f"{where} must be a mapping with _target_: {' or '.join(part.targets)}, got {shown(value)}."
        )
    node = Node(value, where)
    for key, expected in part.fixed.items():
        node.require(key, expected)
    return node


def _targets(values: Any, where: str) -> Iterator[tuple[str, Any]]:
    """Yield where a class is named, and which, at any depth."""
    waiting = [(where, values)]
    while waiting:
        path, value = waiting.pop()
        if isinstance(value, dict):
            if "_target_" in value:
                yield path, value["_target_"]
            start = f"{path}: " if path == where else f"{path}."
            waiting += [
                (start + (key if _WORD.fullmatch(str(key)) else shown(key)), part) for key, part in value.items()
            ]
        elif isinstance(value, (list, tuple)):
            waiting += [(path, part) for part in value]
