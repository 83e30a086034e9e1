"""What a discriminator and the network that it judges learn from one another, and what keeps the discriminator tame."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.components.quantizers.collective import total
from zoo.errors import ConfigError, InputError, near_matches

__all__ = ["AdversarialKind", "LeCam", "discriminator_loss", "feature_loss", "generator_loss", "r1_penalty"]

AdversarialKind = Literal["least_squares", "hinge", "non_saturating"]
"""How judgements become losses."""


def discriminator_loss(
    real: Sequence[Tensor],
    made: Sequence[Tensor],
    kind: AdversarialKind = "least_squares",
    *,
    label_noise: float = 0.0,
    most_noise: float = 0.3,
) -> Tensor:
    """Return how badly several discriminators tell real data from what was made, the mean over the discriminators.

    With r and m what one says of either, the mean of

    * `least_squares`: (1 - r)² + m² (Mao et al., arXiv 1611.04076, equation 2 with labels 0 and 1, not halved);
    * `hinge`: relu(1 - r) + relu(1 + m) (Lim and Ye, arXiv 1705.02894; VQGAN has half of it);
    * `non_saturating`: softplus(-r) + softplus(m), the cross-entropy of logits (Goodfellow et al., arXiv 1406.2661).

    Labels of `non_saturating` can be softened at random: by min(most_noise, label_noise · |n|) towards the other side,
    with n normal and drawn for each judgement, those of real data first (LARP, arXiv 2410.21264, with 0.15 and 0.3).

    Args:
        real: The judgement of each on real data, of any shape; logits, but for `least_squares`.
        made: The same on what was made.
        kind: Which loss.
        label_noise: Scale of what labels are softened by; 0 for hard labels.
        most_noise: The most they are softened by.

    Raises:
        InputError: There are none, or not as many of the one as of the other.
        ConfigError: There is no such kind, or it has no labels to soften, or the softening is not from 0 to 1.
    """
    _check_kind(kind)
    if label_noise and kind != "non_saturating":
        raise ConfigError(f"only the labels of non_saturating can be softened, not those of {kind}: set label_noise 0.")
    if label_noise < 0 or not 0 <= most_noise <= 1:
        raise ConfigError(
            f"label_noise must not be negative and most_noise must be from 0 to 1, got {label_noise} and {most_noise}."
        )
    losses = []
    for one_real, one_made in _paired(real, made):
        r, m = one_real.float(), one_made.float()
        if kind == "least_squares":
            losses.append((1 - r).square().mean() + m.square().mean())
        elif kind == "hinge":
            losses.append(F.relu(1 - r).mean() + F.relu(1 + m).mean())
        else:
            # softplus(-r) + s r is the cross-entropy with the label 1 - s, and softplus(m) - s m that with s.
            of_real = F.softplus(-r) + _softening(r, label_noise, most_noise) * r
            of_made = F.softplus(m) - _softening(m, label_noise, most_noise) * m
            losses.append(of_real.mean() + of_made.mean())
    return torch.stack(losses).mean()


def generator_loss(made: Sequence[Tensor], kind: AdversarialKind = "least_squares") -> Tensor:
    """Return how far several discriminators are from taking what was made for real, the mean over them.

    The mean of (1 - m)² (`least_squares`), -m (`hinge`) or softplus(-m) (`non_saturating`), as in `discriminator_loss`.

    Args:
        made: The judgement of each on what was made, of any shape.
        kind: Which loss; that of the discriminators.

    Raises:
        InputError: There are none.
        ConfigError: There is no such kind.
    """
    _check_kind(kind)
    losses = []
    for m, _ in _paired(made, made):
        if kind == "least_squares":
            losses.append((1 - m.float()).square().mean())
        else:
            losses.append(-m.float().mean() if kind == "hinge" else F.softplus(-m.float()).mean())
    return torch.stack(losses).mean()


def feature_loss(real: Sequence[Sequence[Tensor]], made: Sequence[Sequence[Tensor]]) -> Tensor:
    """Return the mean difference of discriminators' inner features, relative to the real ones' mean size.

    Feature matching (Larsen et al., arXiv 1512.09300), with the normalisation of arXiv 2210.13438 (equation 3), without
    which the deepest features count as much as they happen to be large.

    Args:
        real: Features of each layer of each discriminator on real data, which get no gradient.
        made: The same on what was made.

    Raises:
        InputError: There are none, or not as many of the one as of the other.
    """
    differences = [
        F.l1_loss(m.float(), r.detach().float()) / r.detach().float().abs().mean().clamp(min=1e-6)
        for all_real, all_made in _paired(real, made)
        for r, m in _paired(all_real, all_made)
    ]
    return torch.stack(differences).mean()


def r1_penalty(judgement: Tensor, real: Tensor) -> Tensor:
    """Return the mean over a batch of ‖∇ₓ D(x)‖² at real data (Mescheder et al., arXiv 1801.04406, R₁ without its γ/2).

    The discriminator must not mix the items of a batch. Where it is applied to every n-th batch only, n times the
    weight makes up for it.

    Args:
        judgement: What the discriminator says of `real`, of any shape.
        real: (B, ...), which must have required gradients before it was judged.

    Raises:
        InputError: `real` requires no gradient, or the judgement does not depend on it.
    """
    if not real.requires_grad or not judgement.requires_grad:
        raise InputError(
            "r1_penalty needs the gradient of a judgement in its input: judge real.detach().requires_grad_(), with "
            "gradients enabled."
        )
    (gradient,) = torch.autograd.grad(judgement.float().sum(), real, create_graph=True)
    return gradient.float().flatten(1).square().sum(1).mean()


class LeCam(nn.Module):
    """LeCam regularisation (Tseng et al., arXiv 2104.03310, equation 6): judgements are kept near their averages.

    With r and m what the discriminator says of real and made data, and R and M moving averages of their means,
    mean(relu(r - M)²) + mean(relu(R - m)²), or the same with the batch's means in place of r and m, as LARP has it.

    The averages, of the batches of all processes, are buffers, so that a checkpoint has them.

    Args:
        decay: γ of R ← γ R + (1 - γ) mean(r) after every use; both start at zero.
        of_means: Whether means are compared instead of every judgement.

    Raises:
        ConfigError: `decay` is not from 0 to below 1.
    """

    real_mean: Tensor
    made_mean: Tensor

    def __init__(self, decay: float = 0.999, of_means: bool = False) -> None:
        super().__init__()
        if not 0 <= decay < 1:
            raise ConfigError(f"LeCam: decay must be at least 0 and below 1, got {decay}.")
        self.decay = decay
        self.of_means = of_means
        self.register_buffer("real_mean", torch.zeros((), dtype=torch.float32))
        self.register_buffer("made_mean", torch.zeros((), dtype=torch.float32))

    def forward(self, real: Tensor, made: Tensor) -> Tensor:
        """Return the penalty of judgements of real and made data, of any shape, and update the averages in training."""
        real, made = real.float(), made.float()
        r, m = (real.mean(), made.mean()) if self.of_means else (real, made)
        penalty = F.relu(r - self.made_mean).square().mean() + F.relu(self.real_mean - m).square().mean()
        if self.training:
            with torch.no_grad():
                for average, judged in ((self.real_mean, real), (self.made_mean, made)):
                    added, count = total(torch.stack([judged.sum(), judged.new_tensor(float(judged.numel()))]))
                    average.lerp_(added / count, 1 - self.decay)
        return penalty


def _softening(judged: Tensor, scale: float, most: float) -> Tensor | float:
    return (scale * torch.randn_like(judged).abs()).clamp(max=most) if scale else 0.0


def _check_kind(kind: str) -> None:
    known = get_args(AdversarialKind)
    if kind not in known:
        raise ConfigError(f"there is no adversarial loss {kind!r}; {near_matches(kind, known)}")


def _paired(real: Sequence[Any], made: Sequence[Any]) -> list[tuple[Any, Any]]:
    if not real or len(real) != len(made):
        raise InputError(f"equally many judgements of real and made data are needed, got {len(real)} and {len(made)}.")
    return list(zip(real, made, strict=True))
