"""What families derive from, a file a modality; the facts of the modalities themselves are in `zoo.data.signals`."""

from zoo.modalities.action import ActionTokenizer
from zoo.modalities.image import ImageTokenizer
from zoo.modalities.speech import SegmentedSpeechTokenizer, SpeechTokenizer
from zoo.modalities.video import VideoTokenizer

__all__ = ["ActionTokenizer", "ImageTokenizer", "SegmentedSpeechTokenizer", "SpeechTokenizer", "VideoTokenizer"]
