"""What the Triton kernels share: tensors with their strides, rows of a tile, and who sees whom inside a partial tile.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width (padded to BLOCK_D), W words of 32 key segments.
"""

from typing import Any, NamedTuple

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)  # exp(x) = exp2(LOG2_E x), and exp2 is one instruction
LN_2 = tl.constexpr(0.6931471805599453)


class Heads(NamedTuple):
    """A (B, heads, tokens, D) tensor and its strides; that of D is 1."""

    ptr: Any
    batch: Any
    head: Any
    token: Any


class Mask(NamedTuple):
    """Who sees whom, for partial tiles.

    A query carries its row of the visibility table as bits, one a key segment, so that a pair costs a shift and not a load.
    """

    sees: Any  # (1 or 2, W, N) int32, the key segments that a query sees whole and, if CAUSAL, those it sees up to its own place
    places: Any  # (N,) int32, each query's place among the keys
    segments: Any  # (1 or B, M) int8, each key's segment; -1 for an absent key, which is in no word
    batch: Any  # stride of segments, 0 where the batch shares them


class Visits(NamedTuple):
    """(1 or B, R, 2 + C) int32: for a row of tiles how many are full, how many partial, and their columns, full ones first."""

    ptr: Any
    batch: Any  # strides; 0 where the batch shares them
    row: Any


@triton.jit
def at_head(x: Heads, batch: tl.tensor, head: tl.tensor) -> Heads:
    """The tokens of one head; `batch` and `head` are int64, because a whole tensor may be longer than int32 counts."""
    return Heads(x.ptr + batch * x.batch + head * x.head, x.batch, x.head, x.token)


@triton.jit
def load_rows(
    x: Heads,
    first: tl.tensor,
    limit: tl.tensor,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    RAGGED: tl.constexpr,
    left: tl.tensor = 0,
) -> tl.tensor:
    """(ROWS, BLOCK_D) the tokens of a head from `first` on, their columns from `left` on; 0 beyond the width and, if RAGGED, from token
    `limit` on."""
    rows, columns = tl.arange(0, ROWS)[:, None], left + tl.arange(0, BLOCK_D)[None, :]
    pointers = x.ptr + first.to(tl.int64) * x.token + (rows * x.token + columns)
    if RAGGED:
        return tl.load(pointers, mask=(rows < limit - first) & (columns < WIDTH), other=0.0)
    if WIDTH == BLOCK_D:
        return tl.load(pointers)
    return tl.load(pointers, mask=columns < WIDTH, other=0.0)


@triton.jit
def store_rows(
    x: Heads,
    first: tl.tensor,
    limit: tl.tensor,
    values: tl.tensor,
    ROWS: tl.constexpr,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    left: tl.tensor = 0,
) -> None:
    """Stores (ROWS, BLOCK_D) as the tokens of a head from `first` on and their columns from `left` on, without what lies beyond the width
    or from `limit` on."""
    rows, columns = tl.arange(0, ROWS)[:, None], left + tl.arange(0, BLOCK_D)[None, :]
    pointers = x.ptr + first.to(tl.int64) * x.token + (rows * x.token + columns)
    tl.store(pointers, values.to(x.ptr.dtype.element_ty), mask=(rows < limit - first) & (columns < WIDTH))


@triton.jit
def sees(
    mask: Mask, batch: tl.tensor, queries: tl.tensor, keys: tl.tensor, N: tl.tensor, M: tl.tensor, WORDS: tl.constexpr, CAUSAL: tl.constexpr
) -> tl.tensor:
    """Whether each query sees each key: `queries` and `keys` broadcast against each other, in either order of the two axes."""
    segments = tl.load(mask.segments + batch * mask.batch + keys, mask=keys < M, other=-1).to(tl.int32)
    visible = (queries < 0) & (keys < 0)  # nothing yet, in the shape of both
    for word in tl.static_range(WORDS):
        inside = (segments >> 5) == word
        whole = tl.load(mask.sees + word * N + queries, mask=queries < N, other=0)
        visible |= inside & (((whole >> (segments & 31)) & 1) != 0)
        if CAUSAL:
            causal = tl.load(mask.sees + (WORDS + word) * N + queries, mask=queries < N, other=0)
            places = tl.load(mask.places + queries, mask=queries < N, other=-1)
            visible |= inside & (((causal >> (segments & 31)) & 1) != 0) & (keys <= places)
    return visible
