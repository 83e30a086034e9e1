"""A plain second implementation of StableToken's decoder, from its formulas, on tensors of the released names."""

import math

import numpy as np
import torch
import torch.nn.functional as F

# What a released config.yaml looks like, at toy sizes: HyperPyYAML with tags, a reference, and numbers like 1e-06.
CONFIG_YAML = """\
__set_seed1: !apply:random.seed [1986]
__set_seed2: !apply:torch.manual_seed [1986]
sample_rate: 22050
bands: 8
flow: !new:authors.flow.Model
  input_size: 16
  output_size: !ref <bands>
  spk_embed_dim: 6
  output_type: mel
  vocab_size: 64
  input_frame_rate: 25
  only_mask_loss: true
  encoder: !new:authors.Encoder
    output_size: 16
    attention_heads: 2
    linear_units: 24
    num_blocks: 2
    dropout_rate: 0.1
    positional_dropout_rate: 0.1
    attention_dropout_rate: 0.1
    normalize_before: true
    input_layer: linear
    pos_enc_layer_type: rel_pos_espnet
    selfattention_layer_type: block_rel_selfattn
    input_size: 16
    use_cnn_module: false
    macaron_style: false
    block_size: 4
  length_regulator: !new:authors.Regulator
    channels: 8
    sampling_ratios: [1, 1, 1, 1]
  decoder: !new:authors.Flow
    in_channels: 24
    n_spks: 1
    spk_emb_dim: 8
    cfm_params: !new:omegaconf.DictConfig
      content:
        sigma_min: 1e-06
        solver: euler
        t_scheduler: cosine
        training_cfg_rate: 0.2
        inference_cfg_rate: 0.7
        reg_loss_type: l1
    estimator: !new:authors.Estimator
      in_channels: 32
      out_channels: 8
      channels: [16, 24]
      dropout: 0.0
      attention_head_dim: 4
      n_blocks: 1
      num_mid_blocks: 2
      num_heads: 3
      act_fn: gelu
hift: !new:authors.Vocoder
  in_channels: 8
  base_channels: 16
  nb_harmonics: 8
  sampling_rate: !ref <sample_rate>
  nsf_alpha: 0.1
  nsf_sigma: 0.003
  nsf_voiced_threshold: 10
  upsample_rates: [8, 8]
  upsample_kernel_sizes: [16, 16]
  istft_params:
    n_fft: 16
    hop_len: 4
  resblock_kernel_sizes: [3, 7, 11]
  resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5], [1, 3, 5]]
  source_resblock_kernel_sizes: [7, 11]
  source_resblock_dilation_sizes: [[1, 3, 5], [1, 3, 5]]
  lrelu_slope: 0.1
  audio_limit: 0.99
  f0_predictor: !new:authors.Pitch
    num_class: 1
    in_channels: 8
    cond_channels: 12
"""
TOY = {
    "vocabulary": 64,
    "mel": 8,
    "speaker": 6,
    "width": 16,
    "heads": 2,
    "ffn": 24,
    "blocks": 2,
    "block": 4,
    "channels": (16, 24),
    "layers": 1,
    "middle": 2,
    "unet_heads": 3,
    "head": 4,
    "base": 16,
    "pitch": 12,
}
PUBLISHED = {
    "vocabulary": 8192,
    "mel": 80,
    "speaker": 192,
    "width": 512,
    "heads": 8,
    "ffn": 2048,
    "blocks": 6,
    "block": 25,
    "channels": (256, 256),
    "layers": 4,
    "middle": 12,
    "unet_heads": 8,
    "head": 64,
    "base": 512,
    "pitch": 512,
}
KERNELS, DILATIONS, SOURCE_KERNELS = (3, 7, 11), (1, 3, 5), (7, 11)


