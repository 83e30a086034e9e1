"""Runs a suite of predictability: tokens, small generators for several seeds, held-out bits, continued actions."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, Subset

import zoo
from zoo import config as configs
from zoo.components.layers.normalization import RangeNormalizer
from zoo.components.statistics import RunningRange
from zoo.data.action_windows import ActionData, ActionItems
from zoo.data.datamodule import DataModule, Split
from zoo.data.images import ImageData
from zoo.data.speech import SpeechData
from zoo.data.videos import VideoData
from zoo.errors import ConfigError, InputError
from zoo.evaluation.items import Bootstrap
from zoo.evaluation.kinds import Progress, SuiteKind
from zoo.evaluation.report import Column, Figure, Report
from zoo.evaluation.suite import environment
from zoo.evaluation.suites.predictability.config import PredictabilitySuite
from zoo.evaluation.suites.predictability.continuation import continued, held
from zoo.evaluation.suites.predictability.training import generator_config, held_out_bits, train
from zoo.generator.data import TokenItems, encoded
from zoo.modalities.action import ActionTokenizer
from zoo.modalities.video import VideoTokenizer
from zoo.tokenizer import Tokenizer

__all__ = ["PREDICTABILITY", "crossed", "measure"]

_COLUMNS = (
    Column("tokens_per_item", "tokens an item", "{:.1f}", False),
    Column("stored_bits_per_token", "bits a token, stored", "{:.2f}", False),
    Column("bits_per_token", "bits a token, predicted", "{:.2f}"),
    Column("bits_per_second", "bits a second, predicted", "{:.1f}"),
    Column("bits_per_pixel", "bits a pixel, predicted", "{:.4f}"),
    Column("bits_per_step", "bits a command, predicted", "{:.2f}"),
    Column("next_mse", "MSE of the next chunk, predicted and decoded", "{:.3f}"),
    Column("next_failed", "predicted chunks that do not decode", "{:.3f}"),
    Column("held_mse", "MSE of repeating the last command", "{:.3f}"),
    Column("coded_mse", "MSE of the next chunk, encoded and decoded", "{:.2e}"),
    Column("parameters", "parameters of the model of ids", "{:,.0f}", False),
    Column("items", "items", "{:.0f}", False),
)


def measure(suite: PredictabilitySuite, models: Sequence[str] | None, path: Path, progress: Progress) -> Report:
    """Run a predictability suite. See `zoo.evaluation.run`."""
    names = list(dict.fromkeys(suite.models if models is None else models))
    if not names:
        raise ConfigError("there is nothing to measure: name at least one model.")
    budget, size, seeds = suite.training, suite.generator, suite.seeds
    tokenizers = {name: zoo.load(name) for name in names}
    report = Report(
        suite=suite.kind,
        title=suite.title,
        protocol=(
            f"On the ids of each tokenizer a transformer of {size.num_layers} layers of width {size.width} is trained "
            f"for {budget.num_steps} steps of {budget.batch_size} items, once for each of {len(seeds)} seeds; bits are "
            "what it needs for items that it has not seen, ends of items included. Of actions, the last chunk is "
            "predicted from the chunks before it by the likeliest ids, decoded, and compared with what the robot did, "
            "in units in which 1 % and 99 % quantiles of the training data are at ±1; where ids do not decode, the "
            f"last command is repeated. Intervals of {suite.bootstrap.confidence:.0%} from resampling seeds and items."
        ),
        data=_described(suite, sorted({each.spec.modality for each in tokenizers.values()}), path),
        environment=environment(),
    )
    done, total = 0, len(names) * len(seeds)
    for name, tokenizer in tokenizers.items():
        progress(f"encoding for {name}", done, total)
        module, fit, test = _data(suite, tokenizer, path)
        fit_items, items = (encoded(tokenizer, module, part) for part in (fit, test))
        config = generator_config(tokenizer, size, fit_items, items)
        windows = _windows(tokenizer, test)
        normalizer = _normalizer(tokenizer, fit)
        bits, errors, failures, parameters = [], [], [], 0
        for seed in seeds:
            told = partial(_tell, progress, f"training on {name}, seed {seed}", done, total)
            generator = train(config, fit_items, budget, seed, told)
            parameters = generator.num_parameters
            bits.append(held_out_bits(generator, items).numpy())
            if isinstance(tokenizer, ActionTokenizer) and len(windows):
                found = continued(generator, tokenizer, windows, normalizer)
                errors.append(found.squared_error.numpy())
                failures.append(found.failed.double().numpy())
            done += 1
        figures = _bits(tokenizer, np.stack(bits), items, suite.bootstrap)
        if isinstance(tokenizer, ActionTokenizer) and errors:
            figures |= _next(tokenizer, windows, normalizer, np.stack(errors), np.stack(failures), suite.bootstrap)
        figures |= {"parameters": Figure(parameters), "items": Figure(len(items))}
        report.models[name] = figures
        report.settings[name] = {"config": configs.to_dict(tokenizer.config), "generator": configs.to_dict(config)}
    progress("measured", total, total)
    return report


def crossed(values: NDArray[np.float64], counts: NDArray[np.float64], bootstrap: Bootstrap) -> Figure:
    """Return the sum over items of what seeds found on average, over a count; resampling seeds and items.

    Args:
        values: (S, N), of seeds and items.
        counts: (N,), what each item counts.
        bootstrap: How the interval is made.
    """
    if not counts.sum():
        return Figure.missing("there is nothing to divide by")
    generator = np.random.default_rng(bootstrap.seed)
    num_seeds, num_items = values.shape
    drawn = []
    for _ in range(bootstrap.num_resamples):
        seeds = np.bincount(generator.integers(0, num_seeds, num_seeds), minlength=num_seeds)
        items = np.bincount(generator.integers(0, num_items, num_items), minlength=num_items)
        drawn.append((seeds @ values @ items) / num_seeds / (counts @ items))
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.nanquantile(drawn, [tail, 1 - tail])
    return Figure(float(values.mean(0).sum() / counts.sum()), float(low), float(high))


def _tell(progress: Progress, text: str, done: int, total: int, step: int) -> None:
    if not step % 50:
        progress(f"{text}, step {step}", done, total)


def _described(suite: PredictabilitySuite, modalities: Sequence[str], path: Path) -> dict[str, Any]:
    """Return the facts of the data that go into a report."""
    found = [suite.data.of(modality, path) for modality in modalities]
    digests = [source.digest(place) for source, place in found]
    digest = digests[0] if len(digests) == 1 else hashlib.sha256("".join(digests).encode()).hexdigest()
    return {
        "file": ", ".join(place.name for _, place in found),
        "sha256": digest,
        "is_reference": all(source.sha256 in ("", each) for (source, _), each in zip(found, digests, strict=True)),
        "made_by": " && ".join(source.made_by for source, _ in found if source.made_by),
    }


def _data(
    suite: PredictabilitySuite, tokenizer: Tokenizer, path: Path
) -> tuple[DataModule, Dataset[Any], Dataset[Any]]:
    """Return what makes batches, and the data to learn from and to measure on."""
    spec = tokenizer.spec
    source, path = suite.data.of(spec.modality, path)
    module: DataModule
    if isinstance(tokenizer, ActionTokenizer):
        splits = {"train": source.fit_split, "test": source.test_split}
        steps = suite.num_chunks * tokenizer.horizon
        module = ActionData(str(path), num_steps=steps, splits=splits, batch_size=256)
    elif spec.modality == "speech":
        rate = int(spec.sample_rate or 16000)
        module = SpeechData(str(path), noise=False, max_seconds=suite.max_seconds, sample_rate=rate, batch_size=4)
    else:
        height, width = (spec.input_size or (64, 64))[-2:]
        if height != width:
            raise ConfigError(f"{tokenizer.name} takes pictures of {height} × {width}, and this suite cuts squares.")
        if isinstance(tokenizer, VideoTokenizer):
            module = VideoData(str(path), num_frames=tokenizer.window or 16, size=height, batch_size=16)
            return module, _some(module, "train", suite.max_fit_items), _some(module, "test", suite.max_items)
        cut = [{"name": "Resize", "size": height}, {"name": "CenterCrop", "size": height}]
        module = ImageData(str(path), transforms=cut, eval_transforms=cut, on_white=True, batch_size=16)
    return module, _some(module, "train", suite.max_fit_items), _some(module, "test", suite.max_items)


def _some(module: DataModule, split: Split, most: int | None) -> Dataset[Any]:
    """Return the items of a part, evenly picked; of actions, those that are windows of the whole length."""
    found: Any = module.dataset(split)
    if found is None:
        raise InputError(f"the data has no part {split!r}, and one is learned from, the other measured on.")
    places = list(range(len(found)))
    if isinstance(found, ActionItems):
        places = [place for place in places if int(found.counts[place]) == found.windows.shape[1]]
    if not places:
        raise InputError(f"the part {split!r} of the data has no item that is long enough.")
    step = max(1.0, len(places) / (most or len(places)))
    return Subset(found, [places[int(i * step)] for i in range(min(len(places), most or len(places)))])


def _windows(tokenizer: Tokenizer, test: Dataset[Any]) -> Tensor:
    """Return the actions that are measured on, (N, T, D); none of another modality."""
    if not isinstance(tokenizer, ActionTokenizer):
        return torch.zeros(0)
    return torch.stack([test[place][0] for place in range(len(test))])  # type: ignore[arg-type]


def _normalizer(tokenizer: Tokenizer, fit: Dataset[Any]) -> RangeNormalizer:
    """Return what maps quantiles of the actions to learn from to ±1; of no use for another modality."""
    if not isinstance(tokenizer, ActionTokenizer):
        return RangeNormalizer(1)
    seen, normalizer = RunningRange(), RangeNormalizer(tokenizer.num_dofs)
    for place in range(len(fit)):  # type: ignore[arg-type]
        seen.update(fit[place][0])
    normalizer.set_range(seen.quantile(0.01), seen.quantile(0.99))
    return normalizer


def _bits(
    tokenizer: Tokenizer, bits: NDArray[np.float64], items: TokenItems, bootstrap: Bootstrap
) -> dict[str, Figure]:
    """Return bits of seeds and items (S, N) a token, and by what the signal has."""
    spec, lengths, sizes = tokenizer.spec, items.lengths.double().numpy(), items.sizes.double().numpy()
    figures = {
        "tokens_per_item": Figure(float(lengths.mean())),
        "stored_bits_per_token": Figure(spec.num_codebooks * math.log2(spec.require_codebook())),
        "bits_per_token": crossed(bits, lengths, bootstrap),
    }
    if spec.modality in ("image", "video"):
        return figures | {"bits_per_pixel": crossed(bits, sizes, bootstrap)}
    if spec.modality == "action":
        figures["bits_per_step"] = crossed(bits, sizes, bootstrap)
    if spec.sample_rate:
        figures["bits_per_second"] = crossed(bits, sizes / spec.sample_rate, bootstrap)
    return figures


def _next(
    tokenizer: ActionTokenizer,
    windows: Tensor,
    normalizer: RangeNormalizer,
    errors: NDArray[np.float64],
    failures: NDArray[np.float64],
    bootstrap: Bootstrap,
) -> dict[str, Figure]:
    """Return what came of predicted chunks, (S, N), beside what comes of repeating a command and of true tokens."""
    horizon = tokenizer.horizon
    values = np.full(len(windows), float(horizon * windows.shape[2]))
    options = tokenizer.at_rest(windows[:, 0])
    decoded = tokenizer.decode(tokenizer.encode(windows, **options), **options)[:, -horizon:]
    coded = (normalizer(decoded) - normalizer(windows[:, -horizon:])).square().sum((1, 2))
    return {
        "next_mse": crossed(errors, values, bootstrap),
        "next_failed": crossed(failures, np.ones(len(windows)), bootstrap),
        "held_mse": crossed(held(windows, horizon, normalizer).numpy()[None], values, bootstrap),
        "coded_mse": crossed(coded.numpy()[None], values, bootstrap),
    }


PREDICTABILITY = SuiteKind(PredictabilitySuite, measure, _COLUMNS)
