"""Which tiles of the score matrix a layout needs at all: full ones need no mask, partial ones need it, empty ones are never loaded.

Axes: N queries, M keys, R rows of tiles, C columns of tiles.
"""

import functools
import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from handsight.kernels.layout import TokenLayout


@dataclass(frozen=True)
class TileMap:
    """The class of every tile of `block_n` queries by `block_m` keys."""

    is_full: NDArray[np.bool_]  # (R, C)
    is_partial: NDArray[np.bool_]  # (R, C)

    @property
    def share_skipped(self) -> float:
        """Of all tiles, those that are never loaded."""
        return 1 - float((self.is_full | self.is_partial).mean())

    @property
    def share_full(self) -> float:
        """Of all tiles, those that need no mask."""
        return float(self.is_full.mean())


@functools.lru_cache(maxsize=256)
def tile_map(layout: TokenLayout, block_n: int, block_m: int) -> TileMap:
    """Classes of the tiles of a layout. Keys beyond the last are seen by nobody; queries beyond the last have no say."""
    mask = layout.mask()
    rows, columns = math.ceil(mask.shape[0] / block_n), math.ceil(mask.shape[1] / block_m)
    extra = ((0, rows * block_n - mask.shape[0]), (0, columns * block_m - mask.shape[1]))

    def tiled(fill_rows: bool) -> NDArray[np.bool_]:  # (R, block_n, C, block_m)
        padded = np.pad(mask, ((0, 0), extra[1]), constant_values=False)
        padded = np.pad(padded, (extra[0], (0, 0)), constant_values=fill_rows)
        return padded.reshape(rows, block_n, columns, block_m)

    some = tiled(fill_rows=False).any(axis=(1, 3))
    every = tiled(fill_rows=True).all(axis=(1, 3))
    return TileMap(np.asarray(every), np.asarray(some & ~every))
