"""How good speech sounds, as published judges have it, who compare with the recording or hear the speech alone.

Each judge is a package of its own, loaded when it is first asked. Those that install everywhere are in the extra
`eval`; errors say how to get the others. None of them hears words: see `zoo.metrics.speech.transcription`.

| judge | package | compares | range, good is high |
|---|---|---|---|
| `stoi` | pystoi | envelopes of bands with the recording's | about 0 … 1 |
| `pesq` | pesq | loudness with the recording's, aligned | 1.04 … 4.64 (ITU-T P.862.2, wide band) |
| `dnsmos` | speechmos, onnxruntime | nothing | 1 … 5 (P.835 overall) |
| `distill_mos` | distillmos, xls-r-sqa | nothing | 1 … 5 |
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import math
import warnings
from functools import lru_cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from zoo.errors import InputError, MissingExtraError
from zoo.metrics.speech.resynthesis import check_pair

__all__ = [
    "distill_mos",
    "dnsmos",
    "pesq",
    "stoi",
]

_EXTRA = "pip install 'tokenizer-zoo[eval]'"
_ALONE = "pip install --no-deps"
_MOS_RATE = 16000
_DNS_SECONDS = 9.01  # what the network takes
# The network's overall score → the raters' (P.835), as published with it.
_DNS_OVERALL = (-0.06766283, 1.11546468, 0.04602535)


def stoi(decoded: Tensor, recording: Tensor, sample_rate: int) -> float:
    """Return how intelligible speech is, by the short-time envelopes of its bands (STOI; Taal et al. 2011).

    Made for one voice in noise: a decoder with a voice of its own is judged too hard.

    Args:
        decoded: (samples,).
        recording: (samples,), as many.
        sample_rate: Hz.

    Returns:
        1 if both are equal; NaN if less than 0.4 s of the recording is louder than 40 dB below its loudest, of which
        nothing can be said.

    Raises:
        InputError: The waves differ in length, are empty, or not finite.
        MissingExtraError: pystoi is not installed.
    """
    check_pair(decoded, recording, sample_rate)
    package = _package("pystoi", "STOI", _EXTRA)
    with warnings.catch_warnings():
        warnings.filterwarnings("error", message="Not enough STFT frames")
        try:
            return float(package.stoi(_array(recording), _array(decoded), sample_rate, extended=False))
        except RuntimeWarning:
            return math.nan


def pesq(decoded: Tensor, recording: Tensor, sample_rate: int) -> float:
    """Return the quality of speech by the loudness that an ear would feel (PESQ; ITU-T P.862.2, wide band).

    Made for telephones and codecs that keep the voice: a decoder with a voice of its own is judged too hard.

    Args:
        decoded: (samples,).
        recording: (samples,), as many.
        sample_rate: Hz, 16000: the standard has no other.

    Returns:
        4.64 if both are equal, 1.04 at worst; NaN if there is no speech in one of them, or less than 0.25 s.

    Raises:
        InputError: The waves differ in length, are empty, not finite or at another rate.
        MissingExtraError: pesq is not installed. It is not in the extra, since it has to be compiled.
    """
    check_pair(decoded, recording, sample_rate)
    _require_rate("PESQ", sample_rate)
    package = _package("pesq", "PESQ", "pip install pesq, which needs a C compiler")
    if not (bool(decoded.any()) and bool(recording.any())):
        return math.nan  # the package divides by the level
    try:
        return float(package.pesq(sample_rate, _array(recording), _array(decoded), "wb"))
    except (package.NoUtterancesError, package.BufferTooShortError):
        return math.nan


def dnsmos(wave: Tensor, sample_rate: int) -> float:
    """Return the quality that a network expects raters to find in a noisy call (DNSMOS P.835, overall; Reddy 2022).

    As published: windows of 9.01 s every second, their mean; shorter sound is repeated.

    Args:
        wave: (samples,) in -1…1.
        sample_rate: Hz, 16000.

    Returns:
        About 1 … 5.

    Raises:
        InputError: The wave is empty, not finite, louder than 1, or at another rate.
        MissingExtraError: speechmos or onnxruntime is not installed.
    """
    check_pair(wave, wave, sample_rate)
    _require_rate("DNSMOS", sample_rate)
    if float(wave.abs().max()) > 1:
        raise InputError(f"DNSMOS takes samples in -1…1, got {float(wave.abs().max()):g}: scale or clamp them.")
    network = _dnsmos_network()
    samples = _array(wave).astype(np.float32)
    size = int(_DNS_SECONDS * sample_rate)
    while len(samples) < size:
        samples = np.concatenate([samples, samples])
    starts = range(0, len(samples) - size + 1, sample_rate)
    # One after another: a batch would need memory, and takes as long.
    raw = [network.run(None, {"input_1": samples[None, start : start + size]})[0][0][2] for start in starts]
    return float(np.polyval(_DNS_OVERALL, np.array(raw, dtype=np.float64)).mean())


def distill_mos(wave: Tensor, sample_rate: int) -> float:
    """Return the quality that a small network expects raters to find (DistillMOS; Stahl and Gamper 2025).

    Args:
        wave: (samples,). Its level makes no difference.
        sample_rate: Hz, 16000.

    Returns:
        1 … 5.

    Raises:
        InputError: The wave is empty, not finite or at another rate.
        MissingExtraError: distillmos or xls-r-sqa is not installed.
    """
    check_pair(wave, wave, sample_rate)
    _require_rate("DistillMOS", sample_rate)
    with torch.no_grad():
        return float(_distill_mos_network()(wave.detach().to("cpu", torch.float32)[None]))


def _array(wave: Tensor) -> NDArray[np.float64]:
    return wave.detach().cpu().double().numpy()


def _require_rate(judge: str, sample_rate: int) -> None:
    if sample_rate != _MOS_RATE:
        raise InputError(f"{judge} takes speech at {_MOS_RATE} Hz, got {sample_rate} Hz: resample it first.")


def _package(name: str, judge: str, install: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise MissingExtraError(f"{judge} needs the package {name}: {install}.") from error


@lru_cache(1)
def _dnsmos_network() -> Any:
    """Return the session of the network in speechmos, whose own code needs librosa for a score not used here."""
    runtime = _package("onnxruntime", "DNSMOS", _EXTRA)
    found = importlib.util.find_spec("speechmos")
    if found is None or found.origin is None:
        raise MissingExtraError(f"DNSMOS needs the weights in the package speechmos: {_EXTRA}.")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    path = Path(found.origin).parent / "dnsmos_models" / "sig_bak_ovr.onnx"
    return runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@lru_cache(1)
def _distill_mos_network() -> Any:
    package = _package("distillmos", "DistillMOS", f"{_ALONE} distillmos==0.9.1 xls-r-sqa==0.1.0")
    with contextlib.redirect_stdout(io.StringIO()):  # it prints where its weights are
        return package.ConvTransformerSQAModel().eval()
