"""What a back end is given: tensors that are known to fit together.

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from handsight.kernels.layout import TokenLayout, dense_mask


@dataclass(frozen=True)
class Attention:
    """One call of `attend`, checked.

    Raises:
        ValueError: shapes or dtypes that do not fit together.
    """

    q: Tensor  # (B, H, N, D)
    k: Tensor  # (B, G, M, D)
    v: Tensor  # (B, G, M, D)
    layout: TokenLayout
    present: Tensor | None  # (B, M) bool
    scale: float

    def __post_init__(self) -> None:
        q, k, v, layout, present = self.q, self.k, self.v, self.layout, self.present
        batch, heads, queries, width = q.shape
        groups, keys = k.shape[1:3]
        if k.shape != (batch, groups, keys, width) or v.shape != k.shape or heads % groups:
            raise ValueError(
                f"expected k and v of (B={batch}, G dividing H={heads}, M, D={width}), got {tuple(k.shape)} and {tuple(v.shape)}"
            )
        if (layout.num_queries, layout.num_keys) != (queries, keys):
            raise ValueError(f"expected {layout.num_queries} queries and {layout.num_keys} keys as in the layout, got {queries} and {keys}")
        if not q.dtype == k.dtype == v.dtype or not q.is_floating_point():
            raise ValueError(f"expected q, k and v of one floating-point type, got {q.dtype}, {k.dtype} and {v.dtype}")
        if present is not None and (present.shape != (batch, keys) or present.dtype != torch.bool):
            raise ValueError(f"expected present of ({batch}, {keys}) bool, got {tuple(present.shape)} {present.dtype}")

    @property
    def is_unmasked(self) -> bool:
        """Whether every query attends to every key."""
        return self.present is None and self.layout.is_full

    @property
    def heads_per_group(self) -> int:
        """H / G, the query heads that share a key-value head."""
        return self.q.shape[1] // self.k.shape[1]

    def mask(self) -> Tensor:
        """(1 or B, 1, N, M) bool, True where the row attends to the column."""
        mask = dense_mask(self.layout, self.q.device)[None, None]  # (1, 1, N, M)
        return mask if self.present is None else mask & self.present[:, None, None, :]

    def log_sum_exp(self) -> Tensor:
        """(B, H, N) float32, for back ends that do not return it: the scores are computed once more. -inf without keys."""
        k = self.k.repeat_interleave(self.heads_per_group, dim=1)
        scores = self.scale * (self.q.float() @ k.float().transpose(-1, -2))  # (B, H, N, M)
        if self.is_unmasked:
            return scores.logsumexp(-1)
        mask = self.mask()
        dead = ~mask.any(-1)  # a gradient through -inf - -inf is NaN: let such a row see everything, then drop it
        return scores.masked_fill(~(mask | dead[..., None]), -math.inf).logsumexp(-1).masked_fill(dead, -math.inf)
