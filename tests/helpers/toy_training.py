"""A tiny, complete family to train: action chunks through two small networks and any quantizer, on real actions.

`ToyChunks` is the tokenizer, `ToyTraining` trains it, `ToyData` reads the library's sample of MetaWorld. Both training
and reading draw random numbers, from every generator there is, so that a run that resumes inexactly shows.
"""

import os
import random
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import torch
from lightning.pytorch import Callback
from torch import nn

import zoo
from zoo.components.losses.adversarial import LeCam, discriminator_loss, generator_loss, r1_penalty
from zoo.components.quantizers import QuantizerConfig, build
from zoo.data.datamodule import DataModule
from zoo.errors import InputError
from zoo.spec import TokenSpec
from zoo.tokenizer import Tokenizer
from zoo.tokens import Tokens
from zoo.training import AdversarialModule, Picture, Reconstruction, TokenizerModule

SAMPLE = Path(zoo.__file__).parent / "data" / "samples" / "metaworld_expert.npz"
HORIZON, DOFS = 8, 4


@dataclass(frozen=True)
class ToyChunksConfig:
    quantizer: QuantizerConfig
    num_tokens: int = 4
    width: int = 32


class ToyChunks(Tokenizer):
    family = "toy_chunks"
    config_class = ToyChunksConfig

    def __init__(self, config):
        super().__init__(config)
        self.quantizer = build(config.quantizer)
        count, width, size = config.num_tokens, config.width, HORIZON * DOFS
        self.encoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(size, width),
            nn.GELU(),
            nn.Linear(width, count * self.quantizer.input_dim),
            nn.Unflatten(1, (count, self.quantizer.input_dim)),
        )
        self.decoder = nn.Sequential(
            nn.Flatten(),
            nn.Linear(count * self.quantizer.dim, width),
            nn.GELU(),
            nn.Linear(width, size),
            nn.Unflatten(1, (HORIZON, DOFS)),
        )
        self.spec = TokenSpec(
            "action",
            self.quantizer.codebook_size,
            self.quantizer.num_codebooks,
            num_tokens=count,
            input_size=(HORIZON, DOFS),
        )

    @torch.no_grad()
    def encode(self, x, lengths=None):
        x, lengths = self.as_batch(x, lengths)
        if lengths is not None or tuple(x.shape[1:]) != (HORIZON, DOFS):
            raise InputError(f"{self.name} takes (B, {HORIZON}, {DOFS}), got {tuple(x.shape)}.")
        ids = self.quantizer.ids(torch.cat([self.encoder(item[None]) for item in x]))
        return Tokens(ids, torch.full((len(ids),), ids.shape[1]), self.spec.codebook_size, self.name)

    @torch.no_grad()
    def decode(self, tokens, lengths=None):
        return self.decoder(self.quantizer.codes(self.as_tokens(tokens, lengths).ids))

    def num_tokens(self, length):
        return self.config.num_tokens

    def output_lengths(self, tokens):
        return torch.full_like(tokens.lengths, HORIZON)


class ToyTraining(TokenizerModule):
    """Reconstruction, and the same under noise.

    Args:
        noise: Its standard deviation.
    """

    family = "toy_chunks"
    default_weights: ClassVar = {"reconstruction": 1.0, "noisy": 0.1}

    def __init__(self, noise: float = 0.02, **kwargs):
        super().__init__(**kwargs)
        self.noise = noise

    def losses(self, batch):
        tok = self.tokenizer
        quantized = tok.quantizer(tok.encoder(batch))
        noise = torch.randn_like(batch) * self.noise * (1 + random.random() + np.random.rand())  # noqa: NPY002
        noisy = tok.quantizer(tok.encoder(batch + noise)).codes
        return {
            "reconstruction": (tok.decoder(quantized.codes) - batch).square().mean(),
            "noisy": (tok.decoder(noisy) - batch).square().mean(),
            **self.quantizer_losses(quantized),
        }

    def media(self, batch):
        tok = self.tokenizer
        both = torch.cat([batch[0], tok.decoder(tok.quantizer(tok.encoder(batch[:1])).codes)[0]], 1)
        return {"chunk and reconstruction": Picture((both[None] + 1) / 2)}


