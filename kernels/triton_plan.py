"""What the Triton kernels are told of a layout: a handful of small tensors on the device, made once a layout and kept.

Axes: B batch, N queries, M keys, S and T their segments, R rows and C columns of tiles, W words of 32 key segments.
"""

import functools
import math
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from handsight.kernels.layout import TokenLayout, Visibility
from handsight.kernels.tiles import tile_map

FULL: Final = 0  # classes of tiles, in the order in which a program visits them
PARTIAL: Final = 1
EMPTY: Final = 2


@dataclass(frozen=True)
class Plan:
    """A layout in tiles of one size."""

    sees: Tensor  # (1, W, N) int32, a bit a key segment that the query sees whole; (2, W, N) with those that it sees causally
    places: Tensor  # (N,) int32, the query's place among the keys
    segments: Tensor  # (1 or B, M) int8, -1 for an absent key
    visits: Tensor  # (1 or B, R, 2 + C) int32, a row of tiles: how many are full, how many partial, which columns, full ones first
    has_partial: bool


@functools.lru_cache(maxsize=256)
def plan_for(layout: TokenLayout, block_n: int, block_m: int, device: torch.device, *, by_keys: bool = False) -> Plan:
    """The plan of a layout whose keys are all present. Kept, so do not write to it.

    Args:
        by_keys: list the rows of tiles that a column of tiles visits, as the gradients of keys and values need it.
    """
    tiles = tile_map(layout, block_n, block_m)
    classes = np.where(tiles.is_full, FULL, np.where(tiles.is_partial, PARTIAL, EMPTY)).astype(np.int8)
    with torch.inference_mode(False):  # an inference tensor must not enter the cache: no training step could save it
        return Plan(
            sees=torch.from_numpy(_bits(layout)).to(device),
            places=torch.from_numpy(layout.query_places()).to(device),
            segments=torch.from_numpy(layout.key_segments())[None].to(device),
            visits=visits_of(torch.from_numpy(classes.T if by_keys else classes)[None].to(device)),
            has_partial=bool(tiles.is_partial.any()),
        )


def visits_of(classes: Tensor) -> Tensor:
    """(B, R, C) classes of tiles -> (B, R, 2 + C) int32: the number of full and of partial tiles, then the columns by class."""
    counts = torch.stack([(classes == FULL).sum(-1), (classes == PARTIAL).sum(-1)], dim=-1)
    return torch.cat([counts, classes.argsort(dim=-1, stable=True)], dim=-1).int()


def _bits(layout: TokenLayout) -> NDArray[np.int32]:
    """(1 or 2, W, N) the rows of the visibility table, one bit a key segment."""
    words = math.ceil(len(layout.keys) / 32)
    table = np.array(layout.visible, dtype=np.int8)  # (S, T)
    kinds = (Visibility.ALL, Visibility.CAUSAL) if layout.is_causal else (Visibility.ALL,)
    chosen = np.stack([table == kind for kind in kinds])  # (K, S, T)
    chosen = np.pad(chosen, ((0, 0), (0, 0), (0, 32 * words - table.shape[1]))).reshape(len(kinds), -1, words, 32)
    packed = (chosen * (np.uint32(1) << np.arange(32, dtype=np.uint32))).sum(-1, dtype=np.uint32)  # (K, S, W)
    return np.ascontiguousarray(packed.view(np.int32)[:, layout.query_segments()].transpose(0, 2, 1))
