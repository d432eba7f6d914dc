"""Attention over a token layout by PyTorch's FlexAttention (arXiv 2412.05496): its own block mask, compiled by Inductor."""

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, create_block_mask, flex_attention

from handsight.kernels.layout import TokenLayout, dense_mask
from handsight.kernels.problem import Attention


def attend_flex(call: Attention, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    """As `attend`. Compiles at the first call of a shape, which takes from seconds to a minute on a CPU.

    Raises:
        ValueError: a gradient is asked for on a CPU, where FlexAttention has none.
    """
    if call.q.device.type == "cpu" and torch.is_grad_enabled() and any(x.requires_grad for x in (call.q, call.k, call.v)):
        raise ValueError("expected inputs without gradient, because FlexAttention has no backward on a CPU; use backend='sdpa'")
    grouped = call.heads_per_group > 1
    out = _compiled()(call.q, call.k, call.v, block_mask=_block_mask(call), scale=call.scale, enable_gqa=grouped)
    return out, call.log_sum_exp() if return_lse else None


@functools.cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention, dynamic=False)


def _block_mask(call: Attention) -> BlockMask | None:
    if call.is_unmasked:
        return None
    if call.present is None:
        return _static_block_mask(call.layout, call.q.device)
    mask, present = dense_mask(call.layout, call.q.device), call.present
    return create_block_mask(
        lambda b, h, i, j: mask[i, j] & present[b, j], call.q.shape[0], None, call.q.shape[2], call.k.shape[2], device=call.q.device
    )


@functools.lru_cache(maxsize=64)
def _static_block_mask(layout: TokenLayout, device: torch.device) -> BlockMask:
    mask = dense_mask(layout, device)
    return create_block_mask(lambda b, h, i, j: mask[i, j], None, None, layout.num_queries, layout.num_keys, device=device)
