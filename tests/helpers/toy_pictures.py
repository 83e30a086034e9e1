"""An ordered tokenizer of pictures with a decoder that draws, and pictures to tell apart."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from PIL import Image
from toy import Levels, Scale, Toy

from zoo.modalities.image import ImageTokenizer
from zoo.spec import TokenSpec


@dataclass(frozen=True)
class DCTConfig:
    codebook_size: int = 64
    size: int = 32
    num_tokens: int = 48


@dataclass(frozen=True)
class DCTOptions:
    clamp: bool = True
    steps: int = 1
    generator: Any = None


class ToyDCT(Toy, ImageTokenizer):
    """Coefficients of the cosine transform, those of low frequencies first; colours take turns.

    `decode` adds noise of 0.1 / `steps` if it is given a generator.
    """

    family = "toy_dct"
    config_class = DCTConfig
    decode_options: ClassVar[type] = DCTOptions

    def __init__(self, config):
        super().__init__(config)
        n, count = config.size, config.num_tokens
        self.encoder, self.quantizer, self.decoder = Scale(), Levels(config.codebook_size), Scale()
        rows = torch.arange(n).double()
        basis = torch.cos(torch.pi / n * (rows[:, None] + 0.5) * rows) * (2 / n) ** 0.5
        basis[:, 0] /= 2**0.5
        places = sorted((i + j, i, j) for i in range(n) for j in range(n))[: count // 3]
        flat = torch.stack([basis[:, i, None] * basis[:, j] for _, i, j in places])
        self.register_buffer("basis", flat, persistent=False)
        self.spec = TokenSpec(
            "image", config.codebook_size, num_tokens=count, input_size=(n, n), is_ordered=True,
            trained_lengths=(3, 12, count),
        )  # fmt: skip

    @property
    def has_autoencoder(self):
        return True

    def autoencode(self, pixels):
        return pixels * 0.99

    def vectors(self, pixels):
        found = torch.einsum("bcij,kij->bkc", pixels.double(), self.basis).flatten(1)
        return self.encoder(found / (2 * self.config.size) + 0.5)

    def pixels(self, vectors):
        scaled = (self.decoder(vectors).double() - 0.5) * (2 * self.config.size)
        padded = torch.nn.functional.pad(scaled, (0, self.config.num_tokens - scaled.shape[1]))
        return torch.einsum("bkc,kij->bcij", padded.unflatten(1, (-1, 3)), self.basis)

    def decode(self, tokens, lengths=None, *, clamp=True, steps=1, generator=None):
        made = super().decode(tokens, lengths, clamp=clamp)
        if generator is None:
            return made
        noise = torch.stack([torch.randn(made.shape[1:], generator=generator) for _ in made])
        return (made + 0.1 / steps * noise).clamp(0, 1)


def write_pictures(folder, count=8, size=40):
    """Write smooth pictures of two sources and a manifest; return the lines."""
    import json

    lines = []
    generator = torch.Generator().manual_seed(0)
    for number in range(count):
        small = torch.rand(1, 3, 5, 6, generator=generator)
        pixels = torch.nn.functional.interpolate(small, (size, size + 8), mode="bicubic").clamp(0, 1)[0]
        source = "field" if number % 2 else "sky"
        (folder / source).mkdir(parents=True, exist_ok=True)
        Image.fromarray((pixels * 255).byte().permute(1, 2, 0).numpy()).save(folder / source / f"{number}.png")
        lines.append({"image_filepath": f"{source}/{number}.png", "source": source})
    (folder / "test.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return lines
