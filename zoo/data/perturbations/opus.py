"""What a telephone or the internet does to speech: a lossy codec.

STAB-style perturbations: specification of STAB (arXiv 2409.02384), section 4, an extension. Libopus, through FFmpeg,
does the work.
"""

from __future__ import annotations

import io
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import pad

from zoo.data.audio import change_rate
from zoo.data.perturbations.noise import Perturbation
from zoo.errors import ConfigError

__all__ = ["Opus"]

_RATES = (8000, 12000, 16000, 24000, 48000)
_OUTPUT = 48000  # what FFmpeg decodes to


@dataclass(frozen=True)
class Opus(Perturbation):
    """Encodes and decodes with Opus, aligned with the original; samples beyond -1…1 are clipped, as by any codec.

    Args:
        bit_rate: Bits a second, 6000..256000.
        sample_rate: Of waves, in Hz; one of those that Opus has.
    """

    bit_rate: float
    sample_rate: int = 16000

    def __post_init__(self) -> None:
        if not 6000 <= self.bit_rate <= 256_000 or self.sample_rate not in _RATES:
            raise ConfigError(
                f"Opus takes 6000..256000 bits a second of sound at {', '.join(map(str, _RATES))} Hz, got "
                f"{self.bit_rate!r} at {self.sample_rate!r}."
            )

    def apply(self, wave: Tensor, generator: torch.Generator | None) -> Tensor:
        """Encode and decode; nothing is random."""
        decoded = change_rate(_decode(self._encode(wave.cpu())), _OUTPUT, self.sample_rate)[: len(wave)]
        return pad(decoded, (0, len(wave) - len(decoded))).to(wave.device)

    def _encode(self, wave: Tensor) -> bytes:
        import av

        file = io.BytesIO()
        with av.open(file, "w", format="ogg", options={"fflags": "+bitexact"}) as container:
            stream = container.add_stream("libopus", rate=self.sample_rate)
            stream.layout = "mono"
            stream.bit_rate = round(self.bit_rate)
            samples = (wave.clamp(-1, 1) * 32767).round().to(torch.int16)[None].numpy()
            frame = av.AudioFrame.from_ndarray(samples, format="s16", layout="mono")
            frame.sample_rate = self.sample_rate
            for packet in (*stream.encode(frame), *stream.encode(None)):
                container.mux(packet)
        return file.getvalue()


def _decode(data: bytes) -> Tensor:
    """Return the samples at 48 kHz."""
    import av

    with av.open(io.BytesIO(data), "r") as container:
        pieces = [torch.from_numpy(frame.to_ndarray()).reshape(-1) for frame in container.decode(audio=0)]
    return torch.cat(pieces).float()
