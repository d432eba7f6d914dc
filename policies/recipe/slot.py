"""How tokens get into a host whose code stays as it is, and its image features out of it.

Hooks are bound methods of a slot, so that a deep copy of a policy has hooks that feed the copy.
Axes: B batch, N tokens, D width.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from handsight.policies.recipe.adapter import Extra


class Slot:
    """Holds a forward pass's Extra for the one place in the host where its inputs are assembled; empty at all other times."""

    def __init__(self) -> None:
        self.extra: Extra | None = None
        self.rows = 0
        """B of the present pass."""
        self._images: list[Tensor] | None = None

    @contextmanager
    def filled(self, extra: Extra) -> Iterator[None]:
        """`extra` within the block, nothing where all of it is absent."""
        self.extra = extra if bool(extra.present.any()) else None
        self.rows = len(extra.present)
        try:
            yield
        finally:
            self.extra = None

    @contextmanager
    def watched(self) -> Iterator[list[Tensor]]:
        """A list that the features of the host's passes within the block are appended to, one entry (B, N, D) a call of its encoder."""
        self._images = []
        try:
            yield self._images
        finally:
            self._images = None

    def watch(self, encoder: nn.Module) -> None:
        """Have the features of this image encoder of the host kept."""
        encoder.register_forward_hook(self._keep)

    def image_tokens(self, output: Tensor) -> Tensor:
        """What an image encoder gives, as tokens (B, N, D)."""
        return output

    def _keep(self, module: nn.Module, args: Any, output: Tensor) -> None:
        if self._images is not None:
            self._images.append(self.image_tokens(output))


class WidenedLinear(nn.Linear):
    """y = W x + b + E e: a host's layer with further inputs e, E = 0 at initialisation.

    The host's weights keep their names and shapes; without e the layer is the host's exactly, before training up to rounding.
    """

    def __init__(self, stock: nn.Linear, extra: int) -> None:
        super().__init__(stock.in_features, stock.out_features, stock.bias is not None, device="meta")
        self.weight, self.bias = stock.weight, stock.bias
        self.extra = nn.Parameter(torch.zeros(stock.out_features, extra))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, in) or (B, in + extra) -> (B, out)."""
        y = super().forward(x[..., : self.in_features])
        more = x[..., self.in_features :]
        return y if more.shape[-1] == 0 else y + nn.functional.linear(more, self.extra)