class ToyAdversarial(AdversarialModule):
    """Reconstruction, and a discriminator with all that may hold state or draw random numbers.

    Args:
        label_noise: Scale of what the discriminator's labels are softened by.
    """

    family = "toy_chunks"
    default_weights: ClassVar = {
        "reconstruction": 1.0,
        "adversarial": 0.1,
        "discriminator": 1.0,
        "lecam": 0.1,
        "r1": 0.1,
    }

    def __init__(self, label_noise: float = 0.15, **kwargs):
        super().__init__(**kwargs)
        self.label_noise = label_noise
        self.lecam = LeCam(0.9)

    def build_discriminator(self, values):
        size = HORIZON * DOFS
        return nn.Sequential(nn.Flatten(), nn.Linear(size, values["width"]), nn.SiLU(), nn.Linear(values["width"], 1))

    def reconstruct(self, batch):
        quantized = self.tokenizer.quantizer(self.tokenizer.encoder(batch))
        made = self.tokenizer.decoder(quantized.codes)
        losses = {"reconstruction": (made - batch).square().mean(), **self.quantizer_losses(quantized)}
        return Reconstruction(losses, batch, made)

    def discriminator_losses(self, pair):
        real = pair.real.detach().requires_grad_()
        of_real, of_made = self.discriminator(real), self.discriminator(pair.made)
        return {
            "discriminator": discriminator_loss([of_real], [of_made], "non_saturating", label_noise=self.label_noise),
            "lecam": self.lecam(of_real, of_made),
            "r1": r1_penalty(of_real, real),
        }

    def adversarial_losses(self, pair):
        return {"adversarial": generator_loss([self.discriminator(pair.made)], "non_saturating")}


class Chunks(torch.utils.data.Dataset):
    """All chunks of the sample that start at a multiple of `stride`, each a little changed at random."""

    def __init__(self, stride):
        with np.load(SAMPLE) as archive:
            actions = torch.from_numpy(archive["actions"]).clamp(-1, 1)
        self.chunks = actions.unfold(0, HORIZON, stride).transpose(1, 2).contiguous()

    def __len__(self):
        return len(self.chunks)

    def __getitem__(self, index):
        jitter = random.uniform(0.99, 1) * np.random.uniform(0.99, 1) * (1 - 0.01 * torch.rand(()))  # noqa: NPY002
        return self.chunks[index] * jitter.float()


class ToyData(DataModule):
    """Chunks of the sample.

    Args:
        stride: Steps from one chunk to the next.
    """

    def __init__(self, stride: int = 2, **kwargs):
        super().__init__(**kwargs)
        self.stride = stride

    def dataset(self, split):
        return Chunks(self.stride if split == "train" else 16)


class SignalAt(Callback):
    """Sends the process a signal when a batch is about to be trained on.

    Args:
        batch: Number of the batch, from 0, over all epochs.
        number: The signal.
        rank: Of the process in a distributed run.
    """

    def __init__(self, batch: int, number: int = signal.SIGKILL, rank: int | None = None):
        self.batch, self.number, self.rank = batch, number, rank

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.fit_loop.total_batch_idx == self.batch and self.rank in (None, trainer.global_rank):
            os.kill(os.getpid(), self.number)


class KeepWeights(Callback):
    """Writes the weights that each process of a run ends with to a file of its own, `rank-R.pt`.

    Args:
        folder: Where.
    """

    def __init__(self, folder: str):
        self.folder = Path(folder)

    def on_train_end(self, trainer, pl_module):
        torch.save(pl_module.state_dict(), self.folder / f"rank-{trainer.global_rank}.pt")
