"""Attention of few queries over many keys in Triton: the keys are split among programs, and a second kernel combines the parts.

Few queries (the action tokens of a flow policy's denoising step) over a long cached prefix give a forward kernel with a program a row of
tiles and head too few programs to occupy a GPU. So the heads of a group, which ask the same keys, are packed into the rows of one tile,
and each of S splits attends to its share of the tiles (FlashDecoding; Hong et al., arXiv 2311.01282, section 2.3 describe it):
    lse = log sum_s exp(lse_s),   o = sum_s exp(lse_s - lse) o_s

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width (padded to BLOCK_D), S splits, P tiles of packed rows.
"""

import triton
import triton.language as tl

from handsight.kernels.triton_forward import add_tile, finish
from handsight.kernels.triton_parts import LOG2_E, Heads, Mask, Visits, at_head


def splits_for(programs: int, key_tiles: int, multiprocessors: int) -> int:
    """How many programs share the keys of a row of packed tiles; 1 is no split. Arithmetic, not measured on any GPU.

    Splitting pays while there are fewer programs than multiprocessors, and until each has one. A split writes its part in float32, 4 D
    bytes a row, and reads 4 D bytes of 16-bit keys and values a key: with two tiles of 64 keys or more to 64 rows, it writes at most
    half of what it reads.
    """
    return max(1, min(multiprocessors // programs, key_tiles // 2))


@triton.jit
def split_kernel(
    q: Heads,  # (B, H, N, D)
    k: Heads,  # (B, G, M, D)
    v: Heads,  # (B, G, M, D)
    part_ptr: tl.tensor,  # (B, H, N, S, D) float32, contiguous
    lse_ptr: tl.tensor,  # (B, H, N, S) float32, contiguous
    mask: Mask,
    visits: Visits,  # of one row of tiles, which holds all queries
    heads_per_group: tl.tensor,
    splits: tl.tensor,
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
    """One program a tile of packed rows and split, key-value head and batch element: grid (P S, G, B)."""
    tl.static_assert(BLOCK_N >= 16 and BLOCK_M >= 16 and BLOCK_D >= 16)  # the least that tensor cores multiply
    tile, split = tl.program_id(0) // splits, tl.program_id(0) % splits
    group, batch = tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    k, v = at_head(k, batch, group), at_head(v, batch, group)
    packed = tile * BLOCK_N + tl.arange(0, BLOCK_N)  # row = member of the group * N + query
    inside = packed < heads_per_group * N
    head = group * heads_per_group + packed // N  # (BLOCK_N,) int64
    query = tl.where(inside, packed % N, N)  # N, which sees nothing, for rows beyond the last
    columns = tl.arange(0, BLOCK_D)[None, :]
    stored = inside[:, None] & (columns < WIDTH)
    pointers = q.ptr + batch * q.batch + (head * q.head + query * q.token)[:, None] + columns
    queries = tl.load(pointers, mask=stored, other=0.0)
    result = tl.zeros([BLOCK_N, BLOCK_D], tl.float32)
    top = tl.full([BLOCK_N], float("-inf"), tl.float32)
    total = tl.zeros([BLOCK_N], tl.float32)

    visit = visits.ptr + batch * visits.batch
    full = tl.load(visit)
    for i in range(split * full // splits, (split + 1) * full // splits):
        column = tl.load(visit + 2 + i)
        result, top, total = add_tile(
            result, top, total, queries, k, v, mask, batch, query, column * BLOCK_M, N, M, scale,
            WIDTH, BLOCK_M, BLOCK_D, WORDS, CAUSAL, False,
        )  # fmt: skip
    if HAS_PARTIAL:
        partial = tl.load(visit + 1)
        for i in range(full + split * partial // splits, full + (split + 1) * partial // splits):
            column = tl.load(visit + 2 + i)
            result, top, total = add_tile(
                result, top, total, queries, k, v, mask, batch, query, column * BLOCK_M, N, M, scale,
                WIDTH, BLOCK_M, BLOCK_D, WORDS, CAUSAL, True,
            )  # fmt: skip

    result, lse = finish(result, top, total)
    token = ((batch * tl.num_programs(1) * heads_per_group + head) * N + query) * splits + split
    tl.store(part_ptr + token[:, None] * WIDTH + columns, result, mask=stored)
    tl.store(lse_ptr + token, lse, mask=inside)


@triton.jit
def combine_kernel(
    part_ptr: tl.tensor,  # (B, H, N, S, D) float32, contiguous
    part_lse_ptr: tl.tensor,  # (B, H, N, S) float32, contiguous
    out: Heads,  # (B, H, N, D)
    lse_ptr: tl.tensor,  # (B, H, N) float32, contiguous
    splits: tl.tensor,
    WIDTH: tl.constexpr,
    BLOCK_S: tl.constexpr,
    BLOCK_D: tl.constexpr,
) -> None:
    """The parts of one query: grid (N, H, B)."""
    query, head, batch = tl.program_id(0), tl.program_id(1).to(tl.int64), tl.program_id(2).to(tl.int64)
    token = (batch * tl.num_programs(1) + head) * tl.num_programs(0) + query
    split, columns = tl.arange(0, BLOCK_S), tl.arange(0, BLOCK_D)
    lse = tl.load(part_lse_ptr + token * splits + split, mask=split < splits, other=float("-inf")) * LOG2_E
    pointers = part_ptr + (token * splits + split)[:, None] * WIDTH + columns[None, :]
    parts = tl.load(pointers, mask=(split < splits)[:, None] & (columns < WIDTH)[None, :], other=0.0)
    top = tl.max(lse, 0)
    weights = tl.exp2(lse - tl.where(top == float("-inf"), 0.0, top))
    result, lse = finish(tl.sum(parts * weights[:, None], 0)[None, :], top + tl.zeros([1], tl.float32), tl.sum(weights, 0)[None])
    tl.store(
        at_head(out, batch, head).ptr + query * out.token + columns[None, :],
        result.to(out.ptr.dtype.element_ty),
        mask=(columns < WIDTH)[None, :],
    )
    tl.store(lse_ptr + token + tl.zeros([1], tl.int32), lse)
