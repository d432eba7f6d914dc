"""Attention over a token layout in Triton, forward: full tiles without a mask, partial ones with it, empty ones never loaded.

The online softmax of FlashAttention-2 (arXiv 2307.08691, algorithm 1), over the lists of tiles of `kernels/triton_plan.py`:
    m' = max(m, scale max_j s_ij),   l' = exp(m - m') l + sum_j exp(scale s_ij - m'),   o' = exp(m - m') o + sum_j exp(scale s_ij - m') v_j

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width (padded to BLOCK_D), R rows and C columns of tiles.
"""

import triton
import triton.language as tl

from handsight.kernels.triton_parts import LN_2, load_rows, sees, store_rows


@triton.jit
def add_tile(
    out: tl.tensor,
    top: tl.tensor,
    total: tl.tensor,
    q: tl.tensor,
    queries: tl.tensor,
    k_ptr: tl.tensor,
    v_ptr: tl.tensor,
    stride_km: tl.tensor,
    stride_vm: tl.tensor,
    sees_ptr: tl.tensor,
    places_ptr: tl.tensor,
    segments_ptr: tl.tensor,
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
    rows = tl.arange(0, BLOCK_M)
    k = load_rows(k_ptr + first.to(tl.int64) * stride_km, rows, M - first, stride_km, WIDTH, BLOCK_D, MASKED)
    scores = tl.dot(q, tl.trans(k), input_precision="ieee")
    if MASKED:
        visible = sees(sees_ptr, places_ptr, segments_ptr, queries[:, None], (first + rows)[None, :], N, M, WORDS, CAUSAL)
        scores = tl.where(visible, scores, float("-inf"))
    new_top = tl.maximum(top, tl.max(scores, 1) * scale)
    shift = new_top
    if MASKED:  # a row that has seen nothing yet: -inf - -inf is NaN
        shift = tl.where(new_top == float("-inf"), 0.0, new_top)
    weights = tl.exp2(scores * scale - shift[:, None])
    decay = tl.exp2(top - shift)
    v = load_rows(v_ptr + first.to(tl.int64) * stride_vm, rows, M - first, stride_vm, WIDTH, BLOCK_D, MASKED)
    out = tl.dot(weights.to(v.dtype), v, out * decay[:, None], input_precision="ieee")
    return out, new_top, total * decay + tl.sum(weights, 1)


@triton.jit
def finish(out: tl.tensor, top: tl.tensor, total: tl.tensor) -> tuple[tl.tensor, tl.tensor]:
    """The softmax's division: output rows, and the natural logarithm of their denominators; 0 and -inf for rows that saw nothing."""
    alive = total > 0
    total = tl.where(alive, total, 1.0)
    return out / total[:, None], tl.where(alive, (top + tl.log2(total)) * LN_2, float("-inf"))


@triton.jit
def forward_kernel(
    q_ptr: tl.tensor,  # (B, H, N, D)
    k_ptr: tl.tensor,  # (B, G, M, D)
    v_ptr: tl.tensor,  # (B, G, M, D)
    out_ptr: tl.tensor,  # (B, H, N, D)
    lse_ptr: tl.tensor,  # (B, H, N) float32, contiguous
    sees_ptr: tl.tensor,  # (1 or 2, W, N) int32
    places_ptr: tl.tensor,  # (N,) int32
    segments_ptr: tl.tensor,  # (1 or B, M) int8
    visits_ptr: tl.tensor,  # (1 or B, R, 2 + C) int32
    stride_qb: tl.tensor,
    stride_qh: tl.tensor,
    stride_qn: tl.tensor,
    stride_kb: tl.tensor,
    stride_kg: tl.tensor,
    stride_km: tl.tensor,
    stride_vb: tl.tensor,
    stride_vg: tl.tensor,
    stride_vm: tl.tensor,
    stride_ob: tl.tensor,
    stride_oh: tl.tensor,
    stride_on: tl.tensor,
    stride_segments: tl.tensor,  # 0 if the batch shares them
    stride_visits: tl.tensor,
    heads_per_group: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    C: tl.tensor,
    scale: tl.tensor,  # times log2(e)
    WIDTH: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
    WORDS: tl.constexpr,
    CAUSAL: tl.constexpr,
    HAS_PARTIAL: tl.constexpr,
) -> None:
    """One program a row of tiles, head and batch element: grid (R, H, B)."""
    row, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    group = head // heads_per_group
    k_ptr += batch * stride_kb + group * stride_kg
    v_ptr += batch * stride_vb + group * stride_vg
    segments_ptr += batch * stride_segments
    visits_ptr += batch * stride_visits + row * (2 + C)

    first = row * BLOCK_N
    rows = tl.arange(0, BLOCK_N)
    q_ptr += batch * stride_qb + head * stride_qh + first.to(tl.int64) * stride_qn
    q = load_rows(q_ptr, rows, N - first, stride_qn, WIDTH, BLOCK_D, True)
    out = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    top = tl.full([BLOCK_N], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_N], tl.float32)

    full = tl.load(visits_ptr)
    for i in range(full):
        key = tl.load(visits_ptr + 2 + i) * BLOCK_M
        out, top, total = add_tile(
            out, top, total, q, first + rows, k_ptr, v_ptr, stride_km, stride_vm, sees_ptr, places_ptr, segments_ptr,
            key, N, M, scale, WIDTH, BLOCK_M, BLOCK_D, WORDS, CAUSAL, False,
        )  # fmt: skip
    if HAS_PARTIAL:
        for i in range(full, full + tl.load(visits_ptr + 1)):
            key = tl.load(visits_ptr + 2 + i) * BLOCK_M
            out, top, total = add_tile(
                out, top, total, q, first + rows, k_ptr, v_ptr, stride_km, stride_vm, sees_ptr, places_ptr, segments_ptr,
                key, N, M, scale, WIDTH, BLOCK_M, BLOCK_D, WORDS, CAUSAL, True,
            )  # fmt: skip

    out, lse = finish(out, top, total)
    out_ptr += batch * stride_ob + head * stride_oh + first.to(tl.int64) * stride_on
    store_rows(out_ptr, rows, N - first, stride_on, out, WIDTH, BLOCK_D)
    lse_ptr += (batch * tl.num_programs(1) + head) * N + first
    tl.store(lse_ptr + rows, lse, mask=rows < N - first)
