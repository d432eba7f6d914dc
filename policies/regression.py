"""Regression of action chunks, behind the interface of policies/flow.py: one answer, no noise, no time.

FuSe's public code has this head on Octo (octo_digit, MSEActionHead): chunk = 5 tanh(y / 5), squared error.
Axes: N samples; the remaining axes of the data are free.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from handsight.policies.flow import Field, FlowPair


@dataclass(frozen=True)
class Regression:
    """The network is asked at x = 0, t = 0 for the standardised data itself."""

    bound: float = 5.0
    """Largest absolute value that can be predicted [standard deviations]."""

    def source(self, shape: tuple[int, ...], *, like: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Zeros: nothing is random."""
        return torch.zeros(shape, device=like.device, dtype=like.dtype)

    def pair(self, data: Tensor, generator: torch.Generator | None = None) -> FlowPair:
        """The network's inputs and the target, which is the data (N, ...)."""
        return FlowPair(x=torch.zeros_like(data), t=data.new_zeros(len(data)), target=data)

    def output(self, y: Tensor) -> Tensor:
        """bound tanh(y / bound) of the network's output."""
        return self.bound * torch.tanh(y / self.bound)

    def schedule(self, *, like: Tensor) -> Tensor:
        """One time, (1,)."""
        return like.new_zeros(1)

    def follow(self, fields: Sequence[Field], noise: Tensor) -> Tensor:
        """The prediction (N, ...); `noise` lends its shape alone."""
        return self.output(fields[0](torch.zeros_like(noise)))
