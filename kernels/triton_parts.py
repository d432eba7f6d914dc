"""What the Triton kernels share: loading rows of a tile, and who sees whom inside a partial tile.

Axes: N queries, M keys, D width (padded to BLOCK_D), W words of 32 key segments.
"""

import triton
import triton.language as tl

LOG2_E = tl.constexpr(1.4426950408889634)  # exp(x) = exp2(LOG2_E x), and exp2 is one instruction
LN_2 = tl.constexpr(0.6931471805599453)


@triton.jit
def load_rows(
    base: tl.tensor,
    rows: tl.tensor,
    limit: tl.tensor,
    stride: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
    RAGGED: tl.constexpr,
) -> tl.tensor:
    """(rows, BLOCK_D); 0 beyond the width and, if RAGGED, from row `limit` on."""
    columns = tl.arange(0, BLOCK_D)
    pointers = base + rows[:, None] * stride + columns[None, :]
    if RAGGED:
        return tl.load(pointers, mask=(rows[:, None] < limit) & (columns[None, :] < WIDTH), other=0.0)
    if WIDTH == BLOCK_D:
        return tl.load(pointers)
    return tl.load(pointers, mask=(columns < WIDTH)[None, :], other=0.0)


@triton.jit
def store_rows(
    base: tl.tensor,
    rows: tl.tensor,
    limit: tl.tensor,
    stride: tl.tensor,
    values: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """Stores (rows, BLOCK_D) without what lies beyond the width or from row `limit` on."""
    columns = tl.arange(0, BLOCK_D)
    pointers = base + rows[:, None] * stride + columns[None, :]
    tl.store(pointers, values.to(base.dtype.element_ty), mask=(rows[:, None] < limit) & (columns[None, :] < WIDTH))


@triton.jit
def sees(
    sees_ptr: tl.tensor,
    places_ptr: tl.tensor,
    segments_ptr: tl.tensor,
    queries: tl.tensor,
    keys: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
) -> tl.tensor:
    """Whether each query sees each key: `queries` and `keys` broadcast against each other, in either order of the two axes.

    A query carries its row of the visibility table as bits, one a key segment, so that a pair costs a shift and not a load:
    `sees_ptr` (1 or 2, W, N) int32 holds the segments it sees whole and, if CAUSAL, those that it sees up to its own place.
    An absent key has segment -1, which is in no word.
    """
    segments = tl.load(segments_ptr + keys, mask=keys < M, other=-1).to(tl.int32)
    visible = (queries < 0) & (keys < 0)  # nothing yet, in the shape of both
    for word in tl.static_range(WORDS):
        inside = (segments >> 5) == word
        bits = tl.load(sees_ptr + word * N + queries, mask=queries < N, other=0)
        visible |= inside & (((bits >> (segments & 31)) & 1) != 0)
        if CAUSAL:
            bits = tl.load(sees_ptr + (WORDS + word) * N + queries, mask=queries < N, other=0)
            places = tl.load(places_ptr + queries, mask=queries < N, other=-1)
            visible |= inside & (((bits >> (segments & 31)) & 1) != 0) & (keys <= places)
    return visible
