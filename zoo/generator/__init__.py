"""An autoregressive model over the ids of any tokenizer: how predictable are they, and what comes next?

prior = TokenPrior(TokenPriorConfig(codebook_size=8192))
log_probs = prior.log_prob(ids, lengths)
bits_per_token(log_probs, lengths), bits_by_position(log_probs, lengths)
ids = prior.generate(256, generator=generator, top_k=100)
"""

from zoo.generator.bits import bits_by_position, bits_per_token
from zoo.generator.model import TokenPrior, TokenPriorConfig

__all__ = ["TokenPrior", "TokenPriorConfig", "bits_by_position", "bits_per_token"]
