"""Attention over a token layout: one verb, one switch.

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, overload

from torch import Tensor

from handsight.kernels.attention_flex import attend_flex
from handsight.kernels.attention_sdpa import attend_sdpa
from handsight.kernels.layout import TokenLayout
from handsight.kernels.problem import Attention
from handsight.kernels.reference import attend_reference

Backend = Literal["auto", "triton", "sdpa", "flex", "reference"]


@dataclass(frozen=True)
class Choice:
    """Which back end serves a call, and why."""

    backend: str
    reason: str


@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TokenLayout,
    *,
    present: Tensor | None = ...,
    scale: float | None = ...,
    backend: Backend = ...,
    return_lse: Literal[False] = ...,
) -> Tensor: ...
@overload
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TokenLayout,
    *,
    present: Tensor | None = ...,
    scale: float | None = ...,
    backend: Backend = ...,
    return_lse: Literal[True],
) -> tuple[Tensor, Tensor]: ...
def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    layout: TokenLayout,
    *,
    present: Tensor | None = None,
    scale: float | None = None,
    backend: Backend = "auto",
    return_lse: bool = False,
) -> Tensor | tuple[Tensor, Tensor]:
    """softmax(scale q k^T) v over the keys that `layout` lets each query see.

    Args:
        q: (B, H, N, D).
        k: (B, G, M, D); H / G query heads share a key-value head.
        v: (B, G, M, D).
        layout: of these N queries and M keys.
        present: (B, M) bool, False for padding and missing sensors, which nobody attends to. A query that is left without any key
            gives zeros, and zero gradients.
        scale: 1 / sqrt(D) without it.
        backend: "auto" is what `choose` says; "reference" computes in float64.
        return_lse: return the logarithm of each softmax's denominator too, by which parts over different keys are merged.

    Returns:
        (B, H, N, D) in q's dtype; with `return_lse` also (B, H, N) float32, -inf for a query without keys.

    Raises:
        ValueError: shapes that do not fit together, an unknown back end, or one that cannot serve this call.
    """
    call = Attention(q, k, v, layout, present, 1 / math.sqrt(q.shape[-1]) if scale is None else scale)
    out, lse = _BACKENDS[choose(call, backend).backend](call, return_lse)
    if not return_lse:
        return out
    assert lse is not None
    return out, lse


def choose(call: Attention, backend: Backend = "auto") -> Choice:
    """The one switch point: the back end that `attend` would use for this call.

    Raises:
        ValueError: an unknown back end.
    """
    if backend != "auto":
        if backend not in _BACKENDS:
            raise ValueError(f"expected a backend of {['auto', *_BACKENDS]}, got {backend!r}")
        return Choice(backend, "asked for")
    return Choice("sdpa", "the only one")


def _reference(call: Attention, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    out, lse = attend_reference(call.q, call.k, call.v, call.layout, call.present, call.scale)
    return out.to(call.q.dtype), lse.float()


_BACKENDS: Final[dict[str, Callable[[Attention, bool], tuple[Tensor, Tensor | None]]]] = {
    "sdpa": attend_sdpa,
    "flex": attend_flex,
    "reference": _reference,
}
