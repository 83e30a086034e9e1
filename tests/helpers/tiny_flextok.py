"""A FlexTok of a few thousand numbers, all of which matter: what starts at zero is drawn as well."""

import torch

from zoo.components.autoencoder_kl import ConvConfig
from zoo.families.flextok import FlexTokConfig, FlexTokTokenizer, TrunkConfig

CONFIG = FlexTokConfig(
    image_size=16,
    autoencoder=ConvConfig(block_channels=(8, 12), layers_per_block=1, norm_groups=4),
    latent_channels=3,
    scaling_factor=0.7,
    num_tokens=8,
    encoder=TrunkConfig(depth=2, width=24, head_dim=12),
    decoder=TrunkConfig(depth=2, width=32, head_dim=8),
    steps=3,
    guidance=2.0,
)


def make(config=CONFIG, seed=0, **options):
    torch.manual_seed(seed)
    tokenizer = FlexTokTokenizer(config, **options).eval()
    with torch.no_grad():
        for parameter in tokenizer.parameters():
            if not parameter.any():
                parameter.normal_(std=0.3)
        tokenizer.encoder.resampler.registers.project.weight.normal_(std=0.5)
    return tokenizer


def picture(seed=0):
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed))
