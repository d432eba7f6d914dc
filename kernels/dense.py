"""Attention with a dense mask by PyTorch's scaled dot product, with zeros where a query has no key.

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention


@dataclass(frozen=True)
class DenseMask:
    """A mask in which every row sees something, and the rows that must give zeros."""

    mask: Tensor  # (1 or B, 1 or H, 1 or N, M) bool, or floating-point and added to the scores
    dead: Tensor | None  # (1 or B, 1 or H, 1 or N, 1) bool; None if no row is without keys

    @classmethod
    def of(cls, mask: Tensor) -> "DenseMask":
        """From a boolean mask (True: attends) or an additive one (hides by -inf or about the type's least number)."""
        # Reading a value would make a GPU's host wait, and torch.compile cannot.
        is_read = mask.device.type == "cpu" and not torch.compiler.is_compiling()
        if is_read and mask.dtype == torch.bool and mask.view(torch.uint8).amax(-1).all():  # in a third of the time of `mask.any(-1)`
            return cls(mask, None)
        hidden = ~mask if mask.dtype == torch.bool else mask <= torch.finfo(mask.dtype).min / 2
        dead = hidden.all(-1, keepdim=True)
        if is_read and not dead.any():
            return cls(mask, None)
        # A row without keys is 0/0 in softmax, and NaN times a zero gradient is still NaN: let it see everything, then drop it.
        return cls(mask | dead if mask.dtype == torch.bool else mask.masked_fill(dead, 0.0), dead)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """softmax(scale q k^T + mask) v for q (B, H, N, D), k and v (B, G, M, D) -> (B, H, N, D)."""
        mask = self.mask if self.mask.dtype == torch.bool else self.mask.to(q.dtype)
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=bool(q.shape[1] != k.shape[1]))
        return out if self.dead is None else out.masked_fill(self.dead, 0.0)
