"""A plain second implementation of StableToken's encoding, from its formulas, on tensors of the released names."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import save_file

RELEASED = {
    "d_model": 48,
    "encoder_attention_heads": 3,
    "encoder_ffn_dim": 80,
    "encoder_layers": 3,
    "num_mel_bins": 20,
    "max_source_positions": 1500,
    "activation_function": "gelu",
    "scale_embedding": False,
    "decoder_layers": 2,
    "pooling_kernel_size": 2,
    "pooling_type": "avg",
    "pooling_position": 2,
    "quantize_position": 2,
    "quantize_vocab_size": 64,
    "quantize_encoder_only": True,
    "num_voters": 5,
    "num_clean_input": 3,
    "use_projection_bias": False,
    "encoder_causal_convolution": False,
}
EXTRACTOR = {
    "chunk_length": 30,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 20,
    "hop_length": 160,
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": True,
    "sampling_rate": 16000,
}
UNUSED = ("embed_positions2.weight", "layer_norm.weight", "layer_norm.bias", "codebook_used")


def random_tensors(config, layers=None, seed=0):
    """Return random tensors under the released names, shapes as published."""
    d, ffn = config["d_model"], config["encoder_ffn_dim"]
    bits = config["quantize_vocab_size"].bit_length() - 1
    shapes = {
        "conv1.weight": (d, config["num_mel_bins"], 3),
        "conv1.bias": (d,),
        "conv2.weight": (d, d, 3),
        "conv2.bias": (d,),
        "embed_positions.weight": (config["max_source_positions"], d),
        "embed_positions2.weight": (config["max_source_positions"], d),
        "layer_norm.weight": (d,),
        "layer_norm.bias": (d,),
        "codebook_used": (32768,),
        "quantizer.project_out.weight": (d, bits),
    }
    for layer in range(config["quantize_position"] if layers is None else layers):
        p = f"layers.{layer}."
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            shapes[f"{p}self_attn.{name}.weight"] = (d, d)
            if name != "k_proj":
                shapes[f"{p}self_attn.{name}.bias"] = (d,)
        for name in ("self_attn_layer_norm", "final_layer_norm"):
            shapes |= {f"{p}{name}.weight": (d,), f"{p}{name}.bias": (d,)}
        shapes |= {f"{p}fc1.weight": (ffn, d), f"{p}fc1.bias": (ffn,)}
        shapes |= {f"{p}fc2.weight": (d, ffn), f"{p}fc2.bias": (d,)}
    for voter in range(config["num_voters"]):
        shapes[f"quantizer.project_in.{voter}.weight"] = (bits, d)
        if config["use_projection_bias"]:
            shapes[f"quantizer.project_in.{voter}.bias"] = (bits,)
    if config["use_projection_bias"]:
        shapes["quantizer.project_out.bias"] = (d,)
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 4
        tensors[name] = torch.randn(shape, generator=generator) * 1.5 / fan_in**0.5
        if "norm.weight" in name:
            tensors[name] += 1
    return tensors


def write(folder, config, tensors, extractor=EXTRACTOR, parts=1):
    """Write files as they are released; the weights in `parts` files."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "preprocessor_config.json").write_text(json.dumps(extractor))
    names = sorted(tensors)
    places = {}
    for part in range(parts):
        name = "model.safetensors" if parts == 1 else f"model-{part + 1:05}-of-{parts:05}.safetensors"
        save_file({key: tensors[key].contiguous() for key in names[part::parts]}, folder / name)
        places |= dict.fromkeys(names[part::parts], name)
    if parts > 1:
        (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": places}))
    return folder


def log_mel(wave, num_mel):
    """Whisper's log-mel spectrum of a wave, in float64: (M, F), the wave filled to a multiple of 640 samples."""
    wave = np.asarray(wave, np.float64)
    wave = np.pad(wave, (0, -len(wave) % 640))
    padded = np.pad(wave, 200, mode="reflect")
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(400) / 400)
    frames = [padded[start : start + 400] * window for start in range(0, len(wave), 160)]
    power = np.abs(np.fft.rfft(frames, axis=1)) ** 2

    def hertz(mel):
        return 200 / 3 * mel if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27)

    top = 15 + 27 * np.log(8) / np.log(6.4)
    corners = [hertz(top * i / (num_mel + 1)) for i in range(num_mel + 2)]
    bands = []
    for low, middle, high in zip(corners, corners[1:], corners[2:], strict=False):
        weight = [
            max(0.0, min((f - low) / (middle - low), (high - f) / (high - middle))) * 2 / (high - low)
            for f in np.arange(201) * 40.0
        ]
        bands.append(power @ np.array(weight))
    decades = np.log10(np.maximum(bands, 1e-10))
    return (np.maximum(decades, decades.max() - 8) + 4) / 4


def hidden(tensors, config, wave):
    """The vectors that are quantised, (T, D)."""
    tensors = {name: tensor.double() for name, tensor in tensors.items()}
    count = len(wave)
    x = torch.tensor(log_mel(wave, config["num_mel_bins"]))[None]
    sides = (2, 0) if config["encoder_causal_convolution"] else (1, 1)
    x = F.gelu(F.conv1d(F.pad(x, sides), tensors["conv1.weight"], tensors["conv1.bias"]))
    x = F.gelu(F.conv1d(F.pad(x, sides), tensors["conv2.weight"], tensors["conv2.bias"], stride=2))
    x = x[0].T + tensors["embed_positions.weight"][: x.shape[2]]
    heads = config["encoder_attention_heads"]
    for layer in range(config["quantize_position"]):
        own = {name.removeprefix(f"layers.{layer}."): t for name, t in tensors.items() if f"layers.{layer}." in name}

        def linear(name, value, own=own):
            return F.linear(value, own[f"{name}.weight"], own.get(f"{name}.bias"))

        def norm(name, value, own=own):
            return F.layer_norm(value, value.shape[-1:], own[f"{name}.weight"], own[f"{name}.bias"])

        h = norm("self_attn_layer_norm", x)
        q, k, v = (linear(f"self_attn.{n}_proj", h).unflatten(1, (heads, -1)).transpose(0, 1) for n in "qkv")
        scores = q @ k.transpose(1, 2) / q.shape[2] ** 0.5
        scores[:, :, -(-count // 320) :] = -torch.inf
        x = x + linear("self_attn.out_proj", (scores.softmax(2) @ v).transpose(0, 1).flatten(1))
        x = x + linear("fc2", F.gelu(linear("fc1", norm("final_layer_norm", x))))
        if layer + 1 == config["pooling_position"]:
            pairs = x.unflatten(0, (-1, config["pooling_kernel_size"]))
            x = pairs.mean(1) if config["pooling_type"] == "avg" else pairs.amax(1)
    return x


def ids(tensors, config, wave):
    """The ids of a wave of at most 30 s."""
    x = hidden(tensors, config, wave)
    votes = 0
    for voter in range(config["num_voters"]):
        name = f"quantizer.project_in.{voter}"
        bias = tensors[f"{name}.bias"].double() if f"{name}.bias" in tensors else None
        votes = votes + (F.linear(x, tensors[f"{name}.weight"].double(), bias) > 0).long() * 2 - 1
    return [sum(2**j for j, vote in enumerate(row) if vote > 0) for row in votes.tolist()]
