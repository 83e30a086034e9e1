"""A toy whose decoder has a file of its own."""

from dataclasses import dataclass

import torch
import toy
from torch import nn

from zoo.tokenizer import NoDecoder

IDS = [[1, 2, 3, 4]]


class Curve(nn.Module):
    """A decoder with weights, statistics, and a table that it computes."""

    def __init__(self, size=3):
        super().__init__()
        self.weights = nn.Parameter(torch.rand(size))
        self.register_buffer("seen", torch.tensor(7))
        self.register_buffer("powers", torch.arange(float(size)), persistent=False)

    def forward(self, x):
        return (self.weights * x[..., None] ** self.powers).sum(-1)


@dataclass(frozen=True)
class Config(toy.ImageConfig):
    decoder_size: int | None = 3


class ToyDecoder(toy.ToyImage):
    """An image toy whose decoder has a file of its own, if it has one."""

    family = "toy_decoder"
    config_class = Config
    decoder_file = True

    def __init__(self, config, *, decoder=True):
        super().__init__(config)
        self.is_whole = decoder
        self.decoder = nn.Identity()
        if config.decoder_size is not None:
            self.decoder = Curve(config.decoder_size) if decoder else NoDecoder()
        self.head = toy.Scale(3.0)  # behind it, so that the order counts


def make(seed=0, **config):
    torch.manual_seed(seed)
    tok = ToyDecoder(Config(**config)).eval()
    tok.name = "toy_decoder.x"
    return tok
