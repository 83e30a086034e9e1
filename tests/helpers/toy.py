"""Tiny real tokenizers, one a modality, for tests of everything that is not a family.

    toy.speech   mu-law companding of the means of `hop` samples; lengths vary
    toy.image    mean grey of each patch on a uniform grid; a fixed number of tokens
    toy.video    mean and spread of each patch of each frame, in two codebooks: ids (B, T, 2)
    toy.action   the bits of the mean of each degree of freedom, coarsest first: every prefix decodes

`make(modality)` builds one, `signals(modality, …)` makes input for it, `registered()` gives them names for a while.
"""

from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import nn

from zoo import registry
from zoo.errors import ConfigError, InputError
from zoo.modalities.image import ImageTokenizer
from zoo.modalities.speech import SpeechTokenizer
from zoo.modalities.video import VideoTokenizer
from zoo.spec import TokenSpec
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens


class Levels(nn.Module):
    """V uniform levels in 0…1, their values in a table that is part of a checkpoint."""

    def __init__(self, size):
        super().__init__()
        self.size = size
        self.register_buffer("table", torch.linspace(0, 1, size, dtype=torch.float64))

    def ids(self, x):
        return (x.double() * (self.size - 1)).round().clamp(0, self.size - 1).long()

    def codes(self, ids):
        return self.table[ids].float()


class Scale(nn.Module):
    """Multiplies by a weight."""

    def __init__(self, value=1.0):
        super().__init__()
        self.weight = nn.Parameter(torch.full((1,), value))

    def forward(self, x):
        return x * self.weight


class Toy:
    """Encoder and decoder are scales, the quantizer levels; subclasses say what is quantised."""

    def __init__(self, config):
        super().__init__(config)
        if config.codebook_size < 2:
            raise ConfigError(f"codebook_size must be at least 2, got {config.codebook_size}.")
        self.encoder, self.quantizer, self.decoder = Scale(), Levels(config.codebook_size), Scale()


@dataclass(frozen=True)
class SpeechConfig:
    codebook_size: int = 256
    hop: int = 4
    mu: float = 255.0
    sample_rate: int = 16000


