"""Attention over a token layout: one verb, one switch.

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N tokens, D width.
"""

from collections.abc import Callable
from typing import Final, Literal

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from handsight.kernels.layout import TokenLayout, dense_mask
from handsight.kernels.reference import attend_reference

Backend = Literal["auto", "sdpa", "reference"]


def attend(q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, *, present: Tensor | None = None, backend: Backend = "auto") -> Tensor:
    """softmax(q k^T / sqrt(D)) v over the keys that `layout` lets each query see.

    Args:
        q: (B, H, N, D).
        k: (B, G, N, D); H / G query heads share a key-value head.
        v: (B, G, N, D).
        layout: of the same N tokens.
        present: (B, N) bool, False for padding and missing sensors, which nobody attends to. A query that is left without any key
            gives zeros, and zero gradients.
        backend: "auto" is the fastest that runs here.

    Returns:
        (B, H, N, D) in q's dtype.

    Raises:
        ValueError: shapes that do not fit together, or an unknown backend.
    """
    _check(q, k, v, layout, present)
    return _choose(backend)(q, k, v, layout, present)


def _sdpa(q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, present: Tensor | None) -> Tensor:
    grouped = q.shape[1] != k.shape[1]
    if present is None and layout.is_full:
        return scaled_dot_product_attention(q, k, v, enable_gqa=grouped)
    mask = dense_mask(layout, q.device)[None, None]  # (1, 1, N, N)
    if present is not None:
        mask = mask & present[:, None, None, :]  # (B, 1, N, N)
    # A row without keys is 0/0 in softmax, and NaN times a zero gradient is still NaN: let it see everything, then drop it.
    dead = ~mask.any(-1, keepdim=True)
    return scaled_dot_product_attention(q, k, v, attn_mask=mask | dead, enable_gqa=grouped).masked_fill(dead, 0.0)


def _reference(q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, present: Tensor | None) -> Tensor:
    return attend_reference(q, k, v, layout, present).to(q.dtype)


_BACKENDS: Final[dict[str, Callable[[Tensor, Tensor, Tensor, TokenLayout, Tensor | None], Tensor]]] = {
    "auto": _sdpa,
    "sdpa": _sdpa,
    "reference": _reference,
}


def _choose(backend: str) -> Callable[[Tensor, Tensor, Tensor, TokenLayout, Tensor | None], Tensor]:
    """The one switch point."""
    if backend not in _BACKENDS:
        raise ValueError(f"expected a backend of {list(_BACKENDS)}, got {backend!r}")
    return _BACKENDS[backend]


def _check(q: Tensor, k: Tensor, v: Tensor, layout: TokenLayout, present: Tensor | None) -> None:
    batch, heads, tokens, width = q.shape
    groups = k.shape[1]
    if k.shape != (batch, groups, tokens, width) or v.shape != k.shape or heads % groups:
        raise ValueError(
            f"expected k and v of (B={batch}, G dividing H={heads}, N={tokens}, D={width}), got {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if layout.num_tokens != tokens:
        raise ValueError(f"expected {layout.num_tokens} tokens as in the layout {layout.segments}, got {tokens}")
    if present is not None and (present.shape != (batch, tokens) or present.dtype != torch.bool):
        raise ValueError(f"expected present of ({batch}, {tokens}) bool, got {tuple(present.shape)} {present.dtype}")
