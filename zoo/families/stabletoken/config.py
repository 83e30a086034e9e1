"""The settings of a StableToken tokenizer, and the published sizes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from zoo import config as configs
from zoo.components.quantizers import QuantizerConfig, VotingLFQConfig
from zoo.errors import ConfigError
from zoo.families.stabletoken.decoder import DecoderConfig

__all__ = ["PRESETS", "StableTokenConfig"]

_STEM_STRIDE = 2
_MAX_TABLE = 2**25  # values; the published model has 2 million


@dataclass(frozen=True)
class StableTokenConfig:
    """Settings of a StableToken tokenizer. The defaults are those of the published model.

    Args:
        d_model: Width of the encoder, D.
        num_heads: Attention heads, a divisor of D.
        ffn_size: Width inside the layers' MLPs.
        num_layers: Encoder layers before the quantizer.
        num_layers_after: Encoder layers after it, which only the speech recognition of training has.
        num_mel: Mel bands, M.
        sample_rate: Hz.
        n_fft: Samples in one spectral frame.
        hop_length: Samples from one mel frame to the next.
        max_positions: Frames in a segment after the convolutions, which halve the mel's rate: 1500 are 30 s. Longer
            speech is cut into such segments.
        pooling_kernel: Frames that are pooled into one token.
        pooling_type: Their mean (`avg`) or their largest value (`max`).
        pooling_position: After which layer, counted from 1.
        quantizer: Any quantizer with ids. The published one is `voting_lfq` of 5 branches that vote, an odd number, so
            that there are no ties, and see a noisy signal in training but for a majority. Where its vectors are not D
            wide, the encoder ends in a projection to their width.
        causal_convolution: Whether the convolutions see the past alone; attention sees the whole segment anyway.
        stored_positions: Whether the position table is part of the weights, as in the released files, instead of
            computed: Whisper's sines and cosines.
        attention_reach: If a number, there is no position table, and every row of a layer attends to that many rows on
            each side of it, with a learned bias for each head and distance: tokens then depend on the speech around
            them alone, not on where in a segment it stands. Not in the paper. If None, Whisper's encoder: the table,
            and attention to the whole segment.
        decoder: What turns tokens back into speech; None if nothing does.
    """

    d_model: int = 1280
    num_heads: int = 20
    ffn_size: int = 5120
    num_layers: int = 16
    num_layers_after: int = 16
    num_mel: int = 128
    sample_rate: int = 16000
    n_fft: int = 400
    hop_length: int = 160
    max_positions: int = 1500
    pooling_kernel: int = 2
    pooling_type: Literal["avg", "max"] = "avg"
    pooling_position: int = 16
    quantizer: QuantizerConfig = VotingLFQConfig(dim=1280)  # noqa: RUF009  (frozen)
    causal_convolution: bool = False
    stored_positions: bool = False
    attention_reach: int | None = None
    decoder: DecoderConfig | None = None

    def __post_init__(self) -> None:
        configs.check_fields(self, "StableToken")
        configs.check_positive(self, "StableToken", signed=("num_layers_after",))
        # Tables that are computed: of positions, and of mel bands over frequencies.
        configs.check_product(self, "StableToken", ("max_positions", "d_model"), _MAX_TABLE)
        configs.check_product(self, "StableToken", ("num_mel", "n_fft"), _MAX_TABLE)
        self._require(self.num_layers_after >= 0, f"num_layers_after must be 0 or more, got {self.num_layers_after}")
        self._require(
            self.d_model % self.num_heads == 0,
            f"d_model must be a multiple of num_heads, got {self.d_model} and {self.num_heads}",
        )
        self._require(
            self.d_model % 2 == 0 and self.d_model >= 4,
            f"d_model must be even and at least 4, for sines and cosines, got {self.d_model}",
        )
        self._require(
            1 <= self.pooling_position <= self.num_layers,
            f"pooling_position must be a layer before the quantizer, 1 … {self.num_layers}, got "
            f"{self.pooling_position}",
        )
        self._require(
            self.attention_reach is None or not self.stored_positions,
            "stored_positions is of a position table, and with attention_reach there is none",
        )
        self._require(
            self.attention_reach is None or self.attention_reach >= self.pooling_kernel,
            f"attention_reach must be at least pooling_kernel = {self.pooling_kernel}, so that the end of the last "
            f"token sees its beginning, got {self.attention_reach}",
        )
        self._require(
            self.max_positions % self.pooling_kernel == 0,
            f"max_positions must be a multiple of pooling_kernel, so that segments end where tokens do, got "
            f"{self.max_positions} and {self.pooling_kernel}",
        )
        self._require(
            self.quantizer.kind not in ("none", "gaussian"), f"tokens need ids, and {self.quantizer.kind!r} has none"
        )
        if isinstance(self.quantizer, VotingLFQConfig):
            voters, clean = self.quantizer.num_voters, self.quantizer.num_clean
            self._require(voters % 2 == 1, f"num_voters must be odd, or votes could be tied, got {voters}")
            self._require(
                voters < 2 * clean <= 2 * voters,
                f"num_clean must be a majority of the {voters} voters and at most all, got {clean}",
            )
            self._require(
                self.quantizer.dim == self.d_model,
                f"the dim of voting_lfq, which projects by itself, must be d_model = {self.d_model}, got "
                f"{self.quantizer.dim}",
            )
        self._require(
            self.hop_length <= self.n_fft <= 2 * self.token_samples,
            f"n_fft must be at least hop_length = {self.hop_length} and, since the shortest input is padded to one "
            f"token and then mirrored at its ends, at most {2 * self.token_samples}, got {self.n_fft}",
        )
        self._require(
            self.decoder is None or self.decoder.token_rate * self.token_samples == self.sample_rate,
            f"the decoder must have the token_rate of the encoder, {self.sample_rate / self.token_samples:g} tokens a "
            f"second, got {getattr(self.decoder, 'token_rate', None)}",
        )

    @property
    def frames_per_token(self) -> int:
        """Mel frames in a token."""
        return _STEM_STRIDE * self.pooling_kernel

    @property
    def token_samples(self) -> int:
        """Samples in a token."""
        return self.frames_per_token * self.hop_length

    @property
    def segment_samples(self) -> int:
        """Samples in the longest stretch that is encoded at once."""
        return self.max_positions * _STEM_STRIDE * self.hop_length

    @staticmethod
    def _require(condition: bool, message: str) -> None:
        if not condition:
            raise ConfigError(f"StableToken: {message}.")


PRESETS = {
    # The published model: the first half of Whisper-large-v3's encoder.
    "large": StableTokenConfig(),
    # The same from Whisper tiny.en: 384 wide, the first 2 of 4 layers.
    "nano": StableTokenConfig(
        d_model=384,
        num_heads=6,
        ffn_size=1536,
        num_layers=2,
        num_layers_after=2,
        num_mel=80,
        pooling_position=2,
        quantizer=VotingLFQConfig(dim=384),
    ),
}
"""Published and small sizes by name."""
