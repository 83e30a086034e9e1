"""Causal token priors: small GPTs that say how probable the next code is.

prior = TokenPrior(TokenPriorConfig(codebook_size=8192))       # over ids: how predictable is a tokenizer?
log_probs = prior.log_prob(ids, lengths)
bits_per_token(log_probs, lengths), bits_by_position(log_probs, lengths)
ids = prior.generate(256, generator=generator, top_k=100)

prior = CodePrior(CodePriorConfig(dim=16))                     # over vectors: trains a tokenizer to be predictable
loss = prior.loss(quantized.codes, quantized.ids, quantizer.vectors(), replaced=replacement_rate(step, num_steps))
"""

from zoo.components.token_prior.bits import bits_by_position, bits_per_token
from zoo.components.token_prior.causal import Cache, CausalConfig, CausalTransformer
from zoo.components.token_prior.codes import CodePrior, CodePriorConfig, replacement_rate
from zoo.components.token_prior.ids import TokenPrior, TokenPriorConfig
from zoo.components.token_prior.sampling import draw_ids

__all__ = [
    "Cache",
    "CausalConfig",
    "CausalTransformer",
    "CodePrior",
    "CodePriorConfig",
    "TokenPrior",
    "TokenPriorConfig",
    "bits_by_position",
    "bits_per_token",
    "draw_ids",
    "replacement_rate",
]
