"""Invariance to context: toy tokenizers whose figures STAB's specification (section 10) knows."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metric_processes import agree

from zoo.errors import InputError
from zoo.metrics.tokens.context import (
    ContextInvariance,
    crop_context,
    mask_context,
    probe_context,
    segment_agreement,
    segments,
)
from zoo.metrics.tokens.similarity import chance_corrected

HOP, RATE = 10, 100


def local(wave):
    """Hears the sign of each token's own samples."""
    return (wave[: len(wave) // HOP * HOP].reshape(-1, HOP).sum(1) > 0).long()


def wide(reach):
    """Hears as many samples on both sides, too, and has a great many ids."""

    def tokenize(wave):
        windows = torch.nn.functional.pad(wave, (reach, reach)).unfold(0, HOP + 2 * reach, HOP)
        return (windows.double().sum(1) * 1e6).round().long()

    return tokenize


def causal(wave):
    return (wave[: len(wave) // HOP * HOP].double().cumsum(0)[HOP - 1 :: HOP] * 1e6).round().long()


def everything(wave):
    """Hashes the whole clip into 16 ids, anew at each position."""
    seed = hash(tuple(wave.tolist())) % 2**31
    return torch.randint(16, (len(wave) // HOP,), generator=torch.Generator().manual_seed(seed))


def clip(seed=0, count=600):
    return torch.randn(count, generator=torch.Generator().manual_seed(seed)) + 0.01


def probe(tokenize, wave=None, **options):
    return probe_context(tokenize, clip() if wave is None else wave, sample_rate=RATE, hop=HOP, **options)


class TestContext:
    def test_segments(self):
        assert segments(600, 10, 5) == [(120, 170), (280, 330), (420, 470)]
        assert segments(59, 10, 5) == [(0, 50)]
        assert segments(49, 10, 5) == []
        for bad in ((0, 5), (10, 0)):
            with pytest.raises(InputError, match="at least 1"):
                segments(600, *bad)

    @given(count=st.integers(0, 700), hop=st.integers(1, 30), size=st.integers(1, 9))
    @settings(max_examples=30, deadline=None)
    def test_segments_lie_on_the_grid(self, count, hop, size):
        found = segments(count, hop, size)
        assert len(set(found)) == len(found) <= 3
        assert all(stop - start == size * hop and start % hop == 0 for start, stop in found)
        assert all(start >= 0 and stop <= count for start, stop in found)

    def test_a_segment_off_the_grid_is_refused(self):
        for start, stop in ((15, 50), (10, 55), (50, 50), (-10, 20), (500, 610)):
            for cut in (mask_context, crop_context):
                with pytest.raises(InputError, match="multiples of the hop"):
                    cut(clip(), start, stop, hop=HOP, context=5)
        with pytest.raises(InputError, match="side"):
            mask_context(clip(), 10, 20, hop=HOP, context=5, side="left")
        with pytest.raises(InputError, match=r"\(samples,\)"):
            mask_context(clip()[None], 10, 20, hop=HOP, context=5)
        with pytest.raises(InputError, match="finite level"):
            mask_context(clip(), 10, 20, hop=HOP, context=5, noise=math.inf)

    def test_masks(self):
        wave = torch.ones(100)
        for side, first, last in (("both", 25, 65), ("past", 25, 100), ("future", 0, 65)):
            wanted = torch.zeros(100)
            wanted[first:last] = 1
            assert torch.equal(mask_context(wave, 30, 60, hop=10, context=5, side=side), wanted)
            part, offset = crop_context(wave, 30, 60, hop=10, context=5, side=side)
            assert (len(part), offset) == (last - first // 10 * 10, 3 - first // 10)
        noisy = mask_context(wave * 0, 30, 60, hop=10, context=5, noise=-60, generator=torch.Generator().manual_seed(0))
        assert torch.equal(noisy[25:65], torch.zeros(40))
        assert float(noisy.square().mean().sqrt()) == pytest.approx(1e-3 * math.sqrt(0.6), rel=0.3)

    @pytest.mark.parametrize("options", [{}, {"crop": True}, {"noise": -60.0}, {"side": "past"}, {"side": "future"}])
    def test_a_local_tokenizer_needs_none(self, options):
        found = probe(local, **options)
        assert found.agreements.shape == (3, 6)
        assert bool((found.agreements == 1).all())

    def test_a_reach_needs_as_much(self):
        """25 samples are 0.25 s here. With less tokens at the edges differ: of five all, four, or two."""
        found = probe(wide(25), contexts=(0.0, 0.1, 0.24, 0.25, 1.0)).agreements
        assert bool((found[:, 3:] == 1).all())
        for column, edges in ((0, 5), (1, 4), (2, 2)):
            assert found[:, column].tolist() == pytest.approx([1 - edges / 5] * 3), column

    def test_a_hash_of_the_clip_needs_it_all(self):
        probes = [probe(everything, clip(seed), contexts=(0.0, 0.5, 9.0)).agreements for seed in range(40)]
        mean = torch.stack(probes).mean((0, 1)).tolist()
        assert mean[:2] == pytest.approx([1 / 16] * 2, abs=0.03)
        assert mean[2] == 1

    def test_a_causal_one_does_not_hear_the_future(self):
        assert bool((probe(causal, side="future").agreements == 1).all())
        assert float(probe(causal, side="past").agreements[:, 0].max()) < 1

    def test_cropping_hears_positions(self):
        def counts(wave):
            return torch.arange(len(wave) // HOP)

        assert bool((probe(counts).agreements == 1).all())
        assert bool((probe(counts, crop=True, contexts=(0.0, 0.5)).agreements == 0).all())

    def test_a_tokenizer_without_the_hop_is_refused(self):
        with pytest.raises(InputError, match="as many tokens in both"):
            probe(lambda wave: torch.zeros(int((wave != 0).sum()) // 20, dtype=torch.int64))

    def test_over_a_data_set(self):
        probes = {f"c{seed}": probe(wide(15), clip(seed), contexts=(0.0, 0.1, 0.2)) for seed in range(3)}
        probes["short"] = probe(local, clip(5, 30), contexts=(0.0, 0.1, 0.2))
        parts = [lambda metric, name=name, one=one: metric.update(one, name) for name, one in probes.items()]
        found = agree(lambda **options: ContextInvariance((0.0, 0.1, 0.2), **options), parts)
        assert found["num_segments"] == 9
        together = torch.cat([one.agreements for one in probes.values()])
        torch.testing.assert_close(found["agreement"], together.mean(0))
        assert (found["floor"], found["effective_context"]) == (0, 0.2)

    def test_the_floor_is_of_other_clips(self):
        metric = ContextInvariance((0.0, 0.1))
        clips = [probe(local, clip(seed), contexts=(0.0, 0.1)) for seed in range(3)]
        for seed, one in enumerate(clips):
            metric.update(one, str(seed))
        found = metric.compute()
        rows = [(seed, row) for seed, one in enumerate(clips) for row in one.tokens]
        shares = [segment_agreement(a, b) for i, a in rows for j, b in rows if i != j]
        floor = sum(shares) / len(shares)
        assert found["floor"].item() == pytest.approx(floor)
        assert found["index"].tolist() == pytest.approx([chance_corrected(1.0, floor)] * 2)
        assert found["effective_context"] == 0

    def test_nothing_seen(self):
        metric = ContextInvariance()
        metric.update(probe(local, clip(count=30)), "short")
        found = metric.compute()
        assert found.pop("num_segments") == 0
        assert all(value.isnan().all() for value in found.values())
        never = ContextInvariance((0.0,))
        never.update(probe(wide(25), contexts=(0.0,)), "a")
        assert never.compute()["effective_context"] == math.inf

    def test_probes_that_do_not_fit(self):
        metric = ContextInvariance((0.0, 0.1))
        with pytest.raises(InputError, match="of 2 contexts, the probe of 6"):
            metric.update(probe(local), "a")
        metric.update(probe(local, contexts=(0.0, 0.1)), "a")
        with pytest.raises(InputError, match="of one length"):
            metric.update(probe(local, contexts=(0.0, 0.1), seconds=0.3), "b")
        for bad in ((), (0.1, 0.0), (0.1, 0.1)):
            with pytest.raises(InputError, match="must ascend"):
                ContextInvariance(bad)
