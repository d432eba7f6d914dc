"""The Triton kernels as PyTorch operators: shapes for torch.compile, gradients for autograd, and the back end for `attend`.

Axes: B batch, H query heads, G key-value heads (H is a multiple of G), N queries, M keys, D width, S splits.
"""

import contextlib
import math
from collections.abc import Sequence
from dataclasses import astuple, fields
from typing import Any, Final

import torch
import triton
from torch import Tensor

from handsight.kernels.problem import Attention
from handsight.kernels.triton_backward import keys_kernel, queries_kernel, rows_kernel
from handsight.kernels.triton_device import architecture_of
from handsight.kernels.triton_forward import forward_kernel
from handsight.kernels.triton_parts import Heads, Mask, Visits
from handsight.kernels.triton_plan import mask_tensors, schedule
from handsight.kernels.triton_split import combine_kernel, split_kernel, splits_for
from handsight.kernels.triton_tiles import Tiles, tiles_for

LOG2_E: Final = math.log2(math.e)
_NUMBERS: Final = len(fields(Tiles))


def attend_triton(call: Attention, return_lse: bool, *, splits: int | None = None) -> tuple[Tensor, Tensor | None]:
    """As `attend`. After the first call for a layout, the host only launches kernels.

    Args:
        splits: how many programs share a row's keys; what `splits_for` says without it.

    Raises:
        ValueError: a type or a head width that the kernels do not take.
    """
    q, k, layout, present = call.q, call.k, call.layout, call.present
    splits = _splits(call) if splits is None else splits
    architecture = architecture_of(q.device)
    forward, by_keys, by_queries = tiles = [
        tiles_for(q.shape[-1], q.dtype, direction, architecture) for direction in ("forward" if splits == 1 else "split", "keys", "queries")
    ]
    rows = forward.block_n if splits == 1 else call.layout.num_queries  # a split visits the tiles of all queries at once
    plans = [schedule(layout, present, rows, forward.block_m, q.device)]
    if torch.is_grad_enabled() and (q.requires_grad or k.requires_grad or call.v.requires_grad):
        plans.append(schedule(layout, present, by_keys.block_n, by_keys.block_m, q.device, by_keys=True))
        plans.append(schedule(layout, present, by_queries.block_n, by_queries.block_m, q.device))
    scale = call.scale
    if scale <= 0:  # the kernels scale a row's maximum instead of all its scores, which takes a positive scale
        q, scale = q * scale, 1.0
    out, lse = attention(
        q, k, call.v, *mask_tensors(layout, present, q.device),
        [plan.visits for plan in plans], [plan.has_partial for plan in plans],
        [number for each in tiles for number in astuple(each)], splits, scale,
    )  # fmt: skip
    return out, lse if return_lse else None


def _splits(call: Attention) -> int:
    """How many programs share a row's keys; a CPU, where Triton's interpreter runs one program after the other, needs one."""
    if not call.q.is_cuda:
        return 1
    tiles = tiles_for(call.q.shape[-1], call.q.dtype, "split", architecture_of(call.q.device))
    packed = math.ceil(call.heads_per_group * call.q.shape[2] / tiles.block_n)
    multiprocessors = torch.cuda.get_device_properties(call.q.device).multi_processor_count
    return splits_for(packed * call.k.shape[0] * call.k.shape[1], math.ceil(call.k.shape[2] / tiles.block_m), multiprocessors)


