"""Flow matching: straight paths from noise to data, learned as velocities (arXiv 2210.02747, 2209.03003).

Training, with a network `velocity(x, t, *conditions)`:

    path = Path(noise_time=1, points_to="noise")
    t = draw_times(len(data), LogitNormal(), generator)
    noise = draw_noise(data.shape, generator, data.device)
    predicted = velocity(path.at(data, noise, t), t, *drop_conditions(conditions, null, 0.1, generator))
    loss = flow_loss(predicted, path.velocity(data, noise), mask)

and use:

    x = sample(velocity, noise, path, Solver(25), conditions=conditions, null=null, guidance=Guidance(7.5))
"""

from zoo.components.flow.draws import draw_noise, draw_times, start_noise
from zoo.components.flow.guidance import Adaptive, Guidance, Guide, drop_conditions
from zoo.components.flow.loss import flow_loss, item_errors
from zoo.components.flow.path import Path
from zoo.components.flow.solver import Solver, Velocity, sample
from zoo.components.flow.warps import Cosine, Linear, LogitNormal, Mode, Power, Warp

__all__ = [
    "Adaptive",
    "Cosine",
    "Guidance",
    "Guide",
    "Linear",
    "LogitNormal",
    "Mode",
    "Path",
    "Power",
    "Solver",
    "Velocity",
    "Warp",
    "draw_noise",
    "draw_times",
    "drop_conditions",
    "flow_loss",
    "item_errors",
    "sample",
    "start_noise",
]
