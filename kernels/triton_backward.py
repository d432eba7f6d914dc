"""Attention over a token layout in Triton, backward: each program owns the gradients of one tile, so nothing is added atomically.

Where the sums of a wide head's tile do not fit a thread's registers, several programs share its width: each computes the scores of whole
heads, and the gradients of a slice. Of the products of a tile two (of four, by keys; of three, by queries) are then computed once a slice.

With p_ij = exp(scale s_ij - lse_i), g the gradient of o and h that of lse (FlashAttention-2, arXiv 2307.08691, algorithm 2, with h):
    delta_i = sum_d g_id o_id - h_i,   ds_ij = p_ij (g_i . v_j - delta_i)
    dv_j = sum_i p_ij g_i,   dk_j = scale sum_i ds_ij q_i,   dq_i = scale sum_j ds_ij k_j
Queries without keys have p = 0 and so give, and get, gradients of exactly 0.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width (padded to BLOCK_D, in slices of SLICE_D), R rows and C columns
of tiles.
"""

import triton
import triton.language as tl

from handsight.kernels.triton_parts import LN_2, LOG2_E, Heads, Mask, Visits, at_head, load_rows, sees, store_rows


@triton.jit
def rows_kernel(
    out: Heads,  # (B, H, N, D)
    grad: Heads,  # (B, H, N, D)
    lse_ptr: tl.tensor,  # (B, H, N) float32, contiguous, as the three below
    grad_lse_ptr: tl.tensor,  # float32
    delta_ptr: tl.tensor,  # float32
    shift_ptr: tl.tensor,  # float32
    N: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """What the other two need of each query: delta, and lse in powers of two, +inf for a query without keys. Grid (R, H, B)."""
    row, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    first = row * BLOCK_N
    rows = first + tl.arange(0, BLOCK_N)
    token = (batch * tl.num_programs(1) + head) * N + rows
    result = load_rows(at_head(out, batch, head), first, N, BLOCK_N, WIDTH, BLOCK_D, True)
    grad_rows = load_rows(at_head(grad, batch, head), first, N, BLOCK_N, WIDTH, BLOCK_D, True)
    lse = tl.load(lse_ptr + token, mask=rows < N, other=float("-inf"))
    grad_lse = tl.load(grad_lse_ptr + token, mask=rows < N, other=0.0)
    delta = tl.sum(result.to(tl.float32) * grad_rows.to(tl.float32), 1) - grad_lse
    alive = lse > float("-inf")
    tl.store(delta_ptr + token, tl.where(alive, delta, 0.0), mask=rows < N)
    tl.store(shift_ptr + token, tl.where(alive, lse * LOG2_E, float("inf")), mask=rows < N)


@triton.jit
def add_queries(
    grad_k: tl.tensor,
    grad_v: tl.tensor,
    keys: tl.tensor,
    values: tl.tensor,
    q: Heads,
    grad: Heads,
    delta_ptr: tl.tensor,
    shift_ptr: tl.tensor,
    mask: Mask,
    batch: tl.tensor,
    columns: tl.tensor,
    first: tl.tensor,
    left: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    scale: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SLICE_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
) -> tuple[tl.tensor, tl.tensor]:
    """What the BLOCK_N queries from `first` on add to the columns of dk and dv from `left` on of a tile's keys; scores are transposed,
    (keys, queries)."""
    rows = first + tl.arange(0, BLOCK_N)
    queries = load_rows(q, first, N, BLOCK_N, WIDTH, BLOCK_D, True)  # a full tile may hang over the last query
    grad_rows = load_rows(grad, first, N, BLOCK_N, WIDTH, BLOCK_D, True)
    shift = tl.load(shift_ptr + rows, mask=rows < N, other=float("inf"))
    delta = tl.load(delta_ptr + rows, mask=rows < N, other=0.0)
    weights = tl.exp2(tl.dot(keys, tl.trans(queries), input_precision="ieee") * scale - shift[None, :])
    if MASKED:
        weights = tl.where(sees(mask, batch, rows[None, :], columns[:, None], N, M, WORDS, CAUSAL), weights, 0.0)
    grad_scores = weights * (tl.dot(values, tl.trans(grad_rows), input_precision="ieee") - delta[None, :])
    if SLICE_D < BLOCK_D:  # a tile in shared memory cannot be cut
        queries = load_rows(q, first, N, BLOCK_N, WIDTH, SLICE_D, True, left)
        grad_rows = load_rows(grad, first, N, BLOCK_N, WIDTH, SLICE_D, True, left)
    grad_v = tl.dot(weights.to(grad_rows.dtype), grad_rows, grad_v, input_precision="ieee")
    return tl.dot(grad_scores.to(queries.dtype), queries, grad_k, input_precision="ieee"), grad_v


@triton.jit
def keys_kernel(
    q: Heads,  # (B, H, N, D)
    k: Heads,  # (B, G, M, D)
    v: Heads,  # (B, G, M, D)
    grad: Heads,  # (B, H, N, D)
    grad_k: Heads,  # (B, G, M, D)
    grad_v: Heads,  # (B, G, M, D)
    delta_ptr: tl.tensor,  # (B, H, N) float32, contiguous
    shift_ptr: tl.tensor,  # (B, H, N) float32, contiguous
    mask: Mask,
    visits: Visits,  # of the transposed tiles
    heads_per_group: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    scale: tl.tensor,  # times log2(e)
    WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SLICE_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_PARTIAL: tl.constexpr,
) -> None:
    """dk and dv, summed over the heads of the group: one program a column of tiles, slice of the width, key-value head and batch element,
    slices next to each other: grid (C D / SLICE_D, G, B)."""
    tl.static_assert(BLOCK_N >= 16 and BLOCK_M >= 16 and BLOCK_D >= 16 and SLICE_D >= 16)  # the least that tensor cores multiply
    column, group, batch = tl.program_id(0) // (BLOCK_D // SLICE_D), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    left = tl.program_id(0) % (BLOCK_D // SLICE_D) * SLICE_D
    first = column * BLOCK_M
    columns = first + tl.arange(0, BLOCK_M)
    keys = load_rows(at_head(k, batch, group), first, M, BLOCK_M, WIDTH, BLOCK_D, True)
    values = load_rows(at_head(v, batch, group), first, M, BLOCK_M, WIDTH, BLOCK_D, True)
    sum_k = tl.zeros([BLOCK_M, SLICE_D], tl.float32)
    sum_v = tl.zeros([BLOCK_M, SLICE_D], tl.float32)

    visit = visits.ptr + batch * visits.batch + column * visits.row
    full, partial = tl.load(visit), tl.load(visit + 1)
    for member in range(heads_per_group):
        head = group * heads_per_group + member
        rows = (batch * tl.num_programs(1) * heads_per_group + head) * N
        queries, grads = at_head(q, batch, head), at_head(grad, batch, head)
        for i in range(full):
            row = tl.load(visit + 2 + i)
            sum_k, sum_v = add_queries(
                sum_k, sum_v, keys, values, queries, grads, delta_ptr + rows, shift_ptr + rows, mask, batch, columns,
                row * BLOCK_N, left, N, M, scale, WIDTH, BLOCK_N, BLOCK_D, SLICE_D, WORDS, CAUSAL, False,
            )  # fmt: skip
        if HAS_PARTIAL:
            for i in range(full, full + partial):
                row = tl.load(visit + 2 + i)
                sum_k, sum_v = add_queries(
                    sum_k, sum_v, keys, values, queries, grads, delta_ptr + rows, shift_ptr + rows, mask, batch, columns,
                    row * BLOCK_N, left, N, M, scale, WIDTH, BLOCK_N, BLOCK_D, SLICE_D, WORDS, CAUSAL, True,
                )  # fmt: skip

    store_rows(at_head(grad_k, batch, group), first, M, sum_k * (scale * LN_2), BLOCK_M, WIDTH, SLICE_D, left)
    store_rows(at_head(grad_v, batch, group), first, M, sum_v, BLOCK_M, WIDTH, SLICE_D, left)


@triton.jit
def add_keys(
    grad_q: tl.tensor,
    queries: tl.tensor,
    grad_rows: tl.tensor,
    shift: tl.tensor,
    delta: tl.tensor,
    k: Heads,
    v: Heads,
    mask: Mask,
    batch: tl.tensor,
    rows: tl.tensor,
    first: tl.tensor,
    left: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    scale: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    SLICE_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    MASKED: tl.constexpr,
) -> tl.tensor:
    """What the BLOCK_M keys from `first` on add to the columns of dq from `left` on of a tile's queries."""
    keys = load_rows(k, first, M, BLOCK_M, WIDTH, BLOCK_D, MASKED)
    values = load_rows(v, first, M, BLOCK_M, WIDTH, BLOCK_D, MASKED)
    weights = tl.exp2(tl.dot(queries, tl.trans(keys), input_precision="ieee") * scale - shift[:, None])
    if MASKED:
        columns = first + tl.arange(0, BLOCK_M)
        weights = tl.where(sees(mask, batch, rows[:, None], columns[None, :], N, M, WORDS, CAUSAL), weights, 0.0)
    grad_scores = weights * (tl.dot(grad_rows, tl.trans(values), input_precision="ieee") - delta[:, None])
    if SLICE_D < BLOCK_D:
        keys = load_rows(k, first, M, BLOCK_M, WIDTH, SLICE_D, MASKED, left)
    return tl.dot(grad_scores.to(keys.dtype), keys, grad_q, input_precision="ieee")


@triton.jit
def queries_kernel(
    q: Heads,  # (B, H, N, D)
    k: Heads,  # (B, G, M, D)
    v: Heads,  # (B, G, M, D)
    grad: Heads,  # (B, H, N, D)
    grad_q: Heads,  # (B, H, N, D)
    delta_ptr: tl.tensor,  # (B, H, N) float32, contiguous
    shift_ptr: tl.tensor,  # (B, H, N) float32, contiguous
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
    SLICE_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_PARTIAL: tl.constexpr,
) -> None:
    """dq: one program a row of tiles, slice of the width, query head and batch element: grid (R D / SLICE_D, H, B)."""
    tl.static_assert(BLOCK_N >= 16 and BLOCK_M >= 16 and BLOCK_D >= 16 and SLICE_D >= 16)  # the least that tensor cores multiply
    row, head, batch = tl.program_id(0) // (BLOCK_D // SLICE_D), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    left = tl.program_id(0) % (BLOCK_D // SLICE_D) * SLICE_D
    k, v = at_head(k, batch, head // heads_per_group), at_head(v, batch, head // heads_per_group)
    first = row * BLOCK_N
    rows = first + tl.arange(0, BLOCK_N)
    token = (batch * tl.num_programs(1) + head) * N + rows
    queries = load_rows(at_head(q, batch, head), first, N, BLOCK_N, WIDTH, BLOCK_D, True)
    grad_rows = load_rows(at_head(grad, batch, head), first, N, BLOCK_N, WIDTH, BLOCK_D, True)
    shift = tl.load(shift_ptr + token, mask=rows < N, other=float("inf"))
    delta = tl.load(delta_ptr + token, mask=rows < N, other=0.0)
    result = tl.zeros([BLOCK_N, SLICE_D], tl.float32)

    visit = visits.ptr + batch * visits.batch + row * visits.row
    full = tl.load(visit)
    for i in range(full):
        column = tl.load(visit + 2 + i)
        result = add_keys(
            result, queries, grad_rows, shift, delta, k, v, mask, batch, rows, column * BLOCK_M, left, N, M, scale,
            WIDTH, BLOCK_M, BLOCK_D, SLICE_D, WORDS, CAUSAL, False,
        )  # fmt: skip
    if HAS_PARTIAL:
        for i in range(full, full + tl.load(visit + 1)):
            column = tl.load(visit + 2 + i)
            result = add_keys(
                result, queries, grad_rows, shift, delta, k, v, mask, batch, rows, column * BLOCK_M, left, N, M, scale,
                WIDTH, BLOCK_M, BLOCK_D, SLICE_D, WORDS, CAUSAL, True,
            )  # fmt: skip

    store_rows(at_head(grad_q, batch, head), first, N, result * (scale * LN_2), BLOCK_N, WIDTH, SLICE_D, left)
