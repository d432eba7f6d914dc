"""The least that an attention kernel can do, to count instructions against: forward, dense, no layout at all.

Tiles, online softmax, heads that share keys, queries beyond the last and the log-sum-exp are as in the layout kernel; the keys must fill
whole tiles, because a full tile of a layout has no mask either. Nothing calls it but the compile check.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width (BLOCK_D), R rows of tiles.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def dense_forward_kernel(
    q_ptr: tl.tensor,  # (B, H, N, D)
    k_ptr: tl.tensor,  # (B, G, M, D)
    v_ptr: tl.tensor,  # (B, G, M, D)
    out_ptr: tl.tensor,  # (B, H, N, D)
    lse_ptr: tl.tensor,  # (B, H, N) float32, contiguous
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
    heads_per_group: tl.tensor,
    N: tl.tensor,
    M: tl.tensor,
    scale: tl.tensor,  # times log2(e)
    BLOCK_N: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """One program a row of tiles, head and batch element: grid (R, H, B)."""
    tl.static_assert(BLOCK_N >= 16 and BLOCK_M >= 16 and BLOCK_D >= 16)
    head, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    group = head // heads_per_group
    first = tl.program_id(0) * BLOCK_N
    rows, keys, columns = tl.arange(0, BLOCK_N), tl.arange(0, BLOCK_M), tl.arange(0, BLOCK_D)
    there = rows < N - first
    q_tile = q_ptr + batch * stride_qb + head * stride_qh + first.to(tl.int64) * stride_qn + rows[:, None] * stride_qn + columns[None, :]
    q = tl.load(q_tile, mask=there[:, None], other=0.0)
    k_ptr += batch * stride_kb + group * stride_kg
    v_ptr += batch * stride_vb + group * stride_vg
    top = tl.full([BLOCK_N], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_N], tl.float32)
    out = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    for key in range(0, M, BLOCK_M):
        offset = tl.cast(key, tl.int64)
        k = tl.load(k_ptr + offset * stride_km + keys[:, None] * stride_km + columns[None, :])
        scores = tl.dot(q, tl.trans(k), input_precision="ieee")
        new_top = tl.maximum(top, tl.max(scores, 1) * scale)
        weights = tl.exp2(scores * scale - new_top[:, None])
        decay = tl.exp2(top - new_top)
        v = tl.load(v_ptr + offset * stride_vm + keys[:, None] * stride_vm + columns[None, :])
        out = tl.dot(weights.to(v.dtype), v, out * decay[:, None], input_precision="ieee")
        total = total * decay + tl.sum(weights, 1)
        top = new_top
    out_tile = (
        out_ptr + batch * stride_ob + head * stride_oh + first.to(tl.int64) * stride_on + rows[:, None] * stride_on + columns[None, :]
    )
    tl.store(out_tile, (out / total[:, None]).to(out_ptr.dtype.element_ty), mask=there[:, None])
    lse_tile = lse_ptr + (batch * tl.num_programs(1) + head) * N + first + rows
    tl.store(lse_tile, (top + tl.log2(total)) * 0.6931471805599453, mask=there)


def dense_forward(q: Tensor, k: Tensor, v: Tensor, *, block_n: int, block_m: int, warps: int, stages: int) -> tuple[Tensor, Tensor]:
    """Every query attends to every key: q (B, H, N, D), k and v (B, G, M, D) -> (B, H, N, D), lse (B, H, N) float32.

    Raises:
        ValueError: keys that do not fill whole tiles, or a width that is no power of two from 16 on.
    """
    batch, heads, queries, width = q.shape
    keys = k.shape[2]
    if keys % block_m or width < 16 or width & (width - 1):
        raise ValueError(f"expected keys in whole tiles of {block_m} and a power of two from 16 on as width, got {keys} and {width}")
    out, lse = torch.empty_like(q), q.new_empty((batch, heads, queries), dtype=torch.float32)
    dense_forward_kernel[(triton.cdiv(queries, block_n), heads, batch)](
        q, k, v, out, lse, *q.stride()[:3], *k.stride()[:3], *v.stride()[:3], *out.stride()[:3],
        heads // k.shape[1], queries, keys, math.log2(math.e) / math.sqrt(width),
        BLOCK_N=block_n, BLOCK_M=block_m, BLOCK_D=width, num_warps=warps, num_stages=stages,
    )  # fmt: skip
    return out, lse
