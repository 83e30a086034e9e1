#!/usr/bin/env python3
"""Decoding of the same latents by SSDD in one step and by a convolutional decoder with as many parameters, in one run.

    python eval/benchmarks/image_decoders.py                                # nano, 64 × 64: seconds
    python eval/benchmarks/image_decoders.py --sizes M --turns 1            # 50 million parameters, 256 × 256
    python eval/benchmarks/image_decoders.py --sizes M --image 512 --dense  # and attention to all pairs
    python eval/benchmarks/image_decoders.py --sizes M --device cuda --batch 16

* conv: the decoder of latent diffusion's autoencoder (`zoo.components.autoencoder_kl`), M being Stable Diffusion's.
* SSDD, n steps: `SSDDDecoder` from given noise.
* dense: SSDD in one step with the bias of attention made for all pairs of tokens, as its formula has it, whose pictures
  must be the same to 1e-5; ours makes it a band of rows at a time.

Random weights. Best of several calls, taking turns. Memory is what the first call adds to the peak of the process.
Ratios are to conv; the goal is 0.7 of its time in one step.
"""

from __future__ import annotations

import argparse
import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from measuring import Calls, best, first
from torch import Tensor

import zoo
from zoo.components.autoencoder_kl import ConvConfig, ConvDecoder
from zoo.components.layers.windowed import WindowedBlock
from zoo.families.ssdd import SIZES, DecoderConfig
from zoo.families.ssdd.decoder import SSDDDecoder

# Channels of latents, SSDD's decoder, the convolutional one, and the side of a picture.
PAIRS = {
    "nano": (8, DecoderConfig(8, (1, 2, 5, 8), 4, 4, 1, norm_groups=4), ConvConfig((16, 32, 64, 80), 1, 8), 64),
    "M": (4, SIZES["M"], ConvConfig(), 256),
}
CLOSE = 1e-5


@contextmanager
def dense_bias() -> Iterator[None]:
    """Have attention see the bias of all pairs at once."""

    def forward(self: WindowedBlock, x: Tensor, grid: tuple[int, int], parts: dict[str, Tensor]) -> Tensor:
        return self.block.attend(x, *self.block.keys_values(x, parts), self.bias(grid), parts=parts)

    banded = WindowedBlock.forward
    WindowedBlock.forward = forward
    try:
        yield
    finally:
        WindowedBlock.forward = banded


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", choices=PAIRS, default="nano", help="of the decoders (%(default)s)")
    parser.add_argument("--image", type=int, help="side of a picture; that of the models if not given")
    parser.add_argument("--steps", type=int, nargs="+", default=[1, 8], help="of SSDD's flow (1 8)")
    parser.add_argument("--batch", type=int, default=1, help="pictures (%(default)s)")
    parser.add_argument("--turns", type=int, default=3, help="calls of each, after one more (%(default)s)")
    parser.add_argument("--threads", type=int, default=1, help="torch threads (%(default)s)")
    parser.add_argument("--device", default="cpu", help="where (%(default)s)")
    parser.add_argument("--dense", action="store_true", help="the bias of all pairs as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    device = torch.device(arguments.device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{arguments.threads} thread(s)"
    channels, config, conv_config, side = PAIRS[arguments.sizes]
    side = arguments.image or side
    torch.manual_seed(0)
    ssdd = SSDDDecoder(config, channels, channels).eval().to(device)
    conv = ConvDecoder(conv_config, channels).eval().to(device)
    for parameter in ssdd.parameters():  # what starts at zero would be skipped by nobody, and would hide a difference
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    counts = [sum(p.numel() for p in module.parameters()) for module in (ssdd, conv)]
    print(
        f"tokenizer-zoo {zoo.__version__}, torch {torch.__version__}, Python {platform.python_version()}, "
        f"{os.cpu_count()} cores, {where}, float32, batch {arguments.batch}, {side} × {side}, {counts[0]:,} parameters "
        f"of SSDD and {counts[1]:,} of conv"
    )
    latents = torch.randn(arguments.batch, channels, side // 8, side // 8, device=device)
    noise = torch.randn(arguments.batch, 3, side, side, device=device)
    compared: Calls = {"conv": lambda: conv(latents)}
    for steps in arguments.steps:
        compared[f"SSDD, {steps} steps"] = lambda steps=steps: ssdd(latents, noise, steps)

    def dense() -> Tensor:
        with dense_bias():
            return ssdd(latents, noise, 1)

    if arguments.dense:
        compared["dense, 1 steps"] = dense
    print(f"{'':16} {'seconds':>9} {'/ conv':>8} {'pictures/s':>10} {'MiB':>8} {'/ conv':>8}")
    with torch.inference_mode():
        made, times, memory = {}, {}, {}
        for name, call in compared.items():
            made[name], times[name], memory[name] = first(call, device)
        if arguments.dense and 1 in arguments.steps:
            off = float((made["dense, 1 steps"] - made["SSDD, 1 steps"]).abs().max())
            if off > CLOSE:
                raise SystemExit(f"attention in bands is not attention to all pairs: {off:.0e} off.")
        took = best(compared, times, arguments.turns, device)
    for name, seconds in took.items():
        print(
            f"{name:16} {seconds:9.4f} {seconds / took['conv']:8.2f} {arguments.batch / seconds:10.2f} "
            f"{memory[name]:8.0f} {memory[name] / max(memory['conv'], 1e-9):8.2f}"
        )


if __name__ == "__main__":
    main()
