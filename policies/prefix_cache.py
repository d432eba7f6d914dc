"""Keys and values of a trunk's layers: computed once for an observation, attended to in every flow step.

Axes: B batch, L layers, H heads, M prefix tokens, N tokens that follow them, D head width.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

KEYS: Final = 2  # the axis of tokens in (B, H, M, D)


@dataclass(frozen=True)
class PrefixCache:
    """What every layer of a trunk offers to tokens that come after its own."""

    keys: tuple[Tensor, ...]  # L times (B, H, M, D)
    values: tuple[Tensor, ...]  # L times (B, H, M, D)
    present: Tensor  # (B, M) bool, False for padding

    def repeat(self, draws: int) -> "PrefixCache":
        """Every row `draws` times in a row: (B * draws, ...)."""
        if draws == 1:
            return self
        keys, values = (tuple(x.repeat_interleave(draws, dim=0) for x in part) for part in (self.keys, self.values))
        return PrefixCache(keys, values, self.present.repeat_interleave(draws, dim=0))

    def followed_by(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, M + N, D) of a layer's prefix and of the N tokens after it; differentiable."""
        return torch.cat([self.keys[layer], k], dim=KEYS), torch.cat([self.values[layer], v], dim=KEYS)

    def with_room(self, length: int) -> "RoomyCache":
        """A copy in which N = `length` tokens after the prefix have their places."""
        batch, heads, tokens, width = self.keys[0].shape
        shape = (batch, heads, tokens + length, width)
        keys, values = (tuple(x.new_empty(shape) for x in part) for part in (self.keys, self.values))
        for roomy, plain in zip((*keys, *values), (*self.keys, *self.values), strict=True):
            roomy[:, :, :tokens] = plain
        return RoomyCache(self.keys, self.values, self.present, keys, values)


@dataclass(frozen=True)
class RoomyCache(PrefixCache):
    """A cache whose prefix is copied once, not at every step: the tokens after it are written behind it, over the last step's."""

    joint_keys: tuple[Tensor, ...]  # L times (B, H, M + N, D)
    joint_values: tuple[Tensor, ...]  # L times (B, H, M + N, D)

    def followed_by(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """As PrefixCache's; what an earlier call returned for this layer is overwritten, unless gradients are recorded."""
        if torch.is_grad_enabled():  # autograd would need what is overwritten
            return super().followed_by(layer, k, v)
        tokens = self.keys[layer].shape[KEYS]
        self.joint_keys[layer][:, :, tokens:] = k
        self.joint_values[layer][:, :, tokens:] = v
        return self.joint_keys[layer], self.joint_values[layer]
