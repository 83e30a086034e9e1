"""The convolutional autoencoder of latent diffusion and VQGAN: the baseline of images."""

from zoo.families.autoencoder_kl.config import AutoencoderKLConfig
from zoo.families.autoencoder_kl.tokenizer import AutoencoderKLTokenizer

__all__ = ["AutoencoderKLConfig", "AutoencoderKLTokenizer"]
