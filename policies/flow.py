"""Flow matching on straight paths: one class owns source, time sampling and integration, for training and for inference.

Time runs from noise (t = 0) to data (t = 1), the opposite of pi0/openpi:

    x_t = (1 - t) noise + t data,    velocity target = d x_t / d t = data - noise

Axes: N samples; the remaining axes of the data are free.
"""

import enum
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""Maps x (N, ...) and t (N,) to dx/dt (N, ...)."""

Field = Callable[[Tensor], Tensor]
"""The velocity at one fixed time: maps x (N, ...) to dx/dt (N, ...)."""


class TimeSampler(enum.Enum):
    """How training times are drawn from [0, 1]."""

    UNIFORM = "uniform"
    LOGIT_NORMAL = "logit_normal"  # Esser et al. 2024 (Stable Diffusion 3), section 3.1
    BETA = "beta"  # Black et al. 2024 (pi0), appendix B: favours noise


@dataclass(frozen=True)
class FlowPair:
    """One training example per row: the point on the path, its time and the velocity to regress."""

    x: Tensor  # (N, ...)
    t: Tensor  # (N,)
    target: Tensor  # (N, ...)


@dataclass(frozen=True)
class FlowMatching:
    """Conditional flow matching (Lipman et al. 2023) with a Gaussian source and straight paths (Liu et al. 2023)."""

    time_sampler: TimeSampler = TimeSampler.LOGIT_NORMAL
    """Distribution of training times."""
    logit_mean: float = 0.0
    """Mean of logit(t) for LOGIT_NORMAL."""
    logit_std: float = 1.0
    """Standard deviation of logit(t) for LOGIT_NORMAL."""
    beta_alpha: float = 1.5
    """1 - t / 0.999 ~ Beta(beta_alpha, 1) for BETA; 1.5 in pi0."""
    source_std: float = 1.0
    """Standard deviation of the source."""
    steps: int = 4
    """Euler steps of `integrate`."""
    temperature: float = 1.0
    """`integrate` begins at the noise times this; below 1 rare modes and scatter become rarer, at 0 the result is no longer random."""

    def source(self, shape: tuple[int, ...], *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Noise of the given shape on the device and in the dtype of `like`."""
        return self.source_std * torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

    def times(self, n: int, *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Training times (n,) in [0, 1]."""
        if self.time_sampler is TimeSampler.LOGIT_NORMAL:
            z = torch.randn(n, generator=generator, device=like.device, dtype=like.dtype)
            return torch.sigmoid(self.logit_mean + self.logit_std * z)
        u = torch.rand(n, generator=generator, device=like.device, dtype=like.dtype)
        if self.time_sampler is TimeSampler.BETA:
            return 0.999 * (1 - u ** (1 / self.beta_alpha))
        return u

    def pair(self, data: Tensor, generator: torch.Generator | None = None) -> FlowPair:
        """Draw noise and time for each row of `data` (N, ...)."""
        noise = self.source(tuple(data.shape), like=data, generator=generator)
        t = self.times(data.shape[0], like=data, generator=generator)
        s = t.view(-1, *(1,) * (data.dim() - 1))
        return FlowPair(x=(1 - s) * noise + s * data, t=t, target=data - noise)

    def output(self, y: Tensor) -> Tensor:
        """The network's output is the velocity."""
        return y

    def integrate(self, velocity: Velocity, noise: Tensor) -> Tensor:
        """Carry `noise` (N, ...) from t = 0 to t = 1 with `steps` Euler steps."""
        times = self.schedule(like=noise).unsqueeze(1).expand(-1, noise.shape[0])  # (steps, N)
        return self.follow([lambda x, t=t: velocity(x, t) for t in times], noise)  # type: ignore[misc] # mypy cannot infer a default's type

    def schedule(self, *, like: Tensor) -> Tensor:
        """The times (steps,) at which the Euler steps ask for the velocity: known before the first, so that what depends on time alone can
        be computed for all of them at once."""
        return torch.tensor([step / self.steps for step in range(self.steps)], device=like.device, dtype=like.dtype)

    def follow(self, fields: Sequence[Field], noise: Tensor) -> Tensor:
        """As `integrate`, with the velocity at each time of `schedule` as a function of its own."""
        x = self.temperature * noise
        for field in fields:
            x = x + field(x) / self.steps
        return x


def sinusoidal(t: Tensor, width: int, fastest: float = 100.0) -> Tensor:
    """Fourier features (N, width) of times t (N,) in [0, 1]; angular frequencies from 1 to `fastest` in geometric steps."""
    frequency = torch.exp(torch.linspace(0, math.log(fastest), width // 2, device=t.device, dtype=t.dtype))
    angle = t.unsqueeze(1) * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
