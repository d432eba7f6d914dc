"""Attention by parts of a layout: the same as in one piece, and nothing is computed to be hidden."""

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import pytest
import torch
from attention_problems import layouts, problems
from hypothesis import given
from torch import Tensor

from handsight.kernels import attention_sdpa
from handsight.kernels.attention import attend
from handsight.kernels.attention_sdpa import parts
from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal, causal, prefix_lm
from handsight.kernels.reference import attend_reference
from handsight.kernels.workloads import WORKLOADS

FUSE = next(workload.layout for workload in WORKLOADS if workload.name.startswith("FuSe"))


BLOCKS = blockwise_causal([[Segment("before", 200)], [Segment("after", 200)]])  # two parts
FORCED = {"in parts": -1e9, "in one piece": 1e9}


@contextlib.contextmanager
def call_cost(cost: float) -> Iterator[None]:
    with mock.patch.object(attention_sdpa, "CALL_COST", cost):
        parts.cache_clear()
        yield
    parts.cache_clear()


@pytest.mark.parametrize("way", FORCED)
@given(problem=problems())
def test_both_ways_equal_the_oracle(problem: dict[str, Any], way: str) -> None:
    with call_cost(FORCED[way]):
        out = attend(**problem, backend="sdpa")
    torch.testing.assert_close(out.double(), attend_reference(**problem)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("way", FORCED)
@given(problem=problems())
def test_both_ways_have_the_oracles_gradients(problem: dict[str, Any], way: str) -> None:
    def gradients(backend: Any) -> tuple[Tensor, ...]:
        leaves = {name: problem[name].clone().requires_grad_() for name in ("q", "k", "v")}
        out = attend(**{**problem, **leaves}, backend=backend)
        connected = out.square().sum() + 0 * leaves["q"].sum()  # the oracle's dead rows are constants
        return torch.autograd.grad(connected, list(leaves.values()), allow_unused=True, materialize_grads=True)

    with call_cost(FORCED[way]):
        ours = gradients("sdpa")
    for mine, exact in zip(ours, gradients("reference"), strict=True):
        torch.testing.assert_close(mine, exact, atol=2e-4, rtol=2e-4)


@given(layouts())
def test_parts_take_every_query_once_and_lose_no_key_that_is_seen(layout: TokenLayout) -> None:
    rebuilt = torch.zeros(layout.num_queries, layout.num_keys, dtype=torch.bool)
    end = 0
    for part in parts(layout, 1):
        assert part.queries.start == end
        end = part.queries.stop
        if part.layout is not None:
            columns = [key for run in part.keys for key in range(run.start, run.stop)]
            rebuilt[torch.arange(part.queries.start, end)[:, None], torch.tensor(columns)] = torch.from_numpy(part.layout.mask())
    assert end == layout.num_queries
    assert torch.equal(rebuilt, torch.from_numpy(layout.mask()))


def test_blocks_and_readouts_need_no_mask_at_all() -> None:
    split = parts(FUSE, 1)
    assert len(split) > 1
    assert all(part.layout is not None and part.layout.is_full for part in split)


def test_many_small_parts_stay_one() -> None:
    assert len(parts(BLOCKS, 2)) == 2
    single = prefix_lm([Segment("prefix", 200)], [Segment(f"token {i}", 1) for i in range(50)])
    assert len(parts(single, 1)) == 1


@pytest.mark.parametrize("layout", [BLOCKS, prefix_lm([Segment("prefix", 40)], [Segment("suffix", 9)]), causal([Segment("text", 12)])])
@pytest.mark.parametrize("is_present_given", [False, True])
def test_it_is_compiled_and_exported_as_it_is(layout: TokenLayout, is_present_given: bool) -> None:
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(2, heads, n, 8, generator=generator) for heads, n in ((4, layout.num_queries), (2, layout.num_keys)))
    present = torch.rand(2, layout.num_keys, generator=generator) < 0.8 if is_present_given else None

    class Layer(torch.nn.Module):
        def forward(self, q: Tensor, k: Tensor, present: Tensor | None = None) -> Tensor:
            return attend(q, k, k, layout, present=present)

    inputs = (q, k) if present is None else (q, k, present)
    expected = attend(q, k, k, layout, present=present, backend="sdpa")
    torch.compiler.reset()  # or the second layout would make the first one's lengths symbols
    exported = torch.export.export(Layer(), inputs).module()
    compiled = torch.compile(Layer(), fullgraph=True, backend="aot_eager")
    for run in (exported, compiled):
        torch.testing.assert_close(run(*inputs), expected, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(attend(q, k, k, layout, present=present, backend="sdpa"), expected, atol=0, rtol=0)  # the caches stay clean
