"""A causal prior over code vectors, which trains a tokenizer to be predictable, and the transformer that it is made of.

prior = CodePrior(CodePriorConfig(dim=16))
loss = prior.loss(quantized.codes, quantized.ids, quantizer.vectors(), replaced=replacement_rate(step, num_steps))
"""

from zoo.components.prior.causal import Cache, CausalConfig, CausalStack, CausalTransformer
from zoo.components.prior.codes import CodePrior, CodePriorConfig, replacement_rate
from zoo.components.prior.sampling import draw_ids

__all__ = [
    "Cache",
    "CausalConfig",
    "CausalStack",
    "CausalTransformer",
    "CodePrior",
    "CodePriorConfig",
    "draw_ids",
    "replacement_rate",
]
