"""Metrics fed in two processes, one of which may have nothing, must equal one that has seen everything."""

from __future__ import annotations

import torch


def agree(make, parts):
    """Check that a metric does not mind in which of two processes it sees what, and how often it is asked.

    Args:
        make: Makes the metric, takes the options of a `torchmetrics.Metric`.
        parts: Functions that feed it, in order.
    """
    whole = make()
    for part in parts:
        part(whole)
    wanted = whole.compute()
    for first in (0, 1, len(parts)):
        here, there = make(), make()
        for number, part in enumerate(parts):
            part(here if number < first else there)
        _same(_synchronised(make, here, there), wanted)
        if first:
            here.merge_state(there)
            _same(here.compute(), wanted)
    whole.reset()
    for part in parts:
        part(whole)
    _same(whole.compute(), wanted)
    return wanted


def _synchronised(make, here, there):
    """Return the result of torchmetrics' own synchronisation, a second metric standing in for the other process."""
    sent = []
    other = make(sync_on_compute=False)
    _copy(there, other)

    def send(state, group):
        sent.append(state)
        return [state]

    other.sync(dist_sync_fn=send, distributed_available=lambda: True)
    received = iter(sent)

    def gather(state, group):
        theirs = next(received)
        assert state.dtype == theirs.dtype, "a process that has seen nothing must send the same type"
        return [state, theirs]

    mine = make(sync_on_compute=False)
    _copy(here, mine)
    mine.sync(dist_sync_fn=gather, distributed_available=lambda: True)
    result = mine.compute()
    assert next(received, None) is None
    return result


def _copy(source, target):
    for name, state in source.metric_state.items():
        setattr(target, name, list(state) if isinstance(state, list) else state.clone())
    target._update_count = max(1, source._update_count)  # or it warns, although others have seen something


def _same(found, wanted):
    torch.testing.assert_close(found, wanted, rtol=1e-12, atol=0, equal_nan=True)
