"""Attention over token layouts: the fast path against the oracle, and what a layout promises."""

from typing import Any

import pytest
import torch
from attention_problems import problems
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, TokenLayout, Visibility, blockwise_causal, dense_mask, full
from handsight.kernels.reference import attend_reference


@given(problems(), st.sampled_from(["sdpa", "flex"]))
def test_fast_paths_equal_the_oracle(problem: dict[str, Any], backend: Any) -> None:
    with torch.compiler.set_stance("force_eager"):  # compiling every drawn shape of flex would take hours
        out, lse = attend(**problem, backend=backend, return_lse=True)
    exact_out, exact_lse = attend_reference(**problem)
    torch.testing.assert_close(out.double(), exact_out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse.double(), exact_lse, atol=1e-5, rtol=1e-5)


@given(problems())
def test_gradients_equal_the_oracles_and_are_finite(problem: dict[str, Any]) -> None:
    def gradients(backend: Any) -> tuple[Tensor, ...]:
        leaves = {name: problem[name].clone().requires_grad_() for name in ("q", "k", "v")}
        out, lse = attend(**{**problem, **leaves}, backend=backend, return_lse=True)
        alive = lse.detach() > -torch.inf
        connected = out.square().sum() + lse[alive].square().sum() + 0 * leaves["q"].sum()  # the oracle's dead rows are constants
        return torch.autograd.grad(connected, list(leaves.values()), allow_unused=True, materialize_grads=True)

    for fast, exact in zip(gradients("sdpa"), gradients("reference"), strict=True):
        assert torch.isfinite(fast).all()
        torch.testing.assert_close(fast, exact, atol=2e-4, rtol=2e-4)


@given(problems())
def test_rows_are_averages_and_rows_without_keys_are_zero(problem: dict[str, Any]) -> None:
    out = attend(**{**problem, "v": torch.ones_like(problem["v"])})
    mask = dense_mask(problem["layout"], out.device) & (True if problem["present"] is None else problem["present"][:, None, :])
    expected = mask.any(-1).float().expand(out.shape[0], -1)[:, None, :, None].expand_as(out)  # (B, H, N, D)
    torch.testing.assert_close(out, expected, atol=1e-6, rtol=0)


@given(problems(), st.integers(0, 2**31))
def test_nothing_depends_on_what_is_not_seen(problem: dict[str, Any], seed: int) -> None:
    layout: TokenLayout = problem["layout"]
    generator = torch.Generator().manual_seed(seed)
    segment = layout.keys[0]
    changed = {name: problem[name].clone() for name in ("k", "v")}
    for value in changed.values():
        value[:, :, layout.key_span(segment.name)] += torch.randn(1, generator=generator)
    before, after = attend(**problem), attend(**{**problem, **changed})
    for row, query in zip(layout.visible, layout.queries, strict=True):
        if row[0] == Visibility.NONE:
            span = layout.query_span(query.name)
            torch.testing.assert_close(after[:, :, span], before[:, :, span], atol=0, rtol=0)


@given(st.lists(st.lists(st.integers(1, 3), min_size=1, max_size=2), min_size=1, max_size=3))
def test_a_readout_changes_no_other_token(blocks: list[list[int]]) -> None:
    named = [[Segment(f"b{i}.{j}", n) for j, n in enumerate(block)] for i, block in enumerate(blocks)]
    plain = blockwise_causal(named)
    read = blockwise_causal(named, [[Segment(f"r{i}", 2)] for i in range(len(named))])
    kept = [i for segment in plain.keys for i in range(read.num_keys)[read.key_span(segment.name)]]
    x = torch.randn(1, 2, read.num_keys, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(attend(x, x, x, read)[:, :, kept], attend(*(x[:, :, kept],) * 3, plain), atol=1e-6, rtol=1e-6)


def test_full_layout_needs_no_mask_and_equals_plain_attention() -> None:
    x = torch.randn(2, 2, 7, 4, generator=torch.Generator().manual_seed(0))
    layout = full([Segment("a", 3), Segment("b", 4)])
    assert layout.is_full
    assert torch.equal(attend(x, x, x, layout), torch.nn.functional.scaled_dot_product_attention(x, x, x))


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype, tolerance: float) -> None:
    q, k, v = torch.randn(3, 2, 2, 9, 16, generator=torch.Generator().manual_seed(0)).to(dtype)
    layout = blockwise_causal([[Segment("a", 4)], [Segment("b", 5)]])
    out = attend(q, k, v, layout)
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), attend_reference(q, k, v, layout)[0], atol=tolerance, rtol=tolerance)


def test_a_mask_first_used_for_inference_serves_training_too() -> None:
    layout = blockwise_causal([[Segment("inference first", 2)], [Segment("then training", 2)]])
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        attend(x, x, x, layout)
    leaf = x.clone().requires_grad_()
    attend(leaf, leaf, leaf, layout).sum().backward()
    assert leaf.grad is not None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": torch.zeros(1, 3, 4, 8)}, "G dividing H=4"),
        ({"v": torch.zeros(1, 2, 5, 8)}, "expected k and v"),
        ({"layout": full([Segment("a", 5)])}, "expected 5 queries"),
        ({"present": torch.ones(1, 4)}, "bool"),
        ({"backend": "magic"}, "expected a backend"),
    ],
)
def test_wrong_input_says_what_was_expected(change: dict[str, Any], message: str) -> None:
    good = {"q": torch.zeros(1, 4, 4, 8), "k": torch.zeros(1, 2, 4, 8), "v": torch.zeros(1, 2, 4, 8), "layout": full([Segment("a", 4)])}
    with pytest.raises(ValueError, match=message):
        attend(**{**good, **change})
