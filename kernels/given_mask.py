"""Masks that others made: prepared once, then used by every layer of a model.

Axes: B batch, N queries, M keys.
"""

import functools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from handsight.kernels.attention import attend
from handsight.kernels.dense import DenseMask
from handsight.kernels.layout import TokenLayout, layout_of_mask


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
    rows, columns = _nearest(np.any(seen, axis=1)), _nearest(np.any(seen, axis=0))
    return layout_of_mask(seen[np.ix_(rows, columns)])


def _nearest(alive: NDArray[np.bool_]) -> NDArray[np.intp]:
    """For each token the last one that is alive, before the first the first; all stay themselves if none is."""
    places = np.flatnonzero(alive)
    return places[np.maximum(np.searchsorted(places, np.arange(len(alive)), side="right") - 1, 0)] if len(places) else np.arange(len(alive))


def prepared(mask: Tensor) -> DenseMask | LayoutMask:
    """A (B, N, M) boolean mask as in `LayoutMask.of`, in the form that is fastest where it is: a layout lets CUDA kernels skip tiles."""
    return LayoutMask.of(mask) if mask.is_cuda else DenseMask.of(mask[:, None])
