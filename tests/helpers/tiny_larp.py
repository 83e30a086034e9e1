"""A LARP of a few thousand numbers, all of which matter: what starts at zero is drawn as well."""

import torch

from zoo.components.quantizers import StochasticVQConfig
from zoo.families.larp import LARPConfig, LARPTokenizer, TrunkConfig

CONFIG = LARPConfig(
    num_frames=4,
    image_size=8,
    temporal_patch_size=2,
    patch_size=4,
    num_tokens=6,
    encoder=TrunkConfig(depth=1, width=16, num_heads=2),
    decoder=TrunkConfig(depth=1, width=12, num_heads=3),
    quantizer=StochasticVQConfig(32, 4),
)


def make(config=CONFIG, seed=0, **options):
    torch.manual_seed(seed)
    tokenizer = LARPTokenizer(config, **options).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
        tokenizer.encoder.queries.queries.normal_(std=1.0)
    return tokenizer


def clip(seed=0, frames=4):
    return torch.rand(3, frames, 8, 8, generator=torch.Generator().manual_seed(seed))
