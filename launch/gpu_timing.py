"""Attention by several libraries, timed in turns on one device: what `handsight bench gpu` measures.

Every contender is prepared once outside the clock (masks, block masks); ours prepares nothing, so what it derives from `present` is timed.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width.
"""

import importlib
import importlib.util
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from torch import Tensor
from torch.nn.attention.flex_attention import create_block_mask, flex_attention
from torch.nn.functional import scaled_dot_product_attention

from handsight.kernels.attention import attend
from handsight.kernels.problem import Attention

Run = Callable[[], Tensor]
OURS: Final = "handsight"


@dataclass(frozen=True)
class Timing:
    """Of one call, over the rounds."""

    median_ms: float
    lower_quartile_ms: float
    upper_quartile_ms: float


def contenders(call: Attention) -> dict[str, Run]:
    """Who can compute this call: name -> a call of its own."""
    found: dict[str, Run] = {
        OURS: lambda: attend(call.q, call.k, call.v, call.layout, present=call.present, scale=call.scale, backend="triton"),
        "FlexAttention": _flex(call),
        "SDPA, dense mask": _sdpa(call),
    }
    if (flash := _flash(call)) is not None:
        found["FlashAttention"] = flash
    return found


def compare(call: Attention, runs: dict[str, Run], rounds: int, *, backward: bool) -> dict[str, Timing | str]:
    """Times every contender once a round, in turn; one that fails has its reason instead.

    With `backward`, forward and backward together, to the gradients of q, k and v.
    """
    steps = {name: (lambda run=run: _step(call, run)) if backward else run for name, run in runs.items()}
    failed: dict[str, Timing | str] = {}
    samples: dict[str, list[float]] = {name: [] for name in steps}
    for index in range(rounds + 1):  # the first round compiles and warms up
        for name in [name for name in steps if name not in failed]:
            try:
                seconds = timed(steps[name], call.q.device)
            except RuntimeError as error:  # what the libraries raise for calls that they do not serve
                failed[name] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
                continue
            if index:
                samples[name].append(seconds)
    return {name: failed[name] if name in failed else timing_of(seconds) for name, seconds in samples.items()}


def timing_of(seconds: list[float]) -> Timing:
    """Median and quartiles in milliseconds."""
    lower, median, upper = 1e3 * np.quantile(seconds, [0.25, 0.5, 0.75])
    return Timing(float(median), float(lower), float(upper))


def timed(run: Callable[[], object], device: torch.device) -> float:
    """[s] of one call: between two events on a GPU, of the process's CPU time in a dry run."""
    if device.type != "cuda":
        before = time.process_time()
        run()
        return time.process_time() - before
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize(device)
    start.record()
    run()
    end.record()
    torch.cuda.synchronize(device)
    return start.elapsed_time(end) / 1e3


def _step(call: Attention, run: Run) -> tuple[Tensor, ...]:
    out = run()
    return torch.autograd.grad(out, [call.q, call.k, call.v], torch.ones_like(out))


def _flex(call: Attention) -> Run:
    mask, (batch, _, queries, _), keys = call.mask(), call.q.shape, call.k.shape[2]
    block_mask = None
    if not call.is_unmasked:
        several = mask.shape[0] > 1

        def visible(b: Tensor, h: Tensor, i: Tensor, j: Tensor) -> Tensor:
            return mask[b if several else 0, 0, i, j]

        block_mask = create_block_mask(visible, batch if several else None, None, queries, keys, device=call.q.device)
    # Interpreting is enough for a dry run; on a GPU an uncompiled FlexAttention would build the whole score matrix.
    function: Callable[..., Any] = torch.compile(flex_attention, dynamic=False) if call.q.is_cuda else flex_attention
    return lambda: function(call.q, call.k, call.v, block_mask=block_mask, scale=call.scale, enable_gqa=call.heads_per_group > 1)


def _sdpa(call: Attention) -> Run:
    mask = None if call.is_unmasked else call.mask()
    return lambda: scaled_dot_product_attention(
        call.q, call.k, call.v, attn_mask=mask, scale=call.scale, enable_gqa=call.heads_per_group > 1
    )


def _flash(call: Attention) -> Run | None:
    """FlashAttention 2, where it is installed and has the mask: none, or causal over all tokens."""
    causal = call.present is None and not call.layout.is_full and _is_plain_causal(call)
    served = call.q.is_cuda and call.q.dtype in (torch.float16, torch.bfloat16) and (call.is_unmasked or causal)
    if not served or importlib.util.find_spec("flash_attn") is None:
        return None
    flash_attn_func = importlib.import_module("flash_attn").flash_attn_func  # no dependency: only where somebody installed it
    q, k, v = (x.transpose(1, 2) for x in (call.q, call.k, call.v))  # (B, N, H, D)
    return lambda: flash_attn_func(q, k, v, softmax_scale=call.scale, causal=causal).transpose(1, 2)


def _is_plain_causal(call: Attention) -> bool:
    mask = call.layout.mask()
    return mask.shape[0] == mask.shape[1] and bool((mask == np.tri(mask.shape[0], dtype=bool)).all())


def call_of(shape: tuple[int, int, int, int], layout: Any, present: Tensor | None, dtype: torch.dtype, device: torch.device) -> Attention:
    """A call with random tensors of (B, H, G, D) that ask for gradients; the same seed, so the same numbers on every device."""
    batch, heads, groups, width = shape
    generator = torch.Generator().manual_seed(0)

    def noise(count: int, tokens: int) -> Tensor:
        return torch.randn(batch, count, tokens, width, generator=generator).to(device, dtype).requires_grad_()

    q, k, v = noise(heads, layout.num_queries), noise(groups, layout.num_keys), noise(groups, layout.num_keys)
    return Attention(q, k, v, layout, present, 1 / math.sqrt(width))
