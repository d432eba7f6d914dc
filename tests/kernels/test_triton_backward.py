"""The Triton backward kernels in Triton's interpreter against the float64 oracle. Nothing here runs on a GPU."""

from typing import Any

import pytest
import torch
from attention_problems import problems
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_bfloat16 import exact_bfloat16
from torch import Tensor
from triton_problems import STORED, gradients, shapes_of_tiles, small_tiles, weights_of

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal, causal


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _unit(shape: torch.Size, generator: torch.Generator) -> Tensor:
    direction = torch.randn(shape, generator=generator)
    return direction / direction.norm()


def assert_equals_oracle(problem: dict[str, Any], tolerance: float = 1e-4) -> None:
    weights = weights_of(problem)
    for fast, exact in zip(gradients(problem, weights, "triton"), gradients(problem, weights, "reference"), strict=True):
        torch.testing.assert_close(fast, exact, atol=tolerance, rtol=tolerance)


@settings(max_examples=8)
@given(problems(longest=16), shapes_of_tiles)
def test_gradients_equal_the_oracles(problem: dict[str, Any], tiles: tuple[int, int]) -> None:
    with small_tiles(*tiles):
        assert_equals_oracle(problem)


@pytest.mark.slow
@settings(max_examples=250)
@given(problems(longest=24), shapes_of_tiles, st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_gradients_equal_the_oracles_in_a_large_sweep(problem: dict[str, Any], tiles: tuple[int, int], dtype: torch.dtype) -> None:
    problem = {**problem, **{name: problem[name].to(dtype) for name in ("q", "k", "v")}}
    tolerance = {torch.float32: 1e-4, torch.float16: 3e-2, torch.bfloat16: 2e-1}[dtype]
    with small_tiles(*tiles), exact_bfloat16():
        assert_equals_oracle(problem, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 1e-2), (torch.bfloat16, 6e-2)])
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype, tolerance: float) -> None:
    layout = blockwise_causal([[Segment("a", 18)], [Segment("b", 9)]], [[Segment("r", 5)], []])
    q, k, v = noise(3, 2, 2, 32, 16).to(dtype)
    present = noise(2, 32, seed=1) < 0.5
    with small_tiles(), exact_bfloat16():
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": layout, "present": present}, tolerance)


