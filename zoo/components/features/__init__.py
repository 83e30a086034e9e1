"""Frozen networks behind one interface: what a loss compares and what a metric measures are the same features.

`TimmNetwork` has any model of timm, `STLPIPS` the perceptual distance whose backbone comes in a package, and
`WhisperStates` what a speech recogniser hears. `zoo.components.losses.perceptual` and `zoo.metrics.feature_distance`
take any of them.
"""

from zoo.components.features.base import FeatureNetwork, ImageInput
from zoo.components.features.build import build
from zoo.components.features.st_lpips import STLPIPS
from zoo.components.features.timm_network import TimmNetwork
from zoo.components.features.whisper_states import WhisperStates

__all__ = ["STLPIPS", "FeatureNetwork", "ImageInput", "TimmNetwork", "WhisperStates", "build"]