@torch.library.custom_op("handsight::attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sees: Tensor,
    places: Tensor,
    segments: Tensor,
    visits: Sequence[Tensor],
    has_partial: Sequence[bool],
    tiles: Sequence[int],
    splits: int,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """Output (B, H, N, D) and log-sum-exp (B, H, N) float32, with what `kernels/triton_plan.py` says of the layout.

    Args:
        visits, has_partial: of the forward kernel and, where a gradient is wanted, by keys and by queries.
        tiles: of the same three, the numbers of each `Tiles`.
        splits: 1 is the kernel without splits.
        scale: positive.
    """
    (batch, heads, queries, width), (groups, keys) = q.shape, k.shape[1:3]
    q, k, v = _rows(q), _rows(k), _rows(v)
    out, lse = _empty_heads(q), q.new_empty((batch, heads, queries), dtype=torch.float32)
    size = Tiles(*tiles[:_NUMBERS])
    common = (_mask(sees, places, segments), _visits(visits[0]), heads // groups)
    options = _options(q, sees, size, has_partial[0])
    with _on(q.device):
        if splits == 1:
            grid = (triton.cdiv(queries, size.block_n), heads, batch)
            forward_kernel[grid](_heads(q), _heads(k), _heads(v), _heads(out), lse, *common, queries, keys, scale * LOG2_E, **options)
            return out, lse
        parts, part_lse = (lse.new_empty((*shape, splits, *rest)) for shape, rest in ((lse.shape, (width,)), (lse.shape, ())))
        grid = (triton.cdiv(heads // groups * queries, size.block_n) * splits, groups, batch)
        split_kernel[grid](_heads(q), _heads(k), _heads(v), parts, part_lse, *common, splits, queries, keys, scale * LOG2_E, **options)
        padded = {"WIDTH": width, "BLOCK_S": triton.next_power_of_2(splits), "BLOCK_D": options["BLOCK_D"]}
        combine_kernel[(queries, heads, batch)](parts, part_lse, _heads(out), lse, splits, **padded)
    return out, lse


@torch.library.custom_op("handsight::attention_backward", mutates_args=())
def attention_backward(
    grad_out: Tensor,
    grad_lse: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    sees: Tensor,
    places: Tensor,
    segments: Tensor,
    visits: Sequence[Tensor],
    has_partial: Sequence[bool],
    tiles: Sequence[int],
    scale: float,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of q, k and v. `visits`, `has_partial` and `tiles` are those by keys and by queries."""
    (batch, heads, queries, _), (groups, keys) = q.shape, k.shape[1:3]
    q, k, v, grad_out, grad_lse = _rows(q), _rows(k), _rows(v), _rows(grad_out), grad_lse.contiguous()
    grad_q, grad_k, grad_v = _empty_heads(q), _empty_heads(k), _empty_heads(v)
    delta, shift = torch.empty_like(lse), torch.empty_like(lse)
    by_keys, by_queries = Tiles(*tiles[:_NUMBERS]), Tiles(*tiles[_NUMBERS:])
    mask, sizes = _mask(sees, places, segments), (heads // groups, queries, keys, scale * LOG2_E)
    inputs = (_heads(q), _heads(k), _heads(v), _heads(grad_out))
    with _on(q.device):
        options = _sliced_options(q, sees, by_queries, has_partial[1])
        grid = (triton.cdiv(queries, by_queries.block_n), heads, batch)
        shape = {name: options[name] for name in ("WIDTH", "BLOCK_N", "BLOCK_D", "num_warps")}
        rows_kernel[grid](_heads(out), inputs[3], lse, grad_lse, delta, shift, queries, **shape)
        grid = (triton.cdiv(queries, by_queries.block_n) * by_queries.slices, heads, batch)
        queries_kernel[grid](*inputs, _heads(grad_q), delta, shift, mask, _visits(visits[1]), *sizes, **options)
        options = _sliced_options(q, sees, by_keys, has_partial[0])
        grid = (triton.cdiv(keys, by_keys.block_m) * by_keys.slices, groups, batch)
        keys_kernel[grid](*inputs, _heads(grad_k), _heads(grad_v), delta, shift, mask, _visits(visits[0]), *sizes, **options)
    return grad_q, grad_k, grad_v


@attention.register_fake
def _(q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _empty_heads(q), q.new_empty(q.shape[:3], dtype=torch.float32)


@attention_backward.register_fake
def _(grad_out: Tensor, grad_lse: Tensor, out: Tensor, lse: Tensor, q: Tensor, k: Tensor, v: Tensor, *others: Any) -> tuple[Tensor, ...]:
    return _empty_heads(q), _empty_heads(k), _empty_heads(v)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, visits, has_partial, tiles, _, scale = inputs
    ctx.save_for_backward(*output, *tensors, *visits[1:])
    ctx.constants = (has_partial[1:], tiles[_NUMBERS:], scale)


def _backward(ctx: Any, grad_out: Tensor, grad_lse: Tensor) -> tuple[Tensor | list[None] | None, ...]:
    *tensors, by_keys, by_queries = ctx.saved_tensors
    gradients = attention_backward(grad_out, grad_lse, *tensors, [by_keys, by_queries], *ctx.constants)
    return (*gradients, None, None, None, [None, None, None], None, None, None, None)  # visits are a list


attention.register_autograd(_backward, setup_context=_save)


def _rows(x: Tensor) -> Tensor:
    """What a kernel can read: any strides, but 1 in a row."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _empty_heads(x: Tensor) -> Tensor:
    """(B, heads, tokens, D), stored as (B, tokens, heads, D): joining the heads for the next projection copies nothing."""
    batch, heads, tokens, width = x.shape
    return x.new_empty((batch, tokens, heads, width)).transpose(1, 2)


def _heads(x: Tensor) -> Heads:
    return Heads(x, *x.stride()[:3])


def _mask(sees: Tensor, places: Tensor, segments: Tensor) -> Mask:
    return Mask(sees, places, segments, segments.stride(0) if segments.shape[0] > 1 else 0)


def _visits(visits: Tensor) -> Visits:
    return Visits(visits, visits.stride(0) if visits.shape[0] > 1 else 0, visits.stride(1))


def _options(q: Tensor, sees: Tensor, tiles: Tiles, has_partial: bool) -> dict[str, Any]:
    """What the kernels are compiled for."""
    width, (kinds, words, _) = q.shape[-1], sees.shape
    return {
        "WIDTH": width,
        "BLOCK_N": tiles.block_n,
        "BLOCK_M": tiles.block_m,
        "BLOCK_D": max(16, triton.next_power_of_2(width)),  # the least that tensor cores multiply
        "WORDS": words,
        "CAUSAL": kinds == 2,
        "HAS_PARTIAL": has_partial,
        "num_warps": tiles.num_warps,
        "num_stages": tiles.num_stages,
    }


def _sliced_options(q: Tensor, sees: Tensor, tiles: Tiles, has_partial: bool) -> dict[str, Any]:
    """Those of a kernel of the backward pass."""
    options = _options(q, sees, tiles, has_partial)
    return options | {"SLICE_D": options["BLOCK_D"] // tiles.slices}


def _on(device: torch.device) -> contextlib.AbstractContextManager[Any]:
    """Triton launches on the current device, which need not be the tensors'."""
    return torch.cuda.device(device) if device.type == "cuda" else contextlib.nullcontext()
