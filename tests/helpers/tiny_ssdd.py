"""An SSDD of a few thousand numbers, all of which matter: what starts at zero is drawn as well."""

import torch

from zoo.components.autoencoder_kl import ConvConfig
from zoo.components.quantizers import parse
from zoo.families.ssdd import DecoderConfig, SSDDConfig, SSDDTokenizer

ENCODER = ConvConfig(block_channels=(8, 8, 12), layers_per_block=1, norm_groups=4)
DECODER = DecoderConfig(
    channels=8, multipliers=(1, 1, 2), num_layers=2, num_heads=2, layers_per_block=1, window=3, norm_groups=4
)
CONTINUOUS = SSDDConfig((16, 16), ENCODER, 3, parse({"kind": "gaussian", "dim": 3}), decoder=DECODER, steps=2)
FSQ = SSDDConfig((16, 16), ENCODER, 3, parse({"kind": "fsq", "levels": [8, 5, 5]}), decoder=DECODER, steps=2)


def make(config=CONTINUOUS, seed=0, **options):
    torch.manual_seed(seed)
    tokenizer = SSDDTokenizer(config, **options).eval()
    fill(tokenizer)
    return tokenizer


def fill(module):
    """Draw all weights so that every part of the arithmetic shows in the result."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if parameter.ndim == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
            else:
                parameter.normal_(std=0.5 if "table" in name else 0.7 * parameter[0].numel() ** -0.5)
