"""Training of two networks: a tokenizer, and a discriminator that judges what it makes."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Optimizer

from zoo.errors import ConfigError
from zoo.training.module import TokenizerModule, as_optimizer_config
from zoo.training.optim import OptimizerConfig, build_optimizer, build_schedule

__all__ = ["AdversarialModule", "Reconstruction"]

_DEFAULT_OPTIMIZER = OptimizerConfig()


@dataclass(frozen=True)
class Reconstruction:
    """What a tokenizer makes of a batch. A family whose discriminator sees more may add fields.

    Attributes:
        losses: The tokenizer's losses by name, without those that need the discriminator.
        real: (B, ...), what the discriminator is to take for real.
        made: (B, ...), what was made of it, with its gradient.
    """

    losses: dict[str, Tensor]
    real: Tensor
    made: Tensor


class AdversarialModule(TokenizerModule):
    """Trains a tokenizer and, if there is one, a discriminator, each with its own optimiser and schedule.

    A family implements `build_discriminator`, `reconstruct`, `discriminator_losses` and `adversarial_losses`, and
    states the weights of all losses in `default_weights`. Without a discriminator it is a `TokenizerModule`.

    A step is one forward pass of the tokenizer; then, in steps that are the discriminator's turn, a step of the
    discriminator on what was made, cut off from the tokenizer; then a step of the tokenizer, judged by the
    discriminator as it is now, which gets no gradient.

    **Steps are the tokenizer's**, of which there is one in each turn: `global_step`, `max_steps`, checkpoints,
    callbacks and both schedules count these, and not the discriminator's, whichever its cadence. (Lightning's own
    manual optimisation would count every step of every optimiser.) The discriminator's schedule begins with it, at
    `adversarial_from`, and ends with the run. Steps and cadence follow from `global_step`, so that a checkpoint has
    all there is to know.

    The trainer's `gradient_clip_val` holds for each network by itself, and `accumulate_grad_batches` for both: then
    both step in the last batch of a window, the discriminator first, and have gathered the gradients of one another's
    weights before that step. Several processes need the strategy `ddp_find_unused_parameters_true`, since each network
    takes no part in the other's backward pass.

    Args:
        config: As of `TokenizerModule`.
        weights: As of `TokenizerModule`; a training checkpoint gives the discriminator as well, if it has the same.
        optimizer: Optimiser and schedule of the tokenizer.
        loss_weights: Weights of losses of both networks by name, where they are not those of `default_weights`.
        discriminator: Values that `build_discriminator` takes; None for no discriminator.
        discriminator_optimizer: Optimiser and schedule of the discriminator; None for the tokenizer's.
        discriminator_every: The tokenizer's steps from one step of the discriminator to the next.
        adversarial_from: The tokenizer's steps before the discriminator begins to learn and to judge.

    Attributes:
        discriminator: The discriminator, or None.

    Raises:
        ConfigError: A value is unusable.
    """

    discriminator: nn.Module | None

    def __init__(
        self,
        config: dict[str, Any],
        weights: str | None = None,
        optimizer: OptimizerConfig = _DEFAULT_OPTIMIZER,
        loss_weights: dict[str, float] | None = None,
        discriminator: dict[str, Any] | None = None,
        discriminator_optimizer: OptimizerConfig | None = None,
        discriminator_every: int = 1,
        adversarial_from: int = 0,
    ) -> None:
        super().__init__(config, None, optimizer, loss_weights)
        if discriminator_every < 1 or adversarial_from < 0:
            raise ConfigError(
                "discriminator_every must be at least 1 and adversarial_from must not be negative, got "
                f"{discriminator_every} and {adversarial_from}."
            )
        if discriminator_optimizer is None:
            self.discriminator_optimizer_config = self.optimizer_config
        else:
            self.discriminator_optimizer_config = as_optimizer_config(
                discriminator_optimizer, "discriminator_optimizer"
            )
        self.discriminator_every = discriminator_every
        self.adversarial_from = adversarial_from
        self.discriminator = None if discriminator is None else self.build_discriminator(discriminator)
        if weights is not None:
            self._start_from(weights)

    def build_discriminator(self, values: dict[str, Any]) -> nn.Module:
        """Return the discriminator of some plain values. Called once, when the tokenizer is there."""
        raise NotImplementedError

    def reconstruct(self, batch: Any) -> Reconstruction:
        """Return what the tokenizer makes of a batch. Called for training, validation and testing."""
        raise NotImplementedError

    def discriminator_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return the discriminator's losses by name, not weighted; `pair.made` has no gradient."""
        raise NotImplementedError

    def adversarial_losses(self, pair: Reconstruction) -> dict[str, Tensor]:
        """Return the tokenizer's losses that need the discriminator, by name, not weighted; it gets no gradient."""
        raise NotImplementedError

    def losses(self, batch: Any) -> dict[str, Tensor]:
        """Return the tokenizer's losses by name, without those that need the discriminator."""
        return self.reconstruct(batch).losses

    def configure_optimizers(self) -> Any:
        """Return the optimiser and its schedule, or those of both networks.

        Raises:
            ConfigError: The trainer's precision and accumulation do not go together here.
        """
        if self.discriminator is None:
            return super().configure_optimizers()
        if self.trainer.precision == "16-mixed" and self.trainer.accumulate_grad_batches != 1:
            raise ConfigError(
                "two networks cannot accumulate gradients in 16-mixed: the step of one changes the scale of the "
                "gradients that the other has gathered. Use precision bf16-mixed, or accumulate_grad_batches 1."
            )
        # Only from here on: when a run begins, Lightning refuses clipping and accumulation to all who step by hand,
        # since it does not do them then. This class does.
        self.automatic_optimization = False
        own, other, steps = self.optimizer_config, self.discriminator_optimizer_config, self._estimated_steps()
        optimizer = build_optimizer(
            own, self.trained_modules(), self.discriminator, self.faster_modules(), self.undecayed()
        )
        discriminator_optimizer = build_optimizer(other, [self.discriminator])
        return [optimizer, discriminator_optimizer], [
            build_schedule(own, optimizer, steps),
            build_schedule(other, discriminator_optimizer, steps - self.adversarial_from),
        ]

    def _schedules(self) -> dict[str, OptimizerConfig]:
        own = super()._schedules()
        if self.discriminator is None or self.hparams.get("discriminator_optimizer") is None:
            return own
        return {**own, "discriminator_optimizer": self.discriminator_optimizer_config}

    def on_fit_start(self) -> None:
        """Refuse a strategy that would wait for the gradients of both networks in every backward pass.

        Raises:
            ConfigError: It is such a one.
        """
        wrapped = self.trainer.model
        is_strict = isinstance(wrapped, DistributedDataParallel) and not wrapped.find_unused_parameters
        if self.discriminator is not None and is_strict:
            raise ConfigError(
                "a tokenizer and a discriminator take turns, and each leaves the other's parameters without gradients, "
                "which the strategy ddp does not allow: use ddp_find_unused_parameters_true."
            )

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """Make a step of the discriminator, if it is its turn, and one of the tokenizer."""
        if self.discriminator is None:
            return super().training_step(batch, batch_idx)
        self._num_items = self.num_items(batch)
        size = self.trainer.accumulate_grad_batches
        is_whole = (batch_idx + 1) % size == 0 or self.trainer.is_last_batch
        since = self.global_step - self.adversarial_from
        optimizer, discriminator_optimizer = _both(self.optimizers())
        schedule, discriminator_schedule = _both(self.lr_schedulers())

        pair = self.reconstruct(batch)
        losses = pair.losses
        if since >= 0 and since % self.discriminator_every == 0:
            cut = dataclasses.replace(pair, losses={}, made=pair.made.detach())
            loss = self._weighted(self.discriminator_losses(cut), "discriminator_loss")
            self.manual_backward(loss / size)
            if is_whole:
                # Past Lightning's wrapper, which counts steps, but with all else: precision, and the hook below.
                raw = discriminator_optimizer.optimizer
                self.trainer.strategy.optimizer_step(raw, _nothing, self)
                raw.zero_grad()
        with _frozen(self.discriminator):
            if since >= 0:
                losses = {**losses, **self.adversarial_losses(pair)}
            self.manual_backward(self._weighted(losses, "loss", prog_bar=True) / size)
        if is_whole:
            optimizer.step()
            optimizer.zero_grad()
            schedule.step()
            if since >= 0:
                discriminator_schedule.step()
        return None

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients of one network, as the trainer says, when they have been scaled back."""
        if not self.automatic_optimization:
            self.clip_gradients(optimizer)


def _both(pair: Any) -> tuple[Any, Any]:
    """Return the tokenizer's and the discriminator's of what Lightning gives as one of several types."""
    first, second = pair
    return first, second


def _nothing() -> None:
    """Do nothing: gradients are there when a step is made."""


@contextmanager
def _frozen(module: nn.Module) -> Iterator[None]:
    """Have what is trained in a module get no gradients for a while."""
    trained = [parameter for parameter in module.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in trained:
            parameter.requires_grad_(True)
