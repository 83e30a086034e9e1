"""`zoo.push`: from a tokenizer to a repository of the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from zoo import checkpoint
from zoo.hub import client
from zoo.hub.card import write_card
from zoo.tokenizer import Tokenizer

__all__ = ["push"]


def push(tokenizer: Tokenizer, repo_id: str, **options: Any) -> client.PushResult:
    """Publish a tokenizer on the Hub: a checkpoint, with a card if the repository has none.

    Args:
        tokenizer: What to publish.
        repo_id: The repository, `owner/repo`.
        options: See `zoo.hub.push`.

    Raises:
        NotFittedError: The tokenizer is not usable yet.
        HubError: The Hub cannot be reached or refuses.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint.save(tokenizer, Path(scratch) / "checkpoint")
        write_card(tokenizer, folder, repo_id)
        return client.push(folder, repo_id, **options)
