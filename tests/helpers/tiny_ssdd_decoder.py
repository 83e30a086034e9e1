"""An SSDD decoder of a few thousand numbers for the tiny FlexTok."""

import tiny_flextok
import torch
from tiny_ssdd import DECODER, fill

import zoo
from zoo.families.ssdd_decoder import LayoutConfig, SourceConfig, SSDDDecoderConfig, SSDDDecoderTokenizer

SOURCE = SourceConfig("flextok", zoo.config.to_dict(tiny_flextok.CONFIG), "flextok.tiny")
CONFIG = SSDDDecoderConfig(SOURCE, (16, 16), (4, 4), 3, LayoutConfig(1, 8, 2), DECODER, steps=2)


def make(config=CONFIG, source=None, **options):
    source = tiny_flextok.make() if source is None else source
    torch.manual_seed(0)
    tokenizer = SSDDDecoderTokenizer(config, **options).eval()
    fill(tokenizer.decoder)
    own = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("decoder.")}
    tokenizer.encoder.load_state_dict(own)
    return tokenizer
