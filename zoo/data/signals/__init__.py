"""The modalities: all that the library knows of speech, images, videos and actions, whatever tokenizer they are for.

Each has one file here, a subclass of `Signal`: layout, range, padding, the forms in which people have it, reading and
writing of its files, and what it is called on cards. Whoever has a `TokenSpec` asks `of(spec.modality)`.
"""

from zoo.data.signals.action import ActionSignal
from zoo.data.signals.base import Item, Options, Reading, Recording, Signal
from zoo.data.signals.image import ImageSignal
from zoo.data.signals.speech import SpeechSignal
from zoo.data.signals.video import VideoSignal
from zoo.spec import MODALITIES

__all__ = ["Item", "Options", "Reading", "Recording", "Signal", "of"]

_SIGNALS: dict[str, Signal] = {
    signal.name: signal for signal in (SpeechSignal(), ImageSignal(), VideoSignal(), ActionSignal())
}


def of(modality: str) -> Signal:
    """Return what is known of a modality.

    Raises:
        ValueError: There is no such modality.
    """
    if modality not in _SIGNALS:
        raise ValueError(f"modality must be one of {', '.join(MODALITIES)}, got {modality!r}.")
    return _SIGNALS[modality]
