"""What the tests of the Triton kernels share: tiles so small that a small problem has several, memory layouts, gradients."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from hypothesis import strategies as st
from torch import Tensor

from handsight.kernels import triton_op
from handsight.kernels.attention import attend
from handsight.kernels.reference import attend_reference
from handsight.kernels.triton_tiles import Tiles

shapes_of_tiles = st.tuples(st.sampled_from([16, 32]), st.sampled_from([16, 32]))


@contextmanager
def small_tiles(block_n: int = 16, block_m: int = 16, splits: int = 1, slices: int = 1) -> Iterator[None]:
    """Every kernel in tiles of this size, the forward one with this many splits, the backward ones with this many slices of the width."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(triton_op, "tiles_for", lambda *_: Tiles(block_n, block_m, num_warps=4, num_stages=2, slices=slices))
        patch.setattr(triton_op, "_splits", lambda _: splits)
        yield


def _from_tokens(x: Tensor) -> Tensor:
    return x.transpose(1, 2).contiguous().transpose(1, 2)


def _every_other(x: Tensor) -> Tensor:
    wide = x.new_full((*x.shape[:2], 2 * x.shape[2], x.shape[3] + 3), torch.nan)
    wide[:, :, ::2, 2:-1] = x
    return wide[:, :, ::2, 2:-1]


def _by_columns(x: Tensor) -> Tensor:
    return x.transpose(2, 3).contiguous().transpose(2, 3)


# How (B, heads, tokens, D) lies in memory; the values are the same.
STORED: dict[str, Callable[[Tensor], Tensor]] = {
    "head by head": Tensor.contiguous,
    "token by token": _from_tokens,
    "every other token of a longer tensor": _every_other,
    "column by column": _by_columns,
    "one batch element for all": lambda x: x[:1].expand_as(x),  # the values of the first
}


def gradients(problem: dict[str, Any], weights: tuple[Tensor, Tensor], backend: Any) -> list[Tensor]:
    """Of q, k and v, for the loss sum(weights[0] out) + sum(weights[1] lse) over the queries that have keys."""
    leaves = {name: problem[name].detach().clone().requires_grad_() for name in ("q", "k", "v")}
    everything = {**problem, **leaves}
    out, lse = attend_reference(**everything) if backend == "reference" else attend(**everything, backend=backend, return_lse=True)
    alive = lse.detach() > -torch.inf
    loss = (weights[0] * out).sum() + (weights[1] * lse)[alive].sum() + 0 * sum(leaf.sum() for leaf in leaves.values())
    return list(torch.autograd.grad(loss, list(leaves.values())))


def weights_of(problem: dict[str, Any], seed: int = 0) -> tuple[Tensor, Tensor]:
    """Random gradients of out (B, H, N, D) and lse (B, H, N)."""
    generator = torch.Generator().manual_seed(seed)
    q = problem["q"]
    return torch.randn(q.shape, generator=generator).to(q.dtype), torch.randn(q.shape[:3], generator=generator)
