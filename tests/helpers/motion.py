"""Robot motion for tests: smooth trajectories, grippers that switch, noise."""

import torch


def smooth(num, steps, dofs, seed=0, fastest=0.02):
    """Sums of six sines of up to `fastest` cycles a step, their size falling with frequency, (num, steps, dofs)."""
    generator = torch.Generator().manual_seed(seed)
    frequency, phase, size = torch.rand(3, num, 1, dofs, 6, dtype=torch.float64, generator=generator)
    t = torch.arange(steps, dtype=torch.float64)[None, :, None, None]
    waves = size / (1 + 4 * frequency) * torch.sin(2 * torch.pi * (fastest * frequency * t + phase))
    return waves.sum(-1).float()


def switching(num, steps, switches, seed=0):
    """Signals of -1 and 1 that switch at `switches` random steps, (num, steps, 1)."""
    generator = torch.Generator().manual_seed(seed)
    at = torch.randint(1, steps, (num, switches, 1), generator=generator)
    flips = (torch.arange(steps) >= at).sum(1) % 2
    first = torch.randint(2, (num, 1), generator=generator)
    return ((flips + first) % 2 * 2.0 - 1)[:, :, None]
