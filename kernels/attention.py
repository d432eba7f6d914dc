"""Attention over a token layout: one verb, one switch.

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width.
"""

import importlib.util
import math
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal, overload

import torch
from torch import Tensor

from handsight.kernels.attention_flex import attend_flex
from handsight.kernels.attention_sdpa import attend_sdpa
from handsight.kernels.layout import TokenLayout
from handsight.kernels.problem import Attention
from handsight.kernels.reference import attend_reference
from handsight.kernels.triton_tiles import row_for

Backend = Literal["auto", "triton", "sdpa", "flex", "reference"]

HAS_TRITON: Final = importlib.util.find_spec("triton") is not None
TRITON_IS_INTERPRETED: Final = os.environ.get("TRITON_INTERPRET") == "1"  # Triton reads it once too, when a kernel is defined
MAX_GRID: Final = 65535  # programs along the second and third axis of a CUDA grid


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
        ValueError: an unknown back end, or Triton where it cannot serve this call.
    """
    if backend != "auto" and backend not in _BACKENDS:
        raise ValueError(f"expected a backend of {['auto', *_BACKENDS]}, got {backend!r}")
    if backend == "triton" and (obstacle := _obstacle_to_triton(call)):
        raise ValueError(f"expected a call that backend='triton' can serve, but {obstacle}; use backend='auto'")
    if backend != "auto":
        return Choice(backend, "asked for")
    if call.q.device.type != "cuda":
        return Choice("sdpa", "the fastest that runs on this device")
    if call.is_unmasked:
        return Choice("sdpa", "nothing is masked: PyTorch's own fused kernels need no layout")
    if obstacle := _obstacle_to_triton(call):
        return Choice("sdpa", f"Triton would skip what the layout hides, but {obstacle}")
    return Choice("triton", "skips what the layout hides and builds no dense mask")


def _obstacle_to_triton(call: Attention) -> str | None:
    """Why the Triton kernels cannot serve this call."""
    device, dtype, (batch, heads, _, width) = call.q.device.type, call.q.dtype, call.q.shape
    if not HAS_TRITON:
        return "triton is not installed"
    if device != "cuda" and not (device == "cpu" and TRITON_IS_INTERPRETED):
        return f"Triton does not run on {device!r} (tests interpret it on a CPU: set TRITON_INTERPRET=1 before the start)"
    if dtype not in (torch.float32, torch.float16, torch.bfloat16):
        return f"its kernels take float32, float16 and bfloat16, not {dtype}"
    if row_for(width) is None:
        return f"its kernels take heads of at most 128, or 256, wide, not {width}"
    if max(batch, heads) > MAX_GRID:
        return f"its kernels take at most {MAX_GRID} batch elements and heads, not {batch} and {heads}"
    return None


def _triton(call: Attention, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    from handsight.kernels.triton_op import attend_triton  # not on every platform, and needed on few

    return attend_triton(call, return_lse)


def _reference(call: Attention, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    out, lse = attend_reference(call.q, call.k, call.v, call.layout, call.present, call.scale)
    return out.to(call.q.dtype), lse.float()


_BACKENDS: Final[dict[str, Callable[[Attention, bool], tuple[Tensor, Tensor | None]]]] = {
    "triton": _triton,
    "sdpa": attend_sdpa,
    "flex": attend_flex,
    "reference": _reference,
}
