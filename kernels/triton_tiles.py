"""Tile sizes, warps and pipeline stages of the Triton kernels: plain data, chosen so that no target spills registers.

Chosen from what the compiler reports (registers, shared memory, spills), not from timings: never run on a GPU.
"""

from dataclasses import dataclass
from typing import Final, Literal

import torch

Direction = Literal["forward", "split", "keys", "queries"]


@dataclass(frozen=True)
class Tiles:
    """A program's tile of the score matrix, and how it is compiled."""

    block_n: int  # queries
    block_m: int  # keys
    num_warps: int
    num_stages: int
    slices: int = 1
    """Programs that share the width of a tile's gradients (kernels/triton_backward.py); 1 elsewhere."""


Exceptions = dict[str, dict[tuple[Direction, int], Tiles]]

# Direction -> widest head that the row serves -> tiles for 16-bit types. "keys" computes dK and dV, "queries" dQ.
_HALF: Final[dict[Direction, dict[int, Tiles]]] = {
    "forward": {32: Tiles(64, 64, 4, 2), 64: Tiles(64, 64, 4, 3), 128: Tiles(64, 32, 8, 2), 256: Tiles(64, 32, 8, 2)},
    "split": {32: Tiles(64, 64, 4, 2), 64: Tiles(64, 64, 4, 3), 128: Tiles(64, 32, 8, 2), 256: Tiles(64, 32, 8, 2)},
    "keys": {
        32: Tiles(16, 64, 4, 2),
        63: Tiles(16, 32, 4, 1),  # this row and 255 are of heads that are no power of two, see `row_for`
        64: Tiles(32, 64, 8, 2),
        128: Tiles(32, 64, 8, 2),
        255: Tiles(16, 32, 8, 1),
        256: Tiles(32, 32, 8, 1),
    },
    "queries": {64: Tiles(64, 32, 4, 2), 128: Tiles(64, 32, 4, 2), 255: Tiles(64, 16, 8, 1), 256: Tiles(64, 16, 8, 1)},
}
# Architectures, by how their names begin, on which those spill or miss the matrix instructions.
_HALF_EXCEPTIONS: Final[Exceptions] = {
    # Warp groups multiply 64 rows. Sums of as many in wide heads spilled under some mask in all tiles that were tried (4 to 16 warps, 1 to
    # 3 stages): two programs share the width, here and on sm_100.
    "sm_90": {
        ("keys", 63): Tiles(32, 64, 8, 2),
        ("keys", 255): Tiles(16, 64, 8, 1, slices=2),
        ("keys", 256): Tiles(32, 64, 8, 2, slices=2),
        ("queries", 256): Tiles(64, 32, 8, 2, slices=2),
    },
    # Stages of loads cost registers here, where products wait in memory of their own.
    "sm_10": {
        ("forward", 256): Tiles(64, 32, 8, 1),
        ("split", 256): Tiles(64, 32, 8, 1),
        ("keys", 32): Tiles(32, 64, 8, 1),
        ("keys", 63): Tiles(64, 64, 8, 1),
        ("keys", 64): Tiles(32, 64, 8, 1),
        ("keys", 255): Tiles(16, 64, 8, 1, slices=2),
        ("keys", 256): Tiles(32, 64, 8, 1, slices=2),
        ("queries", 64): Tiles(64, 32, 8, 1),
        ("queries", 128): Tiles(64, 32, 8, 1),
        ("queries", 255): Tiles(64, 32, 8, 1),
        ("queries", 256): Tiles(64, 32, 8, 1),
    },
    # Eight wavefronts leave each work item 256 registers, four 512.
    "gfx": {
        ("forward", 128): Tiles(64, 64, 4, 2),
        ("forward", 256): Tiles(64, 32, 4, 2),
        ("split", 128): Tiles(64, 64, 4, 2),
        ("split", 256): Tiles(64, 32, 4, 2),
        ("keys", 64): Tiles(32, 64, 4, 2),
        ("keys", 128): Tiles(16, 64, 4, 2),
        ("keys", 255): Tiles(16, 32, 4, 1),
        ("keys", 256): Tiles(32, 32, 4, 1),
    },
}
# float32 is multiplied without tensor cores, from registers: small tiles.
_WIDE_SINGLE: Final = {128: Tiles(32, 16, 4, 1), 256: Tiles(16, 16, 4, 1)}
_SINGLE: Final[dict[Direction, dict[int, Tiles]]] = {
    "forward": {32: Tiles(32, 16, 4, 1), 64: Tiles(32, 32, 8, 1), **_WIDE_SINGLE},
    "split": {32: Tiles(32, 16, 4, 1), 64: Tiles(32, 32, 8, 1), 128: Tiles(32, 16, 4, 1), 256: Tiles(16, 16, 8, 1)},
    "keys": {32: Tiles(32, 32, 8, 1), 64: Tiles(32, 16, 4, 1), 128: Tiles(32, 16, 4, 1), 256: Tiles(16, 16, 8, 1)},
    "queries": {32: Tiles(32, 16, 4, 1), 64: Tiles(32, 32, 8, 1), **_WIDE_SINGLE},
}

_SINGLE_EXCEPTIONS: Final[Exceptions] = {"gfx": {("split", 256): Tiles(16, 16, 4, 1), ("keys", 256): Tiles(16, 16, 4, 1)}}


def row_for(width: int) -> int | None:
    """The width whose tiles heads of this width get; None if the kernels do not serve them.

    Rows that are no power of two are loaded through registers and not around them, so they get the tiles of heads twice as wide.
    """
    row = width if width & (width - 1) == 0 else 2 * width
    return row if row <= 256 else None


def tiles_for(width: int, dtype: torch.dtype, direction: Direction, architecture: str = "") -> Tiles:
    """The tiles for heads of this width, on a GPU of this architecture (sm_90, gfx942); in the interpreter any would do.

    Raises:
        ValueError: heads that are too wide, or a type that the kernels do not take.
    """
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        raise ValueError(f"expected float32, float16 or bfloat16 for backend='triton', got {dtype}")
    row = row_for(width)
    if row is None:
        raise ValueError(f"expected heads of at most 128, or 256, wide for backend='triton', got {width}")
    table, exceptions = (_SINGLE, _SINGLE_EXCEPTIONS) if dtype == torch.float32 else (_HALF, _HALF_EXCEPTIONS)
    widest = next(widest for widest in table[direction] if row <= widest)
    for prefix, found in exceptions.items():
        if architecture.startswith(prefix) and (direction, widest) in found:
            return found[direction, widest]
    return table[direction][widest]
