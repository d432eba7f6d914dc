"""Attention over a token layout by PyTorch's scaled dot product: the fastest that runs on a CPU.

Queries that see the same keys are computed together over those keys alone, so that most of them need no mask and nothing is computed to be
hidden. Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width.
"""

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from handsight.kernels.dense import DenseMask
from handsight.kernels.layout import Segment, TokenLayout, Visibility, dense_mask
from handsight.kernels.problem import Attention

# Measured on a CPU; they decide how, not what is computed.
CALL_COST: Final = 16  # queries that could be computed in the time that one more call takes
MASK_COST: Final = 1.1  # how much longer a call takes with a mask
WORTH_IT: Final = 0.9  # taking tokens apart and joining them costs something too, most of all in the backward pass
MOST_PACKED: Final = 64  # queries whose heads are worth copying next to each other


@dataclass(frozen=True)
class Part:
    """Neighbouring queries that see the same segments of keys."""

    queries: slice
    keys: tuple[slice, ...]
    """Runs of keys, in order; none for queries that see nothing."""
    layout: TokenLayout | None
    """Of these queries and keys; None without keys."""


def attend_sdpa(call: Attention, return_lse: bool) -> tuple[Tensor, Tensor | None]:
    """As `attend`."""
    outs = [_attend_part(call, part) for part in parts(call.layout, call.heads_per_group)]
    # (B, N, H, D) is how the kernel stores it, and joining the heads for the next projection then copies nothing.
    out = outs[0] if len(outs) == 1 else torch.cat([out.transpose(1, 2) for out in outs], dim=1).transpose(1, 2)
    return out, call.log_sum_exp() if return_lse else None


@functools.lru_cache(maxsize=256)
def parts(layout: TokenLayout, heads_per_group: int) -> tuple[Part, ...]:
    """The layout by rows of its table, or in one piece where many small calls would take longer than what they leave out."""
    split = tuple(_part(layout, names) for names in _alike(layout))

    def cost(part: Part) -> float:
        rows, keys = part.queries.stop - part.queries.start, sum(run.stop - run.start for run in part.keys)
        return (heads_per_group * rows + CALL_COST) * keys * (1 if part.layout is None or part.layout.is_full else MASK_COST)

    whole = Part(slice(0, layout.num_queries), (slice(0, layout.num_keys),), layout)
    # Where nobody sees anything, the output still hangs together with q, k and v for autograd if it is computed.
    return split if any(part.keys for part in split) and sum(map(cost, split)) < WORTH_IT * cost(whole) else (whole,)


def _attend_part(call: Attention, part: Part) -> Tensor:
    """(B, H, rows of the part, D)."""
    q = _runs(call.q, (part.queries,), dim=2)
    if part.layout is None:
        return torch.zeros_like(q)
    k, v = _runs(call.k, part.keys, dim=2), _runs(call.v, part.keys, dim=2)
    present = None if call.present is None else _runs(call.present, part.keys, dim=1)
    is_causal = present is None and _is_plainly_causal(part.layout)
    # The heads of a group ask the same keys, so few queries of many heads are more queries of one: the kernel reads the keys once.
    copies = 1 if is_causal or q.shape[2] > MOST_PACKED else call.heads_per_group
    packed = q if copies == 1 else q.reshape(q.shape[0], k.shape[1], copies * q.shape[2], q.shape[3])
    mask = None if is_causal else _mask(part.layout, present, copies, q.dtype, q.device)
    if mask is None:
        grouped = bool(packed.shape[1] != k.shape[1])
        out = scaled_dot_product_attention(packed, k, v, is_causal=is_causal, scale=call.scale, enable_gqa=grouped)
    else:
        out = mask.attend(packed, k, v, call.scale)
    return out if copies == 1 else out.reshape(q.shape)


def _mask(layout: TokenLayout, present: Tensor | None, copies: int, dtype: torch.dtype, device: torch.device) -> DenseMask | None:
    """For `copies` times the layout's queries; None if all of them see all of its keys."""
    if layout.is_full:
        return None if present is None else DenseMask.of(present[:, None, None, :])
    if present is not None:
        mask = dense_mask(layout, device)[None, None] & present[:, None, None, :]  # (B, 1, N, M)
        return DenseMask.of(mask if copies == 1 else mask.repeat(1, 1, copies, 1))
    if torch.compiler.is_compiling():  # traced tensors must not enter the cache
        return DenseMask.of(dense_mask(layout, device).repeat(copies, 1)[None, None])
    return _static_mask(layout, copies, dtype, device)


@functools.lru_cache(maxsize=64)
def _static_mask(layout: TokenLayout, copies: int, dtype: torch.dtype, device: torch.device) -> DenseMask:
    """Added to the scores: the kernel would turn a boolean mask into that in every call."""
    with torch.inference_mode(False):  # no training step could save an inference tensor
        made = DenseMask.of(dense_mask(layout, device).repeat(copies, 1)[None, None])
        return DenseMask(torch.zeros_like(made.mask, dtype=dtype).masked_fill_(~made.mask, -torch.inf), made.dead)


def _alike(layout: TokenLayout) -> list[list[str]]:
    """Names of neighbouring query segments whose rows are equal; those that see causally stay apart."""
    runs: list[list[str]] = []
    last: tuple[int, ...] | None = None
    for segment, row in zip(layout.queries, layout.visible, strict=True):
        if runs and row == last and Visibility.CAUSAL not in row:
            runs[-1].append(segment.name)
        else:
            runs.append([segment.name])
        last = row
    return runs


def _part(layout: TokenLayout, names: Sequence[str]) -> Part:
    spans = [layout.query_span(name) for name in names]
    queries = slice(spans[0].start, spans[-1].stop)
    asking = layout.asking(*names)
    row = asking.visible[0]
    # What is seen causally is seen up to the query's own place, so its own segment stays even if it is not seen.
    kept = [key for key, cell in zip(layout.keys, row, strict=True) if cell or (Visibility.CAUSAL in row and key in asking.queries)]
    if not any(row):
        return Part(queries, (), None)
    return Part(queries, _joined(layout, kept), asking.seeing(*(key.name for key in kept)))


def _joined(layout: TokenLayout, segments: Sequence[Segment]) -> tuple[slice, ...]:
    """The segments' keys; neighbours are one run."""
    runs: list[slice] = []
    for segment in segments:
        span = layout.key_span(segment.name)
        if runs and runs[-1].stop == span.start:
            runs[-1] = slice(runs[-1].start, span.stop)
        else:
            runs.append(span)
    return tuple(runs)


def _runs(x: Tensor, runs: Sequence[slice], dim: int) -> Tensor:
    """These tokens of `dim`; a view if they are one run."""
    if runs[0] == slice(0, x.shape[dim]):  # a view costs a few microseconds, of which one call has no more than a thousand
        return x
    pieces = [x.narrow(dim, run.start, run.stop - run.start) for run in runs]
    return pieces[0] if len(pieces) == 1 else torch.cat(pieces, dim)


def _is_plainly_causal(layout: TokenLayout) -> bool:
    """Whether the whole is one triangle, which the kernel knows by itself."""
    return layout.queries == layout.keys and all(cell == Visibility.CAUSAL for row in layout.visible for cell in row)
