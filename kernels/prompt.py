"""Deep prompts that a batch shares: their keys and values exist once, and are read once where the back end can.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, P prompt tokens, D width.
"""

import math

import torch
from torch import Tensor

from handsight.kernels.attention import Backend, attend, choose
from handsight.kernels.layout import Segment, TokenLayout, cross, with_prompt
from handsight.kernels.problem import Attention


def attend_prompted(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TokenLayout,
    prompt_k: Tensor,
    prompt_v: Tensor,
    *,
    present: Tensor | None = None,
    scale: float | None = None,
    backend: Backend = "auto",
) -> Tensor:
    """`attend` over a prompt that every query sees, followed by the layout's keys.

    Args:
        q, k, v, layout, present, scale, backend: as for `attend`; the layout and `present` do not contain the prompt.
        prompt_k: (G, P, D), the same for the whole batch.
        prompt_v: (G, P, D).

    Returns:
        (B, H, N, D) in q's dtype.

    Raises:
        ValueError: a prompt that does not fit k and v, or what `attend` raises.
    """
    groups, length, width = prompt_k.shape
    if prompt_v.shape != prompt_k.shape or (groups, width) != (k.shape[1], k.shape[3]):
        expected = f"(G={k.shape[1]}, P, D={k.shape[3]})"
        raise ValueError(f"expected prompt_k and prompt_v of {expected}, got {tuple(prompt_k.shape)} and {tuple(prompt_v.shape)}")
    scale = 1 / math.sqrt(q.shape[-1]) if scale is None else scale
    if choose(Attention(q, k, v, layout, present, scale), backend).backend == "triton":
        own = attend(q, k, v, layout, present=present, scale=scale, backend=backend, return_lse=True)
        shared = _attend_shared(q, prompt_k, prompt_v, scale, backend)
        return merge(own, shared)[0]
    batch = q.shape[0]
    k = torch.cat([prompt_k.expand(batch, -1, -1, -1), k], dim=2)
    v = torch.cat([prompt_v.expand(batch, -1, -1, -1), v], dim=2)
    present = None if present is None else torch.nn.functional.pad(present, (length, 0), value=True)
    return attend(q, k, v, with_prompt(layout, Segment("prompt", length)), present=present, scale=scale, backend=backend)


def merge(one: tuple[Tensor, Tensor], other: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Attention over the union of two disjoint sets of keys, from the (out, lse) of each: (B, H, N, D) and (B, H, N).

    out = sum_i exp(lse_i - lse) out_i with lse = log sum_i exp(lse_i). Differentiable, also where one side or both saw nothing.
    """
    (out_one, lse_one), (out_other, lse_other) = one, other
    top = torch.maximum(lse_one, lse_other).detach()
    top = torch.where(top.isinf(), 0.0, top)
    weight_one, weight_other = (lse_one - top).exp(), (lse_other - top).exp()  # (B, H, N)
    total = weight_one + weight_other
    alive = total > 0
    total = torch.where(alive, total, 1.0)
    out = (weight_one / total)[..., None] * out_one.float() + (weight_other / total)[..., None] * out_other.float()
    lse = torch.where(alive, top + total.log(), -math.inf)
    return out.to(out_one.dtype), lse


def _attend_shared(q: Tensor, prompt_k: Tensor, prompt_v: Tensor, scale: float, backend: Backend) -> tuple[Tensor, Tensor]:
    """All rows of the batch ask one prompt: the batch is more queries."""
    batch, heads, queries, width = q.shape
    packed = q.transpose(0, 1).reshape(1, heads, batch * queries, width)
    layout = cross([Segment("queries", batch * queries)], [Segment("prompt", prompt_k.shape[1])])
    out, lse = attend(packed, prompt_k[None], prompt_v[None], layout, scale=scale, backend=backend, return_lse=True)
    return out.view(heads, batch, queries, width).transpose(0, 1), lse.view(heads, batch, queries).transpose(0, 1)
