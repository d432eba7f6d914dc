"""Denoising diffusion of action chunks, behind the interface of policies/flow.py.

    x_k = sqrt(a_k) data + sqrt(1 - a_k) noise,    the network predicts the noise,    k = 0 is data, k = K noise

DDPM (Ho et al. 2020) on the squared-cosine schedule (Nichol & Dhariwal 2021, eq. 17), as in Octo and in Diffusion Policy; inference is
DDIM without added noise (Song et al. 2021, eq. 12, eta = 0). The network's time is k / K: unlike the flow's it runs from data to noise.
Axes: N samples; the remaining axes of the data are free.
"""

import functools
import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from handsight.policies.flow import Field, FlowPair

_OFFSET: Final = 0.008
_MAX_BETA: Final = 0.999


@functools.cache
def signal(steps: int) -> tuple[float, ...]:
    """(a_0 = 1, ..., a_K) with a_k = prod_{i <= k} (1 - beta_i), beta_i = min(1 - f_i / f_{i-1}, 0.999).

    f_i = cos^2((i / K + 0.008) / 1.008 pi / 2).
    """
    f = [math.cos((i / steps + _OFFSET) / (1 + _OFFSET) * math.pi / 2) ** 2 for i in range(steps + 1)]
    values = [1.0]
    for before, after in itertools.pairwise(f):
        values.append(values[-1] * (1 - min(1 - after / before, _MAX_BETA)))
    return tuple(values)


@dataclass(frozen=True)
class Diffusion:
    """Training and inference on one schedule."""

    training_steps: int = 100
    """K."""
    steps: int = 10
    """Denoising steps at inference; divides K."""
    clip: float = 5.0
    """Largest absolute value of the predicted data [standard deviations]: at k = K a small error of the noise is a huge one of the data."""

    def source(self, shape: tuple[int, ...], *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal noise on the device and in the dtype of `like`."""
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

    def pair(self, data: Tensor, generator: torch.Generator | None = None) -> FlowPair:
        """Draw noise and k for each row of `data` (N, ...); the target is the noise."""
        noise = self.source(tuple(data.shape), like=data, generator=generator)
        k = torch.randint(1, self.training_steps + 1, (len(data),), generator=generator, device=data.device)
        a = data.new_tensor(signal(self.training_steps))[k].view(-1, *(1,) * (data.dim() - 1))
        return FlowPair(x=a.sqrt() * data + (1 - a).sqrt() * noise, t=k.to(data.dtype) / self.training_steps, target=noise)

    def output(self, y: Tensor) -> Tensor:
        """The network's output is the noise."""
        return y

    def schedule(self, *, like: Tensor) -> Tensor:
        """The times k / K (steps,) of inference, from 1 down."""
        return 1 - torch.arange(self.steps, device=like.device, dtype=like.dtype) / self.steps

    def follow(self, fields: Sequence[Field], noise: Tensor) -> Tensor:
        """Carry `noise` (N, ...) from k = K to k = 0, the noise predicted by `fields`, one for each time of `schedule`."""
        a, stride = signal(self.training_steps), self.training_steps // self.steps
        x = noise
        for step, field in enumerate(fields):
            here, next_ = a[(self.steps - step) * stride], a[(self.steps - step - 1) * stride]
            data = ((x - math.sqrt(1 - here) * field(x)) / math.sqrt(here)).clamp(-self.clip, self.clip)
            predicted = (x - math.sqrt(here) * data) / math.sqrt(1 - here)
            x = math.sqrt(next_) * data + math.sqrt(1 - next_) * predicted
        return x
