"""Attention over a token layout in Triton, forward: full tiles without a mask, partial ones with it, empty ones never loaded.

The online softmax of FlashAttention-2 (arXiv 2307.08691, algorithm 1), over the lists of tiles of `kernels/triton_plan.py`:
    m' = max(m, scale max_j s_ij),   l' = exp(m - m') l + sum_j exp(scale s_ij - m'),   o' = exp(m - m') o + sum_j exp(scale s_ij - m') v_j

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width (padded to BLOCK_D), R rows and C columns of tiles.
"""

import triton
import triton.language as tl

from handsight.kernels.triton_parts import LN_2, Heads, Mask, Visits, at_head, load_rows, sees, store_rows


@triton.jit
def add_tile(
    out: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    q: tl.tensor,
    k: Heads,
    v: Heads,
    mask: Mask,
    batch: tl.tensor,
    queries: tl.tensor,
    first: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    scale: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor, tl.tensor]:
    """One step of the online softmax, over the BLOCK_M keys from `first` on; `top` and `scale` count in powers of two."""
    keys = load_rows(k, first, M, BLOCK_M, WIDTH, BLOCK_D, MASKED)
    scores = tl.dot(q, tl.trans(keys), input_precision="ieee")
    if MASKED:
        columns = first + tl.arange(0, BLOCK_M)
        scores = tl.where(sees(mask, batch, queries[:, None], columns[None, :], N, M, WORDS, CAUSAL), scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1) * scale)
    shift = new_top
    if MASKED:  # a row that has seen nothing yet: -inf - -inf is NaN
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
    weights = tl.exp2(scores * scale - shift[:, None])
    decay = tl.exp2(top - shift)
    values = load_rows(v, first, M, BLOCK_M, WIDTH, BLOCK_D, MASKED)
    out = tl.dot(weights.to(values.dtype), values, out * decay[:, None], input_precision="ieee")
    return out, new_top, total * decay + tl.sum(weights, 1)


@triton.jit
def finish(out: tl.tensor, top: tl.tensor, total: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """The softmax's division: output rows, and the natural logarithm of their denominators; 0 and -inf for rows that saw nothing."""
    alive = total > 0
    total = tl.where(alive, total, 1.0)
    return out / total[:, None], tl.where(alive, (top + tl.log2(total)) * LN_2, float("-inf"))


@triton.jit
def forward_kernel(
    q: Heads,  # (B, H, N, D)
    k: Heads,  # (B, G, M, D)
    v: Heads,  # (B, G, M, D)
    out: Heads,  # (B, H, N, D)
    lse_ptr: tl.tensor,  # (B, H, N) float32, contiguous
    mask: Mask,
    visits: Visits,
    heads_per_group: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    scale: tl.tensor,  # times log2(e)
    WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_PARTIAL: tl.constexpr,
) -> None:
    """One program a row of tiles, query head and batch element: grid (R, H, B)."""
    tl.static_assert(BLOCK_N >= 16 and BLOCK_M >= 16 and BLOCK_D >= 16)  # the least that tensor cores multiply
    row, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    k, v = at_head(k, batch, head // heads_per_group), at_head(v, batch, head // heads_per_group)
    first = row * BLOCK_N
    rows = first + tl.arange(0, BLOCK_N)
    queries = load_rows(at_head(q, batch, head), first, N, BLOCK_N, WIDTH, BLOCK_D, True)
    result = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    top = tl.full([BLOCK_N], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_N], tl.float32)

    visit = visits.ptr + batch * visits.batch + row * visits.row
    full = tl.load(visit)
    for i in range(full):
        column = tl.load(visit + 2 + i)
        result, top, total = add_tile(
            result, top, total, queries, k, v, mask, batch, rows, column * BLOCK_M, N, M, scale,
            WIDTH, BLOCK_M, BLOCK_D, WORDS, CAUSAL, False,
        )  # fmt: skip
    if HAS_PARTIAL:
        for i in range(full, full + tl.load(visit + 1)):
            column = tl.load(visit + 2 + i)
            result, top, total = add_tile(
                result, top, total, queries, k, v, mask, batch, rows, column * BLOCK_M, N, M, scale,
                WIDTH, BLOCK_M, BLOCK_D, WORDS, CAUSAL, True,
            )  # fmt: skip

    result, lse = finish(result, top, total)
    store_rows(at_head(out, batch, head), first, N, result, BLOCK_N, WIDTH, BLOCK_D)
    tl.store(lse_ptr + (batch * tl.num_programs(1) + head) * N + rows, lse, mask=rows < N)