def flow_shapes(c):
    """Every tensor of flow.pt."""
    d, mel, shapes = c["width"], c["mel"], {}

    def add(name, *shape, bias=True):
        shapes[f"{name}.weight"] = shape
        if bias:
            shapes[f"{name}.bias"] = shape[:1]

    add("input_embedding", c["vocabulary"], d, bias=False)
    add("spk_embed_affine_layer", mel, c["speaker"])
    add("encoder_proj", mel, d)
    add("encoder.embed.out.0", d, d)
    for name in ("encoder.embed.out.1", "encoder.after_norm"):
        add(name, d)
    for number in range(c["blocks"]):
        p = f"encoder.encoders.{number}."
        add(f"{p}norm_mha", d)
        add(f"{p}norm_ff", d)
        add(f"{p}feed_forward.w_1", c["ffn"], d)
        add(f"{p}feed_forward.w_2", d, c["ffn"])
        for name in ("q", "k", "v", "out"):
            add(f"{p}self_attn.linear_{name}", d, d)
        add(f"{p}self_attn.linear_pos", d, d, bias=False)
        for name in ("u", "v"):
            shapes[f"{p}self_attn.pos_bias_{name}"] = (c["heads"], d // c["heads"])
    for number in (0, 3, 6, 9):
        add(f"length_regulator.model.{number}", mel, mel, 3)
        add(f"length_regulator.model.{number + 1}", mel)
    add("length_regulator.model.12", mel, mel, 1)
    e, low, high = "decoder.estimator.", c["channels"][0], c["channels"][1]
    time = 4 * low
    add(f"{e}time_mlp.linear_1", time, 4 * mel)
    add(f"{e}time_mlp.linear_2", time, time)
    levels = {"down_blocks.0": (4 * mel, low), "down_blocks.1": (low, high)}
    levels |= {f"mid_blocks.{number}": (high, high) for number in range(c["middle"])}
    levels |= {"up_blocks.0": (2 * high, low), "up_blocks.1": (2 * low, low)}
    inner = c["unet_heads"] * c["head"]
    for name, (before, after) in levels.items():
        p = f"{e}{name}.0."
        add(f"{p}mlp.1", after, time)
        for block, width in ((1, before), (2, after)):
            add(f"{p}block{block}.block.0", after, width, 3)
            add(f"{p}block{block}.block.1", after)
        add(f"{p}res_conv", after, before, 1)
        for number in range(c["layers"]):
            p = f"{e}{name}.1.{number}."
            for norm in ("norm1", "norm3"):
                add(f"{p}{norm}", after)
            for part in "qkv":
                add(f"{p}attn1.to_{part}", inner, after, bias=False)
            add(f"{p}attn1.to_out.0", after, inner)
            add(f"{p}ff.net.0.proj", 4 * after, after)
            add(f"{p}ff.net.2", after, 4 * after)
    add(f"{e}down_blocks.0.2.conv", low, low, 3)
    add(f"{e}down_blocks.1.2", high, high, 3)
    add(f"{e}up_blocks.0.2.conv", low, low, 4)
    add(f"{e}up_blocks.1.2", low, low, 3)
    add(f"{e}final_block.block.0", low, low, 3)
    add(f"{e}final_block.block.1", low)
    add(f"{e}final_proj", mel, low, 1)
    return shapes


def vocoder_shapes(c):
    """Every tensor of hift.pt."""
    mel, shapes, width = c["mel"], {}, c["base"]

    def normed(name, first, second, kernel, out=None):
        shapes[f"{name}.weight_g"] = (first, 1, 1)
        shapes[f"{name}.weight_v"] = (first, second, kernel)
        shapes[f"{name}.bias"] = (first if out is None else out,)

    def plain(name, *shape):
        shapes[f"{name}.weight"], shapes[f"{name}.bias"] = shape, shape[:1]

    normed("pre_conv", width, mel, 7)
    normed("post_conv", 18, width // 4, 7)
    for stage in range(2):
        normed(f"ups.{stage}", width, width // 2, 16, width // 2)
        width //= 2
        plain(f"source_downs.{stage}", width, 18, 16 if stage == 0 else 1)
        blocks = {f"source_resblocks.{stage}": SOURCE_KERNELS[stage]}
        blocks |= {f"resblocks.{3 * stage + number}": kernel for number, kernel in enumerate(KERNELS)}
        for name, kernel in blocks.items():
            for j in range(3):
                for half in (1, 2):
                    normed(f"{name}.conv{half}.{j}", width, width, kernel)
                    shapes[f"{name}.activations{half}.{j}.alpha"] = (width,)
    for number in range(5):
        normed(f"f0_predictor.condnet.{2 * number}", c["pitch"], c["pitch"] if number else mel, 3)
    plain("f0_predictor.classifier", 1, c["pitch"])
    plain("source.l_linear", 1, 9)
    return shapes


def random_tensors(shapes, seed=0):
    """Random tensors of which signals neither die nor explode, with a pitch near 120 Hz and a wave in its limits."""
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, shape in shapes.items():
        fan_in = math.prod(shape[1:]) if len(shape) > 1 and shape[1:] != (1, 1) else 4
        tensors[name] = torch.randn(shape, generator=generator) / fan_in**0.5
        if name.endswith(("alpha", "weight_g")) or (len(shape) == 1 and name.endswith("weight")):
            tensors[name] = 0.5 + torch.rand(shape, generator=generator)
        if name == "f0_predictor.classifier.bias":
            tensors[name] += 120
        if name == "post_conv.weight_g":
            tensors[name] /= 10
        if name == "post_conv.bias":
            tensors[name][:9] -= 2
    return tensors


def write(folder, seed=0, sizes=TOY, config=CONFIG_YAML):
    """Write files as they are released; return their tensors."""
    folder.mkdir(parents=True, exist_ok=True)
    flow, vocoder = random_tensors(flow_shapes(sizes), seed), random_tensors(vocoder_shapes(sizes), seed + 1)
    (folder / "config.yaml").write_text(config)
    torch.save(flow, folder / "flow.pt")
    torch.save(vocoder, folder / "hift.pt")
    return flow, vocoder


class Named:
    """Tensors by name, in float64, and the layers that they are."""

    def __init__(self, tensors, prefix=""):
        self.tensors, self.prefix = tensors, prefix

    def __call__(self, prefix):
        return Named(self.tensors, f"{self.prefix}{prefix}.")

    def __getitem__(self, name):
        return self.tensors[self.prefix + name].double()

    def get(self, name):
        return self[name] if self.prefix + name in self.tensors else None

    def linear(self, x):
        return x @ self["weight"].T + (0 if self.get("bias") is None else self["bias"])

    def norm(self, x):
        return F.layer_norm(x, x.shape[-1:], self["weight"], self["bias"], 1e-5)

    def groups(self, x, count):
        parts = x.reshape(count, -1)
        parts = (parts - parts.mean(1, keepdim=True)) / (parts.var(1, correction=0, keepdim=True) + 1e-5).sqrt()
        return parts.reshape(x.shape) * self["weight"][:, None] + self["bias"][:, None]

    def weight(self):
        if self.get("weight_v") is None:
            return self["weight"]
        direction = self["weight_v"]
        return direction / direction.flatten(1).norm(dim=1)[:, None, None] * self["weight_g"]

    def conv(self, x, **options):
        return F.conv1d(x[None], self.weight(), self["bias"], **options)[0]

    def up(self, x, **options):
        return F.conv_transpose1d(x[None], self.weight(), self["bias"], **options)[0]


def mish(x):
    return x * torch.tanh(torch.log1p(x.exp()))


def encoded(w, c, ids):
    """(T, D) of ids."""
    count, d, heads = len(ids), c["width"], c["heads"]
    x = w("input_embedding")["weight"][ids]
    x = w("encoder.embed.out.1").norm(w("encoder.embed.out.0").linear(x)) * d**0.5
    rates = torch.tensor([10000.0 ** (-2 * i / d) for i in range(d // 2)], dtype=torch.float64)
    offsets = (torch.arange(count)[:, None] - torch.arange(count)).double()
    angles = offsets[:, :, None] * rates
    positions = torch.zeros(count, count, d, dtype=torch.float64)
    positions[:, :, 0::2], positions[:, :, 1::2] = angles.sin(), angles.cos()
    seen = torch.tensor([[j < (i // c["block"] + 1) * c["block"] for j in range(count)] for i in range(count)])
    for number in range(c["blocks"]):
        own = w(f"encoder.encoders.{number}")
        a, h = own("self_attn"), own("norm_mha").norm(x)
        q, k, v = (a(f"linear_{n}").linear(h).view(count, heads, -1) for n in "qkv")
        p = a("linear_pos").linear(positions).view(count, count, heads, -1)
        scores = torch.einsum("ihd,jhd->hij", q + a["pos_bias_u"], k)
        scores += torch.einsum("ihd,ijhd->hij", q + a["pos_bias_v"], p)
        weights = (scores / (d // heads) ** 0.5).masked_fill(~seen, -torch.inf).softmax(2)
        x = x + a("linear_out").linear(torch.einsum("hij,jhd->ihd", weights, v).reshape(count, d))
        x = x + own("feed_forward.w_2").linear(F.silu(own("feed_forward.w_1").linear(own("norm_ff").norm(x))))
    return w("encoder.after_norm").norm(x)


def mean_mel(w, c, ids):
    """(M, F) of ids."""
    x = w("encoder_proj").linear(encoded(w, c, ids)).T
    frames = 441 * len(ids) // 128
    x = x[:, [frame * len(ids) // frames for frame in range(frames)]]
    for number in (0, 3, 6, 9):
        own = w("length_regulator.model")
        x = mish(own(f"{number + 1}").groups(own(f"{number}").conv(x, padding=1), 1))
    return w("length_regulator.model.12").conv(x)


def velocity(w, c, x, t, mu, speaker):
    """(M, F) of the spectrum x (M, F) at a time."""
    w = w("decoder.estimator")
    half = 2 * c["mel"]
    angles = 1000 * t * torch.tensor([10000.0 ** (-i / (half - 1)) for i in range(half)], dtype=torch.float64)
    time = torch.cat([angles.sin(), angles.cos()])
    time = w("time_mlp.linear_2").linear(F.silu(w("time_mlp.linear_1").linear(time)))

    def level(name, x):
        own = w(f"{name}.0")
        first, second = own("block1.block"), own("block2.block")
        inner = mish(first("1").groups(first("0").conv(x, padding=1), 8)) + own("mlp.1").linear(mish(time))[:, None]
        inner = mish(second("1").groups(second("0").conv(inner, padding=1), 8))
        x = (inner + own("res_conv").conv(x)).T
        for number in range(c["layers"]):
            own = w(f"{name}.1.{number}")
            h = own("norm1").norm(x)
            q, k, v = (own(f"attn1.to_{n}").linear(h).view(len(x), c["unet_heads"], -1).transpose(0, 1) for n in "qkv")
            mixed = (q @ k.transpose(1, 2) / c["head"] ** 0.5).softmax(2) @ v
            x = x + own("attn1.to_out.0").linear(mixed.transpose(0, 1).flatten(1))
            x = x + own("ff.net.2").linear(F.gelu(own("ff.net.0.proj").linear(own("norm3").norm(x))))
        return x.T

    x = torch.cat([x, mu, speaker[:, None].expand_as(x), torch.zeros_like(x)])
    high = level("down_blocks.0", x)
    low = level("down_blocks.1", w("down_blocks.0.2.conv").conv(high, stride=2, padding=1))
    x = w("down_blocks.1.2").conv(low, padding=1)
    for number in range(c["middle"]):
        x = level(f"mid_blocks.{number}", x)
    x = level("up_blocks.0", torch.cat([x, low]))
    x = w("up_blocks.0.2.conv").up(x, stride=2, padding=1)[:, : high.shape[1]]
    x = w("up_blocks.1.2").conv(level("up_blocks.1", torch.cat([x, high])), padding=1)
    own = w("final_block.block")
    return w("final_proj").conv(mish(own("1").groups(own("0").conv(x, padding=1), 8)))


def mel(flow, c, ids, noise, steps=10, guidance=0.7):
    """The spectrum (M, F) of ids (T,), from noise (M, F)."""
    w, x = Named(flow), noise.double()
    mu, speaker = mean_mel(w, c, ids), w("spk_embed_affine_layer")["bias"]
    for step in range(steps):
        now, later = (1 - math.cos(math.pi / 2 * s / steps) for s in (step, step + 1))
        with_tokens = velocity(w, c, x, now, mu, speaker)
        without = velocity(w, c, x, now, torch.zeros_like(mu), torch.zeros_like(speaker))
        x = x + (later - now) * ((1 + guidance) * with_tokens - guidance * without)
    return x


def residual(w, x, kernel):
    for j, dilation in enumerate(DILATIONS):
        inner = x
        for half, step in ((1, dilation), (2, 1)):
            alpha = w(f"activations{half}.{j}")["alpha"][:, None]
            inner = inner + torch.sin(alpha * inner) ** 2 / alpha
            inner = w(f"conv{half}.{j}").conv(inner, padding=step * (kernel // 2), dilation=step)
        x = x + inner
    return x


def wave(vocoder, spectrum, phases, noise, rate=22050):
    """The wave of a spectrum (M, F), given the random phases (9,) and noise (9, samples)."""
    w = Named(vocoder)
    x = spectrum.double()
    for number in range(5):
        x = F.elu(w(f"f0_predictor.condnet.{2 * number}").conv(x if number else spectrum.double(), padding=1))
    pitch = w("f0_predictor.classifier").linear(x.T)[:, 0].abs().repeat_interleave(256)
    # The running sum is of float32, as published.
    turns = torch.stack([(pitch.float() * k / rate).cumsum(0) for k in range(1, 10)]).double()
    voiced = pitch > 10
    tones = 0.1 * torch.sin(2 * math.pi * turns + phases.double()[:, None]) * voiced
    level = torch.where(voiced, 0.003, 0.1 / 3)
    source = torch.tanh(w("source.l_linear").linear((tones + level * noise.double()).T)[:, 0])
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(16) / 16)
    padded = np.pad(source.numpy(), 8, mode="reflect")
    frames = np.stack([padded[start : start + 16] * window for start in range(0, len(source) + 1, 4)])
    transform = torch.from_numpy(np.fft.rfft(frames, axis=1).T)
    transform = torch.cat([transform.real, transform.imag])
    x = w("pre_conv").conv(spectrum.double(), padding=3)
    for stage in range(2):
        x = w(f"ups.{stage}").up(F.leaky_relu(x, 0.1), stride=8, padding=4)
        if stage == 1:
            x = torch.cat([x[:, 1:2], x], 1)
        down = w("source_downs.0").conv(transform, stride=8, padding=4) if stage == 0 else None
        down = w("source_downs.1").conv(transform) if down is None else down
        x = x + residual(w(f"source_resblocks.{stage}"), down, SOURCE_KERNELS[stage])
        x = sum(residual(w(f"resblocks.{3 * stage + n}"), x, kernel) for n, kernel in enumerate(KERNELS)) / 3
    x = w("post_conv").conv(F.leaky_relu(x, 0.01), padding=3)
    magnitude, phase = x[:9].exp().clamp(max=100).numpy(), torch.sin(x[9:]).numpy()
    pieces = np.fft.irfft(magnitude * np.exp(1j * phase), axis=0).T * window
    total = np.zeros((2, 4 * len(pieces) + 12))
    for number, piece in enumerate(pieces):
        total[0, 4 * number : 4 * number + 16] += piece
        total[1, 4 * number : 4 * number + 16] += window**2
    samples = total[:, 8 : 8 + len(source)]
    return torch.from_numpy(samples[0] / samples[1]).clamp(-0.99, 0.99)