@pytest.mark.parametrize("name", STORED)
def test_memory_layout_does_not_matter(name: str) -> None:
    """Neither that of q, k and v nor that of the gradient that comes in."""
    layout = causal([Segment("a", 11), Segment("b", 12)])
    leaves = [noise(2, heads, 23, 8, seed=seed).requires_grad_() for seed, heads in enumerate((4, 2, 2))]
    incoming = noise(2, 4, 23, 8, seed=3)
    with small_tiles():
        stored = attend(*(STORED[name](leaf) for leaf in leaves), layout, backend="triton")
        fast = torch.autograd.grad(stored, leaves, STORED[name](incoming))
    plain = attend(*(leaf[:1].expand_as(leaf) if "one batch" in name else leaf for leaf in leaves), layout, backend="reference")
    exact = torch.autograd.grad(plain, leaves, STORED[name](incoming).contiguous())
    for one, other in zip(fast, exact, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("width", [1, 40, 256])
def test_head_widths(width: int) -> None:
    q, k, v = noise(1, 2, 5, width), noise(1, 1, 20, width, seed=1), noise(1, 1, 20, width, seed=2)
    layout = TokenLayout((Segment("q", 5),), (Segment("a", 8), Segment("b", 12)), ((1, 0),))
    assert_equals_oracle({"q": q, "k": k, "v": v, "layout": layout})


@pytest.mark.parametrize(
    ("width", "slices"),
    [pytest.param(32, 2, marks=pytest.mark.slow), (33, 2), (40, 4), pytest.param(64, 2, marks=pytest.mark.slow)],
)
def test_programs_share_the_width_of_gradients(width: int, slices: int) -> None:
    """The second slice of a head of 40 is partly, the fourth wholly beyond it; groups of two heads, full, partial and empty tiles."""
    layout = blockwise_causal([[Segment("a", 18)], [Segment("b", 25)]], [[Segment("r", 5)], []])
    q, k, v = noise(2, 4, 48, width), noise(2, 2, 48, width, seed=1), noise(2, 2, 48, width, seed=2)
    present = noise(2, 48, seed=3) < 0.8
    with small_tiles(slices=slices):
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": layout, "present": present})


@pytest.mark.parametrize("scale", [-0.7, 0.0])
def test_scales_that_turn_the_order_of_scores(scale: float) -> None:
    q, k, v = noise(3, 1, 2, 20, 4)
    with small_tiles():
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": causal([Segment("a", 20)]), "scale": scale})


@settings(max_examples=3)
@given(problems(longest=12), st.integers(0, 2**31))
def test_gradients_are_slopes(problem: dict[str, Any], seed: int) -> None:
    """The loss's central difference along a random direction, in float32, whose rounding asks for a long step."""
    weights = weights_of(problem, seed)
    generator = torch.Generator().manual_seed(seed)
    names, step = ("q", "k", "v"), 1e-2
    problem = {**problem, "q": 0.5 * problem["q"], "k": 0.5 * problem["k"]}  # gentle scores: the third derivative stays small
    direction = {name: _unit(problem[name].shape, generator) for name in names}

    def loss(along: float) -> float:
        moved = {**problem, **{name: problem[name] + along * direction[name] for name in names}}
        out, lse = attend(**moved, backend="triton", return_lse=True)
        alive = lse > -torch.inf
        return float((weights[0].double() * out.double()).sum() + (weights[1] * lse).double()[alive].sum())

    with small_tiles():
        slope = (loss(step) - loss(-step)) / (2 * step)
        along = sum(float((g * direction[name]).sum()) for g, name in zip(gradients(problem, weights, "triton"), names, strict=True))
    assert slope == pytest.approx(along, abs=5e-3, rel=5e-3)


def test_dead_rows_and_absent_keys_get_exactly_nothing() -> None:
    a, b = Segment("a", 20), Segment("b", 14)
    layout = TokenLayout((a, b), (a, b), ((1, 1), (0, 0)))  # b asks nothing
    q, k, v = (noise(2, 2, 34, 8, seed=seed).requires_grad_() for seed in range(3))
    present = noise(2, 34, seed=3) < 0.5
    present[:, 16:32] = False  # a whole tile
    with small_tiles():
        out, lse = attend(q, k, v, layout, present=present, backend="triton", return_lse=True)
        incoming = (noise(2, 2, 34, 8, seed=4), noise(2, 2, 34, seed=5))  # for dead rows too
        grad_q, grad_k, grad_v = torch.autograd.grad((out, lse), (q, k, v), incoming)
    assert (grad_q[:, :, 20:] == 0).all()
    absent = ~present[:, None, :, None].expand_as(k)
    assert (grad_k[absent] == 0).all()
    assert (grad_v[absent] == 0).all()
    assert all(torch.isfinite(gradient).all() for gradient in (grad_q, grad_k, grad_v))
    assert (grad_q[:, :, :20] != 0).any()


def test_nothing_flows_back_through_a_readout() -> None:
    """A loss on what is no readout gives the readouts' q, k and v a gradient of exactly 0, in tiles that they share with others too."""
    layout = blockwise_causal([[Segment("language", 10)], [Segment("camera", 20)]], [[], [Segment("readout", 7)]])
    q, k, v = (noise(1, 2, 37, 8, seed=seed).requires_grad_() for seed in range(3))
    readout = layout.key_span("readout")
    with small_tiles():
        out = attend(q, k, v, layout, backend="triton")
        gradient = torch.autograd.grad(out[:, :, : readout.start].square().sum(), (q, k, v))
    assert all((g[:, :, readout] == 0).all() for g in gradient)


def test_a_gradient_of_lse_alone_is_the_softmax() -> None:
    """d lse_i / d s_ij = p_ij: with keys of one-hot vectors, dq is the row of probabilities."""
    q, v = noise(1, 1, 4, 16).requires_grad_(), noise(1, 1, 16, 16, seed=1)
    k = torch.eye(16)[None, None]
    layout = TokenLayout((Segment("q", 4),), (Segment("k", 16),), ((1,),))
    with small_tiles():
        _, lse = attend(q, k, v, layout, scale=1.0, backend="triton", return_lse=True)
        (gradient,) = torch.autograd.grad(lse.sum(), q)
    torch.testing.assert_close(gradient, q.softmax(-1), atol=1e-6, rtol=1e-6)
