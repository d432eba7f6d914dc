"""Dense masks that others made: prepared once, then used by every layer of a model.

Axes: B batch, H query heads, N queries, M keys.
"""

import functools
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from handsight.kernels.attention import attend
from handsight.kernels.layout import TokenLayout, layout_of_mask


@dataclass(frozen=True)
class DenseMask:
    """For PyTorch's scaled dot product: a mask in which every row sees something, and the rows that must give zeros."""

    mask: Tensor  # (1 or B, 1 or H, N, M) bool, or floating-point and added to the scores
    dead: Tensor | None  # (1 or B, 1 or H, N, 1) bool; None if no row is without keys

    @classmethod
    def of(cls, mask: Tensor) -> "DenseMask":
        """From a boolean mask (True: attends) or an additive one (hides by -inf or about the type's least number)."""
        hidden = ~mask if mask.dtype == torch.bool else mask <= torch.finfo(mask.dtype).min / 2
        dead = hidden.all(-1, keepdim=True)
        # Reading a value would make a GPU's host wait, and torch.compile cannot.
        if mask.device.type == "cpu" and not torch.compiler.is_compiling() and not dead.any():
            return cls(mask, None)
        # A row without keys is 0/0 in softmax, and NaN times a zero gradient is still NaN: let it see everything, then drop it.
        return cls(mask | dead if mask.dtype == torch.bool else mask.masked_fill(dead, 0.0), dead)

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """As `kernels.attention.attend`, with this mask in place of a layout."""
        mask = self.mask if self.mask.dtype == torch.bool else self.mask.to(q.dtype)
        out = scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale, enable_gqa=q.shape[1] != k.shape[1])
        return out if self.dead is None else out.masked_fill(self.dead, 0.0)


@dataclass(frozen=True)
class LayoutMask:
    """What `attend` needs: a layout, and which keys are there."""

    layout: TokenLayout
    present: Tensor | None  # (B, M) bool

    @classmethod
    def of(cls, mask: Tensor) -> "LayoutMask":
        """From a (B, N, M) boolean mask that hides by one table for the whole batch, and hides absent tokens altogether.

        Such a mask is table[i, j] and row_present[b, i] and key_present[b, j], as vision-language-action models make it. Queries that are
        there see the same as in the mask; absent ones, which see nothing in it, may see something. The mask visits the host once.

        Raises:
            ValueError: more than 127 runs of queries or of keys.
        """
        seen = mask.any(0).cpu().numpy()
        return cls(_layout(np.packbits(seen).tobytes(), *seen.shape), mask.any(1))

    def attend(self, q: Tensor, k: Tensor, v: Tensor, scale: float | None = None) -> Tensor:
        """As `kernels.attention.attend`."""
        return attend(q, k, v, self.layout, present=self.present, scale=scale)


@functools.lru_cache(maxsize=64)
def _layout(bits: bytes, queries: int, keys: int) -> TokenLayout:
    seen = np.unpackbits(np.frombuffer(bits, dtype=np.uint8), count=queries * keys).reshape(queries, keys).astype(bool)
    # A token that the whole batch lacks looks like its neighbour, so that the layout, for which kernels plan, depends less on padding.
    return layout_of_mask(seen[_nearest(seen.any(1))][:, _nearest(seen.any(0))])


def _nearest(alive: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each token the last one that is alive, before the first the first; all stay themselves if none is."""
    places = np.flatnonzero(alive)
    return places[np.maximum(np.searchsorted(places, np.arange(len(alive)), side="right") - 1, 0)] if len(places) else np.arange(len(alive))


def prepared(mask: Tensor) -> DenseMask | LayoutMask:
    """A (B, N, M) boolean mask as in `LayoutMask.of`, in the form that is fastest where it is: a layout lets CUDA kernels skip tiles."""
    return LayoutMask.of(mask) if mask.is_cuda else DenseMask.of(mask[:, None])
