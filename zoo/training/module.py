"""The base of every family's training: a tokenizer, losses by name, an optimiser, what is logged."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.utilities import rank_zero_warn
from lightning.pytorch.utilities.data import extract_batch_size
from torch import Tensor, nn

from zoo import config as configs
from zoo import registry
from zoo.components.quantizers import Quantized
from zoo.errors import ConfigError, near_matches, shown
from zoo.tokenizer import Tokenizer
from zoo.training.checkpoint_file import ASSETS, LICENCE, PARTS, TOKENIZER
from zoo.training.figures import MOST_COUNTED, Figures, Finish, code_counts, perplexity, ratio, usage
from zoo.training.media import Media, log_media
from zoo.training.optim import EvaluationWeights, OptimizerConfig, build_optimizer, build_schedule
from zoo.training.origin import Origin, differences, read_origin

__all__ = ["STEPS", "TRAINED", "TokenizerModule"]

STEPS = "zoo_steps"
"""Key of a checkpoint: how many optimiser steps the run was to have, None if nobody knew."""

TRAINED = "zoo_trained"
"""Key of a checkpoint of schedule-free optimisers: the weights that they train, beside the averages in its state."""

_QUANTIZER = "quantizer_"
_DEFAULT_OPTIMIZER = OptimizerConfig()


class TokenizerModule(LightningModule):
    """Trains a tokenizer, which knows nothing of it.

    A family subclasses it, names itself in `family`, implements `losses`, states their weights in `default_weights`,
    and may override `media`. Its constructor passes on what this one takes, and takes further hyper-parameters that are
    plain values.

    Args:
        config: Values of the family's config. A quantizer is swapped here, by one line.
        weights: Model whose weights to start from: a name, a folder, or an `hf://` address, as `zoo.load` takes; or a
            training checkpoint (`.ckpt`), of which everything is taken that this module has as well, averages where
            there are. Its config must be the same, but for parts that this one does without.
        optimizer: Optimiser and schedule.
        loss_weights: Weights of losses by name, where they are not those of `default_weights`. Losses of a quantizer,
            `quantizer_` and their name, are weighted by its config already and have the weight 1.

    Attributes:
        family: Name of the tokenizer's family.
        default_weights: Every loss by name, and what it counts.
        tokenizer: The tokenizer. What is exported.

    Raises:
        ConfigError: A value is unusable, or a hyper-parameter is not plain.
        UnknownNameError: There is no such family, or no such model to start from.
        CheckpointError: The checkpoint to start from is unusable.
    """

    family: ClassVar[str]
    default_weights: ClassVar[Mapping[str, float]] = {}

    tokenizer: Tokenizer

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
    ) -> None:
        super().__init__()
        # Plain values only, of the subclass's constructor as well, so that weights_only=True reads the checkpoint.
        self.save_hyperparameters()
        for name, value in self.hparams.items():
            self.hparams[name] = _primitive(value, name)
        self.optimizer_config = as_optimizer_config(optimizer, "optimizer")
        self.loss_weights = {**self.default_weights, **(loss_weights or {})}
        for name in loss_weights or {}:
            if name not in self.default_weights and not name.startswith(_QUANTIZER):
                raise ConfigError(
                    f"loss_weights: there is no loss {name!r}; {near_matches(name, self.default_weights)}"
                )
        self.tokenizer = registry.stored(self.family).from_config(config)
        self._num_items: int | None = None
        self._figures = Figures()
        self._told: set[str] = set()  # figures of which this evaluation's batch has given the sums
        self._evaluation = EvaluationWeights()
        self.afresh: list[str] = []
        self._carried: dict[str, Tensor] = {}  # what earlier runs had beside the tokenizer, and this one has not
        self.start_licence: str | None = None
        self._steps: float | None = None
        self._steps_before: int | None = None
        if weights is not None:
            self._start_from(weights)

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the losses of a batch by name, not weighted; those of a quantizer through `quantizer_losses`.

        Called for training, validation and testing. A loss that needs its own parameters or buffers keeps them in this
        module, not in the tokenizer. One that is not a mean over items also calls `tally`.
        """
        raise NotImplementedError

    def media(self, batch: Any) -> dict[str, Media]:
        """Return what to show of the first batch of a validation, by name. Nothing by default."""
        return {}

    def num_items(self, batch: Any) -> int | None:
        """Return how many items a batch has; None if Lightning can tell."""
        return None

    def trained_modules(self) -> list[nn.Module]:
        """Return the modules whose parameters the optimiser changes: this one, with all it contains."""
        return [self]

    def faster_modules(self) -> Sequence[tuple[nn.Module, float]]:
        """Return which of these have another learning rate, and how many times the usual one. None by default."""
        return ()

    def undecayed(self) -> Iterable[nn.Parameter]:
        """Return matrices that weight decay leaves alone; it does so with vectors anyway."""
        return ()

    def tally(self, name: str, finish: Finish, *sums: Tensor) -> None:
        """Count a figure in, so that that of a whole evaluation does not depend on its batches; in training, nothing.

        A loss of which it is not called counts as a mean over items.

        Args:
            name: Its name; that of a loss, if it is one.
            finish: Makes the figure of its sums; `zoo.training.figures.ratio` of a total and a count. Of a module, or
                a `partial` of plain values, since processes send it to one another.
            sums: What adds up over batches.
        """
        if self._is_evaluation:
            self._told.add(name)
            self._figures.add(name, finish, sums)

    def quantizer_losses(self, quantized: Quantized, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return a quantizer's losses under the names they have here, and log its codebook usage and perplexity.

        Args:
            quantized: What it returned.
            mask: The mask that it was given.
        """
        losses = {f"{_QUANTIZER}{name}": loss for name, loss in quantized.losses.items()}
        if not self._is_evaluation:
            for name, value in quantized.stats.items():
                self._log(name, value)
            return losses
        quantizer: Any = self.tokenizer.quantizer
        one_book = quantizer.num_codebooks == 1
        ids = quantized.ids if mask is None else quantized.ids[mask]
        ids = ids.reshape(-1) if one_book else ids.flatten(0, -2)  # of no codebooks, (N, 0)
        if quantizer.num_codebooks * quantizer.codebook_size > MOST_COUNTED:
            for name, value in quantized.stats.items():
                self._log(name, value)
        elif quantized.stats:
            counts = code_counts(ids, quantizer.codebook_size)
            self.tally("usage", usage, counts)
            self.tally("perplexity", perplexity, counts)
        number = torch.tensor(float(len(ids)))
        for name, loss in quantized.losses.items():
            finish, *sums = quantized.sums.get(name, (ratio, loss.detach().cpu() * number, number))
            self.tally(f"{_QUANTIZER}{name}", finish, *sums)
        return losses

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """Return the weighted sum of the losses."""
        return self._total(batch)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Log the losses, and media of the first batch."""
        self._total(batch)
        if batch_idx == 0 and self.trainer.is_global_zero and not self.trainer.sanity_checking:
            log_media(self.loggers, self.media(batch), self.global_step)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Log the losses."""
        self._total(batch)

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule."""
        optimizer = build_optimizer(
            self.optimizer_config, self.trained_modules(), faster=self.faster_modules(), undecayed=self.undecayed()
        )
        schedule = build_schedule(self.optimizer_config, optimizer, self._estimated_steps())
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        """Have a schedule-free optimiser train, also after an earlier run was over."""
        EvaluationWeights.train(self.trainer.optimizers)

    def on_validation_model_eval(self) -> None:
        """Go to evaluation mode, a schedule-free optimiser with it; before callbacks put their own weights in place."""
        super().on_validation_model_eval()
        self._evaluation.put(self.trainer.optimizers)

    def on_validation_epoch_end(self) -> None:
        """Log the figures of all batches."""
        self._log_figures("val")

    def on_test_epoch_end(self) -> None:
        """Log the figures of all batches."""
        self._log_figures("test")

    def on_validation_end(self) -> None:
        """Go on with the weights that are trained; after callbacks have taken theirs away."""
        self._evaluation.put_back()

    def on_train_end(self) -> None:
        """Leave the weights that a schedule-free optimiser evaluates; after the last checkpoint was written."""
        EvaluationWeights().put(self.trainer.optimizers)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Say what the tokenizer is, and keep apart what schedule-free optimisers train and what is to be used."""
        checkpoint[TOKENIZER] = self._identity()
        checkpoint[PARTS] = {"own": self._own_parts(), "carried": self._carried}
        checkpoint[LICENCE] = self.start_licence
        if self.tokenizer.asset_names:
            contents = self.tokenizer.assets().items()
            checkpoint[ASSETS] = {name: torch.frombuffer(bytearray(file), dtype=torch.uint8) for name, file in contents}
        checkpoint[STEPS] = None if self._steps in (None, float("inf")) else self._steps
        trained = self._evaluation.kept  # of a validation that is going on
        names = list(self.named_parameters(remove_duplicate=False))
        if not trained:
            with EvaluationWeights.of(self.trainer.optimizers) as weights:
                trained = weights.kept
                averages = {name: p.detach().clone() for name, p in names if p in trained}
            checkpoint["state_dict"].update(averages)
        if trained:
            checkpoint[TRAINED] = {name: trained[p] for name, p in names if p in trained}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Refuse a checkpoint of another tokenizer, and go on from the weights that were trained.

        Raises:
            ConfigError: Family or config differ.
        """
        trainer = self._trainer
        self._steps_before = checkpoint.get(STEPS)
        self._carried = (checkpoint.get(PARTS) or {"carried": self._carried})["carried"]
        if TRAINED in checkpoint and trainer is not None and trainer.state.fn == "fit":
            checkpoint["state_dict"].update(checkpoint[TRAINED])
            for group in (group for state in checkpoint["optimizer_states"] for group in state["param_groups"]):
                if "train_mode" in group:
                    group["train_mode"] = True  # also if it was written while a validation was going on
        before = dict(checkpoint.get(TOKENIZER, {}))
        if before.get("family") == self.family:
            before["config"] = self._known_config(before["config"])
        for name, now in self._identity().items():
            if before.get(name) != now:
                raise ConfigError(
                    f"the checkpoint is of another tokenizer: its {name} is {shown(before.get(name))}, this run's is "
                    f"{shown(now)}."
                )

    def _known_config(self, config: dict[str, Any]) -> dict[str, Any]:
        """Return a checkpoint's config with the default of each setting that is newer than it."""
        return configs.to_dict(configs.from_dict(type(self.tokenizer.config), config, "the checkpoint's config"))

    def _identity(self) -> dict[str, Any]:
        return {"family": self.family, "config": configs.to_dict(self.tokenizer.config)}

    def _estimated_steps(self) -> float:
        """Return how many optimiser steps the run will have, infinity if nobody knows.

        A run that goes on and has another number than before is told what becomes of its schedule.
        """
        steps = self.trainer.estimated_stepping_batches
        self._steps = float("inf") if steps == -1 else steps
        changed = [name for name, config in self._schedules().items() if config.follows_run]
        if changed and self._steps_before not in (None, self._steps):
            rank_zero_warn(
                f"the run was to have {self._steps_before:,} steps and now has {self._steps:,}: the learning rate "
                f"goes on as in a run of that length, since its schedule ({changed[0]}.schedule) ends with the run. To "
                f"keep to the schedule as it was, give {' and '.join(f'{name}.total_steps' for name in changed)}: "
                f"{self._steps_before}."
            )
        return self._steps

    def _schedules(self) -> dict[str, OptimizerConfig]:
        """Return the settings of all schedules by the name of the hyper-parameter."""
        return {"optimizer": self.optimizer_config}

    def _total(self, batch: Any) -> Tensor:
        self._num_items = self.num_items(batch)
        if self._num_items is None and self._is_evaluation:
            self._num_items = extract_batch_size(batch)
        self._told = set()
        return self._weighted(self.losses(batch), "loss", prog_bar=True)

    def _weighted(self, losses: Mapping[str, Tensor], name_of_sum: str, **options: Any) -> Tensor:
        """Return the weighted sum of losses, and log them and it."""
        total = torch.zeros((), dtype=torch.float32, device=self.device)
        for name, loss in losses.items():
            if name not in self.loss_weights and not name.startswith(_QUANTIZER):
                raise ConfigError(f"{type(self).__name__}.default_weights lacks the loss {name!r}.")
            if not self._is_evaluation or name not in self._told:
                self._log(name, loss.detach())
            total = total + self.loss_weights.get(name, 1.0) * loss
        if self._is_evaluation:
            self._figures.add_total(name_of_sum, {name: self.loss_weights.get(name, 1.0) for name in losses})
        else:
            self._log(name_of_sum, total.detach(), **options)
        return total

    @property
    def _is_evaluation(self) -> bool:
        return self._trainer is not None and not self._trainer.training

    def _log(self, name: str, value: Tensor, **options: Any) -> None:
        """Log a figure of a batch or, outside training, count it in as a mean over items."""
        if not self._is_evaluation:
            self.log(f"train/{name}", value, batch_size=self._num_items, **options)
            return
        number = torch.tensor(float(self._num_items or 1))
        self._figures.add(name, ratio, (value.detach().cpu() * number, number))

    def _log_figures(self, stage: str) -> None:
        for name, value in self._figures.finished(self.trainer.world_size).items():
            # The same on all processes.
            self.log(f"{stage}/{name}", value, sync_dist=self.trainer.world_size > 1, prog_bar=name == "loss")

    def adapted(self, origin: Origin) -> Origin:
        """Return what a run starts from, changed where a family can make another model fit. Unchanged by default."""
        return origin

    def _own_parts(self) -> list[str]:
        """Return the names in the `state_dict` of what is trained or counted beside the tokenizer."""
        names = []
        for part, module in self.named_children():
            parameters = dict(module.named_parameters(remove_duplicate=False))
            is_frozen = parameters and not any(p.requires_grad for p in parameters.values())
            if part != "tokenizer" and not is_frozen:
                kept = (n for n in module.state_dict() if n not in parameters or parameters[n].requires_grad)
                names += [f"{part}.{name}" for name in kept]
        return names

    def _start_from(self, weights: str) -> None:
        """Take over the weights of a model or of a training checkpoint, and say what starts afresh."""
        origin = self.adapted(read_origin(weights, self.family))
        left_out = self._require_same(weights, origin)
        own = self.state_dict()
        found = {name: t for name, t in origin.parts.items() if name in own and t.shape == own[name].shape}
        self.load_state_dict(found, strict=False)
        self.tokenizer.load_state_dict(  # of which nothing may be missing
            {name: t for name, t in origin.tokenizer.items() if name.partition(".")[0] not in left_out}
        )
        self._carried = {name: t for name, t in origin.needed.items() if name not in own}
        self.start_licence = origin.licence
        self.afresh = [name for name in self._own_parts() if name not in found]
        afresh = dict.fromkeys(".".join(name.split(".")[:2]) for name in self.afresh)
        notes = [f"its {part} is left out, and has to be trained anew behind other tokens" for part in left_out]
        if afresh:
            notes.append(f"it does not have what training needs of {', '.join(afresh)}, which start afresh")
        if notes:
            rank_zero_warn(f"weights: {weights!r}: {'; '.join(notes)}.")

    def _require_same(self, weights: str, origin: Origin) -> list[str]:
        """Return which parts of a tokenizer this one does without.

        Raises:
            ConfigError: It is another one.
        """
        own = configs.to_dict(self.tokenizer.config)
        if origin.family != self.family:
            raise ConfigError(f"weights: {weights!r} is a {origin.family}, and the model is a {self.family}.")
        theirs = self._known_config(origin.config)
        left_out = [key for key, value in theirs.items() if own[key] is None and isinstance(value, Mapping)]
        found = differences({key: value for key, value in theirs.items() if key not in left_out}, own, left_out)
        if found:
            raise ConfigError(f"weights: {weights!r} does not fit the model: {found}.")
        return left_out


def as_optimizer_config(values: OptimizerConfig | Mapping[str, Any], name: str) -> OptimizerConfig:
    """Return the settings of an optimiser, which a checkpoint has as plain values."""
    return configs.from_dict(OptimizerConfig, values, name) if isinstance(values, Mapping) else values


def _primitive(value: Any, name: str) -> Any:
    """Return a hyper-parameter as plain values, or raise."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return configs.to_dict(value)
    if isinstance(value, Mapping):
        return {key: _primitive(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_primitive(item, name) for item in value]
    if value is None or type(value) in (bool, int, float, str):
        return value
    raise ConfigError(f"the hyper-parameter {name} must be a plain value, got {shown(value)} ({type(value).__name__}).")
