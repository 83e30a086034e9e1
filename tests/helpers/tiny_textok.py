"""A TexTok of a few thousand numbers, all of which matter, and a text encoder that needs no weights."""

from dataclasses import replace

import torch

from zoo.components.quantizers import FSQConfig
from zoo.components.text import PrecomputedConfig, TextEncoder, digest
from zoo.families.textok import TexTokConfig, TexTokTokenizer, TrunkConfig

DIM = 6
CONFIG = TexTokConfig(
    image_size=16,
    patch_size=4,
    num_tokens=5,
    encoder=TrunkConfig(depth=1, width=16, num_heads=2, mlp_ratio=2.0),
    decoder=TrunkConfig(depth=1, width=12, num_heads=3, mlp_ratio=2.0),
    quantizer=FSQConfig((8, 5, 5)),
    text=PrecomputedConfig(DIM),
    text_len=8,
    null_rate=0.1,
)


class WordStates(TextEncoder):
    """Captions → a state a word, which depends on the word and its place, between two marks."""

    def __init__(self, dim=DIM, max_length=8, cache=None):
        super().__init__("words", dim, max_length, cache)
        self.asked = []

    def _count(self, caption):
        return len(caption.split()) + 2

    def _states(self, caption):
        self.asked.append(caption)
        words = ["<", *caption.split(), ">"]
        seeds = [int(digest(f"{place} {word}")[:12], 16) for place, word in enumerate(words)]
        return torch.stack([torch.randn(self.dim, generator=torch.Generator().manual_seed(seed)) for seed in seeds])


def make(config=CONFIG, seed=0, reads=True, **changes):
    torch.manual_seed(seed)
    tokenizer = TexTokTokenizer(replace(config, **changes)).eval()
    with torch.no_grad():
        for name, parameter in tokenizer.named_parameters():
            if parameter.ndim > 1 or not parameter.any() or name.endswith("null"):
                parameter.normal_(std=0.4)
    if reads and tokenizer.config.text_in != "none":
        tokenizer.text_encoder = WordStates(max_length=tokenizer.config.text_len)
    return tokenizer


def picture(seed=0):
    return torch.rand(3, 16, 16, generator=torch.Generator().manual_seed(seed))
