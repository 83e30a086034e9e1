"""`zoo.push`: from a tokenizer, or a generator over ids, to a repository of the Hub."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from zoo import checkpoint
from zoo.hub import client
from zoo.hub.card import kind_of, write_card
from zoo.stored import Stored

__all__ = ["push"]


def push(tokenizer: Stored, repo_id: str, **options: Any) -> client.PushResult:
    """Publish a tokenizer or a generator on the Hub: a checkpoint, with a card if the repository has none.

    Args:
        tokenizer: What to publish. A generator names the tokenizer of its ids, which is published apart.
        repo_id: The repository, `owner/repo`.
        options: See `zoo.hub.push`.

    Raises:
        NotFittedError: The tokenizer is not usable yet.
        HubError: The Hub cannot be reached or refuses.
    """
    options.setdefault("message", f"Upload {kind_of(tokenizer)}")
    with tempfile.TemporaryDirectory() as scratch:
        folder = checkpoint.save(tokenizer, Path(scratch) / "checkpoint")
        write_card(tokenizer, folder, repo_id)
        return client.push(folder, repo_id, **options)
