"""An autoregressive model over the ids of any tokenizer: how predictable are they, and what comes next?

generator = zoo.load_generator("larp.L_long_ar")
tokens = generator.sample(labels=[3, 17], sampling=Sampling(guidance=1.25))
clips = zoo.load("larp.L_long").decode(tokens)

prefix = first_frames(tokenizer, clips, num_condition=5)    # of a generator that continues clips
tokens = zoo.load_generator("larp.L_long_ar_fp").sample(prefix=prefix)

log_probs = generator.log_prob(ids, lengths)
bits_per_token(log_probs, lengths), bits_by_position(log_probs, lengths)
"""

from zoo.generator.bits import bits_by_position, bits_of_items, bits_per_token
from zoo.generator.condition import first_frames
from zoo.generator.config import PRESETS, GeneratorConfig, preset
from zoo.generator.model import TokenGenerator
from zoo.generator.sampling import Sampling, check_classes, generate

__all__ = [
    "PRESETS",
    "GeneratorConfig",
    "Sampling",
    "TokenGenerator",
    "bits_by_position",
    "bits_of_items",
    "bits_per_token",
    "check_classes",
    "first_frames",
    "generate",
    "preset",
]
