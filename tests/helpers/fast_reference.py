"""FAST written a second time."""

import json

import numpy as np
import scipy.fft
import torch
from tokenizers import ByteLevelBPETokenizer
from tokenizers.trainers import BpeTrainer

T, D = 20, 5


class Reference:
    """The released processor as its description gives it: scipy's transform, characters, byte-level BPE."""

    def __init__(self, bpe, min_token, scale=10):
        self.bpe, self.min_token, self.scale = bpe, min_token, scale

    @classmethod
    def fit(cls, chunks, vocab_size=1024, scale=10):
        integers = [np.around(scipy.fft.dct(c, axis=0, norm="ortho") * scale).flatten().astype(int) for c in chunks]
        low, high = min(i.min() for i in integers), max(i.max() for i in integers)
        bpe = ByteLevelBPETokenizer()
        trainer = BpeTrainer(
            vocab_size=vocab_size,
            min_frequency=2,
            show_progress=False,
            special_tokens=[],
            initial_alphabet=[chr(i) for i in range(high - low + 1)],
            max_token_length=10000,
        )
        bpe._tokenizer.train_from_iterator(["".join(map(chr, i - low)) for i in integers], trainer=trainer)
        return cls(bpe, int(low), scale)

    def integers(self, chunk):
        return np.around(scipy.fft.dct(chunk, axis=0, norm="ortho") * self.scale).astype(int)

    def encode(self, chunk):
        codes = np.maximum(self.integers(chunk).flatten() - self.min_token, 0)
        return self.bpe.encode("".join(map(chr, codes))).ids

    def decode(self, ids, shape):
        codes = np.array([ord(c) for c in self.bpe.decode(ids)]) + self.min_token
        if codes.size != shape[0] * shape[1]:
            return np.zeros(shape)
        return scipy.fft.idct(codes.reshape(shape) / self.scale, axis=0, norm="ortho")

    def save(self, folder, **facts):
        folder.mkdir()
        self.bpe.save(str(folder / "tokenizer.json"))
        config = {"scale": self.scale, "vocab_size": 1024, "min_token": self.min_token}
        config |= {"action_dim": None, "time_horizon": None, "auto_map": {"AutoProcessor": "x.y"}, **facts}
        (folder / "processor_config.json").write_text(json.dumps(config))
        return folder


def smooth(num, steps=T, dofs=D, seed=0):
    """Sums of a few slow sines: normalised actions, up to a few units."""
    rng = np.random.default_rng(seed)
    t = np.linspace(0, 1, steps)[None, :, None]
    x = rng.normal(size=(num, 1, dofs)) * 0.5
    for k in (1, 2, 3):
        x = x + 0.6**k * rng.normal(size=(num, 1, dofs)) * np.sin(np.pi * k * t + 6.3 * rng.random((num, 1, dofs)))
    return torch.from_numpy((x / 1.5).astype(np.float32))
