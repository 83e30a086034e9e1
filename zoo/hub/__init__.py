"""The Hugging Face Hub: addresses, verified downloads, publishing, and the cards that are published."""

from __future__ import annotations

from zoo.hub.client import CARD, HubLocation, PushResult, Snapshot, complete, download, parse_uri, push

__all__ = ["CARD", "HubLocation", "PushResult", "Snapshot", "complete", "download", "parse_uri", "push"]
