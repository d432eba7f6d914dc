"""What the Triton kernels are told of a layout: a handful of small tensors on the device, made once a layout and kept.

Axes: B batch, N queries, M keys, S and T their segments, R rows and C columns of tiles, W words of 32 key segments.
"""

import functools
import math
from typing import Any, Final, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import pad

from handsight.kernels.layout import TokenLayout, Visibility, from_plain, plain
from handsight.kernels.tiles import tile_map

FULL: Final = 0  # classes of tiles, in the order in which a program visits them
PARTIAL: Final = 1
EMPTY: Final = 2


class MaskTensors(NamedTuple):
    """Who sees whom, for partial tiles."""

    sees: Tensor  # (1, W, N) int32, a bit a key segment that the query sees whole; (2, W, N) with those that it sees causally
    places: Tensor  # (N,) int32, the query's place among the keys
    segments: Tensor  # (1 or B, M) int8, -1 for an absent key


class Schedule(NamedTuple):
    """Which tiles each program visits."""

    visits: Tensor  # (1 or B, R, 2 + C) int32, a row of tiles: how many are full, how many partial, which columns, full ones first
    has_partial: bool


def mask_tensors(layout: TokenLayout, present: Tensor | None, device: torch.device) -> MaskTensors:
    """The layout's tensors; keys that are not `present` (B, M) belong to no segment."""
    sees, places, segments = _static_mask(plain(layout), device)
    return MaskTensors(sees, places, segments if present is None else torch.where(present, segments, -1))


def schedule(
    layout: TokenLayout, present: Tensor | None, block_n: int, block_m: int, device: torch.device, *, by_keys: bool = False
) -> Schedule:
    """The tiles of `block_n` queries by `block_m` keys that hold something to see.

    Args:
        by_keys: for programs that own a tile of keys and visit those of queries: rows and columns of tiles change places.
    """
    visits, classes, has_partial = _static_schedule(plain(layout), block_n, block_m, by_keys, device)
    if present is None:
        return Schedule(visits, has_partial)
    best = _best(present, block_m)  # (B, C)
    return Schedule(_visits(torch.maximum(classes, best[:, :, None] if by_keys else best[:, None, :])), True)


def _best(present: Tensor, block_m: int) -> Tensor:
    """(B, C) int8, what the tiles of a column can be at best: FULL if all of its keys are present, EMPTY if none is."""
    tiles = pad(present, (0, -present.shape[1] % block_m)).unflatten(1, (-1, block_m))
    return EMPTY - tiles.any(-1).to(torch.int8) - tiles.all(-1).to(torch.int8)


def _visits(classes: Tensor) -> Tensor:
    """(B, R, C) classes of tiles -> (B, R, 2 + C) int32, see `Schedule`. On the device, so that nothing waits for the host."""
    counts = torch.stack([(classes == FULL).sum(-1), (classes == PARTIAL).sum(-1)], dim=-1)
    return torch.cat([counts, classes.argsort(dim=-1, stable=True)], dim=-1).int()


# torch.compile embeds these results in its graph; without this it would trace NumPy, and run it again in every call.
@torch.compiler.assume_constant_result
def _static_mask(nested: tuple[Any, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    return _kept_mask(nested, device)


@torch.compiler.assume_constant_result
def _static_schedule(
    nested: tuple[Any, ...], block_n: int, block_m: int, by_keys: bool, device: torch.device
) -> tuple[Tensor, Tensor, bool]:
    return _kept_schedule(nested, block_n, block_m, by_keys, device)


@functools.lru_cache(maxsize=256)
def _kept_mask(nested: tuple[Any, ...], device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    layout = from_plain(nested)
    with torch.inference_mode(False):  # an inference tensor must not enter the cache: no training step could save it
        sees, places = torch.from_numpy(_bits(layout)), torch.from_numpy(layout.query_places())
        return sees.to(device), places.to(device), torch.from_numpy(layout.key_segments())[None].to(device)


@functools.lru_cache(maxsize=256)
def _kept_schedule(nested: tuple[Any, ...], block_n: int, block_m: int, by_keys: bool, device: torch.device) -> tuple[Tensor, Tensor, bool]:
    """Visits, (1, R, C) int8 classes, and whether any tile is partial."""
    tiles = tile_map(from_plain(nested), block_n, block_m)
    by_class = np.where(tiles.is_full, FULL, np.where(tiles.is_partial, PARTIAL, EMPTY)).astype(np.int8)
    with torch.inference_mode(False):
        classes = torch.from_numpy(np.ascontiguousarray(by_class.T if by_keys else by_class))[None].to(device)
        return _visits(classes), classes, bool(tiles.is_partial.any())


def _bits(layout: TokenLayout) -> NDArray[np.int32]:
    """(1 or 2, W, N) the rows of the visibility table, one bit a key segment."""
    words = math.ceil(len(layout.keys) / 32)
    table = np.array(layout.visible, dtype=np.int8)  # (S, T)
    kinds = (Visibility.ALL, Visibility.CAUSAL) if layout.is_causal else (Visibility.ALL,)
    chosen = np.stack([table == kind for kind in kinds])  # (K, S, T)
    chosen = np.pad(chosen, ((0, 0), (0, 0), (0, 32 * words - table.shape[1]))).reshape(len(kinds), -1, words, 32)
    packed = (chosen * (np.uint32(1) << np.arange(32, dtype=np.uint32))).sum(-1, dtype=np.uint32)  # (K, S, W)
    return np.ascontiguousarray(packed.view(np.int32)[:, layout.query_segments()].transpose(0, 2, 1))
