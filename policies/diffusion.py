"""Denoising diffusion of action chunks, behind the interface of policies/flow.py.

    x_k = sqrt(a_k) data + sqrt(1 - a_k) noise,    k = 0 is data, k = K noise
    the network predicts v_k = sqrt(a_k) noise - sqrt(1 - a_k) data,    so that data = sqrt(a_k) x_k - sqrt(1 - a_k) v_k

DDPM (Ho et al. 2020) on the squared-cosine schedule (Nichol & Dhariwal 2021, eq. 17), as in Octo and in Diffusion Policy, which predict the
noise; v (Salimans & Ho 2022, appendix D) needs no division by sqrt(a_K), 0.004, that makes the first step's small error a huge one: on one
batch learnt by heart, chunks by predicted noise were further from the data than 0 is. Inference is DDIM without added noise (Song et al.
2021, eq. 12, eta = 0). The network's time is k / K: unlike the flow's it runs from data to noise.
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

    def source(self, shape: tuple[int, ...], *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Standard normal noise on the device and in the dtype of `like`."""
        return torch.randn(shape, generator=generator, device=like.device, dtype=like.dtype)

    def pair(self, data: Tensor, generator: torch.Generator | None = None) -> FlowPair:
        """Draw noise and k for each row of `data` (N, ...); the target is v."""
        noise = self.source(tuple(data.shape), like=data, generator=generator)
        k = torch.randint(1, self.training_steps + 1, (len(data),), generator=generator, device=data.device)
        a = data.new_tensor(signal(self.training_steps))[k].view(-1, *(1,) * (data.dim() - 1))
        x, v = a.sqrt() * data + (1 - a).sqrt() * noise, a.sqrt() * noise - (1 - a).sqrt() * data
        return FlowPair(x=x, t=k.to(data.dtype) / self.training_steps, target=v)

    def output(self, y: Tensor) -> Tensor:
        """The network's output is v."""
        return y

    def schedule(self, *, like: Tensor) -> Tensor:
        """The times k / K (steps,) of inference, from 1 down."""
        return 1 - torch.arange(self.steps, device=like.device, dtype=like.dtype) / self.steps

    def follow(self, fields: Sequence[Field], noise: Tensor) -> Tensor:
        """Carry `noise` (N, ...) from k = K to k = 0, v predicted by `fields`, one for each time of `schedule`."""
        a, stride = signal(self.training_steps), self.training_steps // self.steps
        x = noise
        for step, field in enumerate(fields):
            here, next_ = a[(self.steps - step) * stride], a[(self.steps - step - 1) * stride]
            v = field(x)
            data, predicted = math.sqrt(here) * x - math.sqrt(1 - here) * v, math.sqrt(1 - here) * x + math.sqrt(here) * v
            x = math.sqrt(next_) * data + math.sqrt(1 - next_) * predicted
        return x
