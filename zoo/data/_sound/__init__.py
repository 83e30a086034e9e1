"""What stands behind `zoo.data.audio` and `zoo.data.blocks`: which parts a sound file has, and decoding them.

`parts` looks at the container alone and finds what decoders keep to themselves: that a file ends early, that several
were joined, that a header does not say how long the sound is. `decoders` then decodes each part, block by block.
"""