class ToySpeech(Toy, SpeechTokenizer):
    family = "toy_speech"
    config_class = SpeechConfig

    def __init__(self, config):
        super().__init__(config)
        rate = config.sample_rate
        self.spec = TokenSpec("speech", config.codebook_size, token_rate=rate / config.hop, sample_rate=rate)

    @torch.no_grad()
    def encode(self, x, lengths=None):
        x, lengths = self.as_batch(x, lengths)
        if lengths is None:
            lengths = torch.full((len(x),), x.shape[1], device=x.device)
        if not int(lengths.min()):
            raise InputError("speech needs at least one sample.")
        hop, mu = self.config.hop, self.config.mu
        x = nn.functional.pad(x.double(), (0, -x.shape[1] % hop)).unflatten(1, (-1, hop)).mean(2)
        x = self.encoder(x).clamp(-1, 1)
        squeezed = x.sign() * torch.log1p(mu * x.abs()) / torch.log1p(torch.tensor(mu).double())
        tokens = Tokens(
            self.quantizer.ids((squeezed + 1) / 2),
            -(-lengths // hop),
            self.config.codebook_size,
            self.name,
            signal_lengths=lengths,
        )
        return tokens._cleared()

    @torch.no_grad()
    def decode(self, tokens, lengths=None):
        tokens = self.as_tokens(tokens, lengths)
        x = self.quantizer.codes(tokens.ids) * 2 - 1
        x = x.sign() * torch.expm1(x.abs() * torch.log1p(torch.tensor(self.config.mu))) / self.config.mu
        wave = self.decoder(x * tokens.mask).repeat_interleave(self.config.hop, 1)
        return wave[:, : max(self.output_lengths(tokens).tolist(), default=0)]


@dataclass(frozen=True)
class ImageConfig:
    codebook_size: int = 16
    size: tuple[int, int] = (8, 8)
    patch: int = 4


class ToyImage(Toy, ImageTokenizer):
    family = "toy_image"
    config_class = ImageConfig

    def __init__(self, config):
        super().__init__(config)
        self.grid = tuple(side // config.patch for side in config.size)
        count = self.grid[0] * self.grid[1]
        self.spec = TokenSpec("image", config.codebook_size, num_tokens=count, input_size=config.size)

    def vectors(self, pixels):
        p = self.config.patch
        return self.encoder(pixels.double().mean(1).unfold(1, p, p).unfold(2, p, p).mean((3, 4)).flatten(1))

    def pixels(self, vectors):
        p = self.config.patch
        grey = self.decoder(vectors).unflatten(1, self.grid)
        return grey.repeat_interleave(p, 1).repeat_interleave(p, 2)[:, None].expand(-1, 3, -1, -1)


@dataclass(frozen=True)
class VideoConfig:
    codebook_size: int = 16
    size: tuple[int, int, int] = (2, 8, 8)
    patch: int = 4


class ToyVideo(Toy, VideoTokenizer):
    family = "toy_video"
    config_class = VideoConfig

    def __init__(self, config):
        super().__init__(config)
        frames, height, width = config.size
        self.grid = (frames, height // config.patch, width // config.patch)
        count = self.grid[0] * self.grid[1] * self.grid[2]
        self.spec = TokenSpec("video", config.codebook_size, 2, num_tokens=count, input_size=config.size)

    def vectors(self, pixels):
        p = self.config.patch
        patches = pixels.double().mean(1).unfold(2, p, p).unfold(3, p, p).flatten(4)
        return self.encoder(torch.stack([patches.mean(4), patches.amax(4) - patches.amin(4)], -1).flatten(1, 3))

    def pixels(self, vectors):
        p = self.config.patch
        mean, spread = self.decoder(vectors).unflatten(1, self.grid).unbind(-1)
        mean, spread = (fact.repeat_interleave(p, 2).repeat_interleave(p, 3) for fact in (mean, spread))
        stripes = torch.where(torch.arange(mean.shape[-1], device=mean.device) % 2 == 0, -0.5, 0.5)
        return (mean + stripes * spread)[:, None].expand(-1, 3, -1, -1, -1)


@dataclass(frozen=True)
class ActionConfig:
    codebook_size: int = 4
    depth: int = 6
    num_dofs: int = 2
    horizon: int = 8


class ToyAction(Toy, Tokenizer):
    family = "toy_action"
    config_class = ActionConfig

    def __init__(self, config):
        super().__init__(config)
        self.spec = TokenSpec(
            "action",
            config.codebook_size,
            num_tokens=config.depth * config.num_dofs,
            input_size=(config.horizon, config.num_dofs),
            is_ordered=True,
        )

    @torch.no_grad()
    def encode(self, x, lengths=None):
        x, lengths = self.as_batch(x, lengths)
        if lengths is not None or tuple(x.shape[1:]) != self.spec.input_size:
            raise InputError(f"{self.name} takes (B, {self.config.horizon}, {self.config.num_dofs}), got {x.shape}.")
        base = self.config.codebook_size
        rest = ((self.encoder(x.double().mean(1)) + 1) / 2).clamp(0, 1 - 2**-40)
        digits = []
        for _ in range(self.config.depth):
            rest = rest * base
            digits.append(rest.long())
            rest = rest - rest.floor()
        ids = torch.stack(digits, 1).flatten(1)
        return Tokens(ids, torch.full((len(ids),), ids.shape[1]), base, self.name)

    @torch.no_grad()
    def decode(self, tokens, lengths=None):
        tokens = self.as_tokens(tokens, lengths)
        base, dofs = self.config.codebook_size, self.config.num_dofs
        place = torch.arange(tokens.ids.shape[1], device=tokens.ids.device)
        worth = float(base) ** -(place // dofs + 1.0)
        # What is not there may be anything, so it is taken to be in the middle.
        mean = torch.stack([(tokens.ids * worth * tokens.mask)[:, d::dofs].sum(1) for d in range(dofs)], 1)
        known = torch.stack([tokens.mask[:, d::dofs].sum(1) for d in range(dofs)], 1)
        mean = self.decoder((mean + 0.5 * float(base) ** -known) * 2 - 1)
        return mean[:, None].expand(-1, self.config.horizon, -1)

    def num_tokens(self, length):
        return self.spec.num_tokens

    def output_lengths(self, tokens):
        return torch.full_like(tokens.lengths, self.config.horizon)


CLASSES = {"speech": ToySpeech, "image": ToyImage, "video": ToyVideo, "action": ToyAction}


def make(modality, seed=0, **settings):
    """Build a toy whose weights are its own, so that mixing up two checkpoints shows."""
    cls = CLASSES[modality]
    tokenizer = cls(cls.config_class(**settings))
    with torch.no_grad():
        tokenizer.encoder.weight.fill_(1 - 0.01 * seed)
        tokenizer.decoder.weight.fill_(1 + 0.01 * seed)
    tokenizer.name = f"{cls.family}.s{seed}"
    tokenizer.trained_on = f"nothing, seed {seed}"
    return tokenizer.eval()


def signals(modality, batch=3, seed=0, length=37):
    """Make input for `make(modality)`."""
    shape = {"speech": (length,), "image": (3, 8, 8), "video": (3, 2, 8, 8), "action": (8, 2)}[modality]
    x = torch.rand(batch, *shape, generator=torch.Generator().manual_seed(seed))
    return x * 2 - 1 if modality in ("speech", "action") else x


@contextmanager
def registered(*classes):
    """Register toy families (all four by default), and forget them and everything else that was added afterwards."""
    families, models = dict(registry._added_families), dict(registry._added_models)
    try:
        for cls in classes or CLASSES.values():
            registry.register(cls)
        yield
    finally:
        for current, before in ((registry._added_families, families), (registry._added_models, models)):
            current.clear()
            current.update(before)
