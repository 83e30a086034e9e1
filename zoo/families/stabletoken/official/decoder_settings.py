"""The released `config.yaml` of the decoder: read as plain values, and written.

The file is HyperPyYAML, whose tags `foreign.read_yaml` drops; `!ref <name>` is the value of that name at the top.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from zoo import config as configs
from zoo.checkpoint import foreign
from zoo.errors import ConfigError, shown
from zoo.families.stabletoken.decoder.config import DecoderConfig

__all__ = ["read", "write"]

# Where in the file each of our fields is. What the file leaves out is what the authors' classes have as default, which
# is our default too.
_FIELDS = {
    "codebook_size": "flow.vocab_size",
    "token_rate": "flow.input_frame_rate",
    "num_mel": "flow.output_size",
    "speaker_size": "flow.spk_embed_dim",
    "sample_rate": "hift.sampling_rate",
    "guidance": "flow.decoder.cfm_params.inference_cfg_rate",
    "conformer.width": "flow.encoder.output_size",
    "conformer.num_heads": "flow.encoder.attention_heads",
    "conformer.ffn_size": "flow.encoder.linear_units",
    "conformer.num_blocks": "flow.encoder.num_blocks",
    "conformer.block_size": "flow.encoder.block_size",
    "unet.channels": "flow.decoder.estimator.channels",
    "unet.num_layers": "flow.decoder.estimator.n_blocks",
    "unet.num_middle": "flow.decoder.estimator.num_mid_blocks",
    "unet.num_heads": "flow.decoder.estimator.num_heads",
    "unet.head_size": "flow.decoder.estimator.attention_head_dim",
    "vocoder.channels": "hift.base_channels",
    "vocoder.num_harmonics": "hift.nb_harmonics",
    "vocoder.sine_amplitude": "hift.nsf_alpha",
    "vocoder.noise_std": "hift.nsf_sigma",
    "vocoder.voiced_threshold": "hift.nsf_voiced_threshold",
    "vocoder.upsample_rates": "hift.upsample_rates",
    "vocoder.upsample_kernels": "hift.upsample_kernel_sizes",
    "vocoder.n_fft": "hift.istft_params.n_fft",
    "vocoder.hop_length": "hift.istft_params.hop_len",
    "vocoder.kernels": "hift.resblock_kernel_sizes",
    "vocoder.dilations": "hift.resblock_dilation_sizes",
    "vocoder.source_kernels": "hift.source_resblock_kernel_sizes",
    "vocoder.source_dilations": "hift.source_resblock_dilation_sizes",
    "vocoder.slope": "hift.lrelu_slope",
    "vocoder.limit": "hift.audio_limit",
    "vocoder.pitch_channels": "hift.f0_predictor.cond_channels",
}
# Settings that are the only ones this decoder has. A string names the field of ours that theirs must equal.
_FIXED: dict[str, Any] = {
    "flow.output_type": ["mel"],
    "flow.input_size": "conformer.width",
    "flow.encoder.input_size": "conformer.width",
    "flow.encoder.input_layer": ["linear"],
    "flow.encoder.pos_enc_layer_type": ["rel_pos_espnet"],
    "flow.encoder.selfattention_layer_type": ["block_rel_selfattn"],
    "flow.encoder.activation_type": ["swish"],
    "flow.encoder.normalize_before": [True],
    "flow.encoder.use_cnn_module": [False],
    "flow.encoder.macaron_style": [False],
    "flow.length_regulator.channels": "num_mel",
    "flow.length_regulator.sampling_ratios": [[1, 1, 1, 1]],
    "flow.decoder.spk_emb_dim": "num_mel",
    "flow.decoder.cfm_params.sigma_min": [1e-6],
    "flow.decoder.cfm_params.solver": ["euler"],
    "flow.decoder.cfm_params.t_scheduler": ["cosine"],
    "flow.decoder.estimator.out_channels": "num_mel",
    "flow.decoder.estimator.act_fn": ["gelu"],
    "hift.in_channels": "num_mel",
    "hift.f0_predictor.in_channels": "num_mel",
    "hift.f0_predictor.num_class": [1],
}
# Settings of training, and sizes that follow from others.
_UNUSED = (
    "flow.only_mask_loss",
    "flow.mel_feat_conf",
    "flow.decoder_conf",
    "flow.encoder.dropout_rate",
    "flow.encoder.positional_dropout_rate",
    "flow.encoder.attention_dropout_rate",
    "flow.decoder.in_channels",
    "flow.decoder.n_spks",
    "flow.decoder.cfm_params.training_cfg_rate",
    "flow.decoder.cfm_params.reg_loss_type",
    "flow.decoder.estimator.in_channels",
    "flow.decoder.estimator.dropout",
)
_SECTIONS = tuple(dict.fromkeys(path.rpartition(".")[0] for path in (*_FIELDS.values(), *_FIXED)))


def read(path: Path) -> DecoderConfig:
    """Return the settings in a released `config.yaml`.

    Raises:
        CheckpointError: The file is missing, is not YAML, or asks for Python objects.
        ConfigError: A setting is unusable, is one that this decoder does not have, or may be hidden behind a key that
            nobody knows.
    """
    values = foreign.read_yaml(path)
    flat: dict[str, Any] = {}
    for section in _SECTIONS:
        mapping = _find(values, section, path)
        if mapping is None and "." not in section:
            raise ConfigError(f"{path} has no {section}, whose settings cannot all be guessed.")
        _require_known(mapping or {}, section, path)
        flat |= {f"{section}.{key}": _resolved(values, value) for key, value in (mapping or {}).items()}
    ours: dict[str, Any] = {}
    for field, place in _FIELDS.items():
        if place in flat:
            part, _, name = field.rpartition(".")
            (ours.setdefault(part, {}) if part else ours)[name] = flat[place]
    try:
        config = configs.from_dict(DecoderConfig, ours, "config")
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    plain = configs.to_dict(config)
    for place, only in _FIXED.items():
        wanted = only[0] if isinstance(only, list) else _at(plain, only)
        if place in flat and flat[place] != wanted:
            raise ConfigError(f"{path}: {place} is {shown(flat[place])}; only {wanted!r} is known to work here.")
    return config


def write(config: DecoderConfig, path: Path) -> None:
    """Write settings with the keys that `read` knows, without the tags that say which classes to build."""
    values: dict[str, Any] = {}
    plain = configs.to_dict(config)
    fixed = {place: only[0] if isinstance(only, list) else _at(plain, only) for place, only in _FIXED.items()}
    for place, value in {**fixed, **{place: _at(plain, field) for field, place in _FIELDS.items()}}.items():
        *section, key = place.split(".")
        target = values
        for part in section:
            target = target.setdefault(part, {})
        target[key] = value
    path.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")


def _find(values: dict[str, Any], section: str, path: Path) -> dict[str, Any] | None:
    """Return the mapping at a path of keys, None if there is none."""
    found: Any = values
    for key in section.split("."):
        if key not in found:
            return None
        found = _resolved(values, found[key])
        # OmegaConf's mappings are written as the argument of its class.
        if isinstance(found, dict) and set(found) == {"content"}:
            found = _resolved(values, found["content"])
        if not isinstance(found, dict):
            raise ConfigError(f"{path}: {section} must be a mapping, got {shown(found)}.")
    mapping: dict[str, Any] = found
    return mapping


def _resolved(values: dict[str, Any], value: Any) -> Any:
    """Return what `!ref <name>` stands for; anything else as it is."""
    reference = re.fullmatch(r"<(\w+)>", value) if isinstance(value, str) else None
    return values.get(reference[1], value) if reference else value


def _require_known(mapping: dict[str, Any], section: str, path: Path) -> None:
    """Refuse a key that nobody knows where a setting is left out: it might be that setting by another name."""
    inside = [place for place in (*_FIELDS.values(), *_FIXED, *_UNUSED, *_SECTIONS) if place.startswith(f"{section}.")]
    known = {place[len(section) + 1 :].partition(".")[0] for place in inside}
    unknown = [key for key in mapping if key not in known]
    absent = [
        place
        for place in _FIELDS.values()
        if place.rpartition(".")[0] == section and place[len(section) + 1 :] not in mapping
    ]
    if unknown and absent:
        raise ConfigError(
            f"{path}: {section} has {shown(unknown)}, which is not known, and lacks {', '.join(absent)}, which it "
            "might stand for: rename or remove it."
        )


def _at(values: dict[str, Any], place: str) -> Any:
    found: Any = values
    for key in place.split("."):
        found = found[key]
    return found
