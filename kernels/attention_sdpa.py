"""Attention over a token layout by PyTorch's scaled dot product: the fastest that runs on a CPU."""

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from handsight.kernels.problem import Attention


def attend_sdpa(call: Attention, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    """As `attend`; the mask, if one is needed, is dense and boolean."""
    out = _unmasked(call) if call.is_unmasked else _masked(call)
    return out, call.log_sum_exp() if return_lse else None


def _unmasked(call: Attention) -> Tensor:
    batch, heads, queries, width = call.q.shape
    groups = call.k.shape[1]
    # The heads of a group ask the same keys, so they are more queries: keys are read once, and nothing is repeated.
    packed = call.q.reshape(batch, groups, call.heads_per_group * queries, width)
    return scaled_dot_product_attention(packed, call.k, call.v, scale=call.scale).view(batch, heads, queries, width)


def _masked(call: Attention) -> Tensor:
    mask = call.mask()
    # A row without keys is 0/0 in softmax, and NaN times a zero gradient is still NaN: let it see everything, then drop it.
    dead = ~mask.any(-1, keepdim=True)
    out = scaled_dot_product_attention(call.q, call.k, call.v, attn_mask=mask | dead, scale=call.scale, enable_gqa=call.heads_per_group > 1)
    return out.masked_fill(dead, 0.0)
