"""The oracle: attention over a token layout in float64, written as the equation reads and sharing no code with the fast paths.

    o_i = sum_j softmax_j(q_i . k_j / sqrt(D)) v_j   over the keys j that are present and whose segment i's segment attends to

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N tokens, D width.
"""

import math

import torch
from torch import Tensor

from handsight.kernels.layout import TokenLayout


def attend_reference(q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, present: Tensor | None = None) -> Tensor:
    """As `attend`, in float64: q (B, H, N, D), k and v (B, G, N, D), present (B, N) -> (B, H, N, D) float64."""
    heads_per_group = q.shape[1] // k.shape[1]
    queries, keys, values = q.double(), k.double(), v.double()
    present = q.new_ones((q.shape[0], q.shape[2]), dtype=torch.bool) if present is None else present
    ids = layout.segment_ids()
    rows = []
    for i, query_segment in enumerate(ids):
        seen = [j for j, key_segment in enumerate(ids) if layout.visible[query_segment][key_segment]]
        heads = [
            _row(queries[:, h, i], keys[:, h // heads_per_group], values[:, h // heads_per_group], seen, present) for h in range(q.shape[1])
        ]
        rows.append(torch.stack(heads, dim=1))  # (B, H, D)
    return torch.stack(rows, dim=2)


def _row(query: Tensor, keys: Tensor, values: Tensor, seen: list[int], present: Tensor) -> Tensor:
    """One query: query (B, D), keys and values (B, N, D) -> (B, D); zero where no key is left."""
    if not seen:
        return torch.zeros_like(query)
    scores = (keys[:, seen] * query[:, None]).sum(-1) / math.sqrt(query.shape[-1])  # (B, J)
    exponent = scores - scores.amax(-1, keepdim=True).detach()  # the softmax does not change; exp does not overflow
    weight = exponent.exp() * present[:, seen]
    total = weight.sum(-1, keepdim=True)
    return ((weight / torch.where(total > 0, total, 1.0))[..., None] * values[:, seen]).sum(1)
