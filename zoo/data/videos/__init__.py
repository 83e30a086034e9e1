"""Videos for training: folders, class folders, manifests and tar shards, cut into clips where they are read."""

from zoo.data.videos.module import VideoBatch, VideoClips, VideoData

__all__ = ["VideoBatch", "VideoClips", "VideoData"]
