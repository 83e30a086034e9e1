"""Transformers over named groups of tokens, which learned queries read or are filled in by."""

from zoo.components.query.decoder import QueryDecoder, QueryDecoderConfig
from zoo.components.query.encoder import QueryEncoder, QueryEncoderConfig
from zoo.components.query.groups import GroupTransformer, GroupTransformerConfig, TokenGroup, group_mask

__all__ = [
    "GroupTransformer",
    "GroupTransformerConfig",
    "QueryDecoder",
    "QueryDecoderConfig",
    "QueryEncoder",
    "QueryEncoderConfig",
    "TokenGroup",
    "group_mask",
]
