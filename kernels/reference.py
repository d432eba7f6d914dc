"""The oracle: attention over a token layout in float64, written as the equation reads and sharing no code with the fast paths.

    s_ij = scale q_i . k_j       for the keys j that are present and that i's segment sees
    lse_i = log sum_j exp(s_ij)
    o_i = sum_j exp(s_ij - lse_i) v_j

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width.
"""

import math

import torch
from torch import Tensor

from handsight.kernels.layout import TokenLayout, Visibility


def attend_reference(
    q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, present: Tensor | None = None, scale: float | None = None
) -> tuple[Tensor, Tensor]:
    """As `attend`, in float64: q (B, H, N, D), k and v (B, G, M, D), present (B, M) -> out (B, H, N, D), lse (B, H, N).

    A query without keys has output 0 and lse -inf.
    """
    heads_per_group = q.shape[1] // k.shape[1]
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    queries, keys, values = q.double(), k.double(), v.double()
    present = q.new_ones((q.shape[0], k.shape[2]), dtype=torch.bool) if present is None else present
    rows = []
    for i in range(q.shape[2]):
        seen = [j for j in range(k.shape[2]) if _sees(layout, i, j)]
        rows += [
            _row(queries[:, h, i], keys[:, h // heads_per_group], values[:, h // heads_per_group], seen, present, scale)
            for h in range(q.shape[1])
        ]
    out = torch.stack([row for row, _ in rows], dim=1).unflatten(1, (q.shape[2], q.shape[1]))  # (B, N, H, D)
    lse = torch.stack([total for _, total in rows], dim=1).unflatten(1, (q.shape[2], q.shape[1]))  # (B, N, H)
    return out.transpose(1, 2), lse.transpose(1, 2)


def _sees(layout: TokenLayout, i: int, j: int) -> bool:
    """Whether query i attends to key j, by walking the segments."""
    row, offset_in_row = _locate([segment.length for segment in layout.queries], i)
    column, _ = _locate([segment.length for segment in layout.keys], j)
    cell = layout.visible[row][column]
    if cell != Visibility.CAUSAL:
        return cell == Visibility.ALL
    itself = layout.keys.index(layout.queries[row])
    return j <= sum(segment.length for segment in layout.keys[:itself]) + offset_in_row


def _locate(lengths: list[int], token: int) -> tuple[int, int]:
    """The segment that holds a token, and the token's place in it."""
    for index, length in enumerate(lengths):
        if token < length:
            return index, token
        token -= length
    raise IndexError(f"expected a token below {sum(lengths)}")


def _row(query: Tensor, keys: Tensor, values: Tensor, seen: list[int], present: Tensor, scale: float) -> tuple[Tensor, Tensor]:
    """One query: query (B, D), keys and values (B, M, D) -> (B, D) and lse (B,); zero and -inf where no key is left."""
    if not seen:
        return torch.zeros_like(query), torch.full_like(query[:, 0], -math.inf)
    scores = (keys[:, seen] * query[:, None]).sum(-1) * scale  # (B, J)
    shift = scores.amax(-1, keepdim=True).detach()  # the softmax does not change; exp does not overflow
    weight = (scores - shift).exp() * present[:, seen]
    total = weight.sum(-1, keepdim=True)
    alive = total > 0
    total = torch.where(alive, total, 1.0)
    lse = torch.where(alive, shift + total.log(), -math.inf)[:, 0]
    return ((weight / total)[..., None] * values[:, seen]).sum(1), lse
