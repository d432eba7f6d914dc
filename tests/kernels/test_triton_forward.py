"""The Triton forward kernel in Triton's interpreter against the float64 oracle. Nothing here runs on a GPU."""

from typing import Any

import pytest
import torch
from attention_problems import problems
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_bfloat16 import exact_bfloat16
from torch import Tensor
from triton_problems import STORED, shapes_of_tiles, small_tiles

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal, causal, cross, full
from handsight.kernels.reference import attend_reference


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def assert_equals_oracle(problem: dict[str, Any], tolerance: float = 1e-5) -> None:
    out, lse = attend(**problem, backend="triton", return_lse=True)
    exact_out, exact_lse = attend_reference(**problem)
    assert out.dtype == problem["q"].dtype
    assert lse.dtype == torch.float32
    torch.testing.assert_close(out.double(), exact_out, atol=tolerance, rtol=tolerance)
    torch.testing.assert_close(lse.double(), exact_lse, atol=tolerance, rtol=tolerance)


@settings(max_examples=15)
@given(problems(longest=16), shapes_of_tiles)
def test_values_equal_the_oracle(problem: dict[str, Any], tiles: tuple[int, int]) -> None:
    with small_tiles(*tiles):
        assert_equals_oracle(problem)


@pytest.mark.slow
@settings(max_examples=400)
@given(problems(longest=24), shapes_of_tiles, st.sampled_from([torch.float32, torch.float16, torch.bfloat16]))
def test_values_equal_the_oracle_in_a_large_sweep(problem: dict[str, Any], tiles: tuple[int, int], dtype: torch.dtype) -> None:
    problem = {**problem, **{name: problem[name].to(dtype) for name in ("q", "k", "v")}}
    tolerance = {torch.float32: 1e-5, torch.float16: 4e-3, torch.bfloat16: 3e-2}[dtype]
    with small_tiles(*tiles), exact_bfloat16():
        assert_equals_oracle(problem, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype, tolerance: float) -> None:
    layout = blockwise_causal([[Segment("a", 18)], [Segment("b", 9)]], [[Segment("r", 5)], []])
    q, k, v = noise(3, 2, 2, 32, 16).to(dtype)
    present = noise(2, 32, seed=1) < 0.5
    with small_tiles(), exact_bfloat16():
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": layout, "present": present}, tolerance)


@pytest.mark.parametrize("name", STORED)
def test_memory_layout_does_not_matter(name: str) -> None:
    layout = causal([Segment("a", 11), Segment("b", 12)])
    q, k, v = (STORED[name](noise(3, heads, 23, 8, seed=seed)) for seed, heads in enumerate((4, 2, 2)))
    with small_tiles():
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": layout})


@pytest.mark.parametrize("width", [1, 16, 40, 64, 256])
def test_head_widths(width: int) -> None:
    layout = cross([Segment("queries", 3)], [Segment("keys", 20)])
    assert_equals_oracle(
        {"q": noise(1, 2, 3, width), "k": noise(1, 1, 20, width, seed=1), "v": noise(1, 1, 20, width, seed=2), "layout": layout}
    )


@pytest.mark.parametrize("segments", [32, 33, 127])
def test_many_segments(segments: int) -> None:
    """The visibility of 32 key segments is one word of bits."""
    layout = blockwise_causal([[Segment(str(i), 1)] for i in range(segments)])
    q, k, v = noise(3, 1, 1, segments, 4)
    with small_tiles(32, 32):
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": layout})


@pytest.mark.parametrize("scale", [-0.7, 0.0])
def test_scales_that_turn_the_order_of_scores(scale: float) -> None:
    q, k, v = noise(3, 1, 2, 20, 4)
    with small_tiles():
        assert_equals_oracle({"q": q, "k": k, "v": v, "layout": causal([Segment("a", 20)]), "scale": scale})


def test_empty_tiles_are_never_loaded() -> None:
    """NaN in a tile of keys that nobody sees, or that is absent, stays where it is."""
    a, b, c = (Segment(name, 16) for name in "abc")
    layout = TokenLayout((a, b, c), (a, b, c), ((1, 0, 1), (1, 0, 1), (2, 0, 2)))
    q, k, v = noise(3, 2, 1, 48, 8)
    present = torch.ones(2, 48, dtype=torch.bool)
    present[1, 32:] = False
    expected = attend_reference(q, k, v, layout, present)[0]
    k[:, :, 16:32] = v[:, :, 16:32] = torch.nan
    k[1, :, 32:] = v[1, :, 32:] = torch.nan
    with small_tiles():
        out = attend(q, k, v, layout, present=present, backend="triton")
    torch.testing.assert_close(out.double(), expected, atol=1e-5, rtol=1e-5)


def test_rows_without_keys_are_zero_and_minus_infinity() -> None:
    a, b = Segment("a", 20), Segment("b", 4)
    layout = TokenLayout((a, b), (a, b), ((1, 1), (0, 0)))
    q, k, v = noise(3, 2, 2, 24, 8)
    present = torch.ones(2, 24, dtype=torch.bool)
    present[1] = False
    with small_tiles():
        out, lse = attend(q, k, v, layout, present=present, backend="triton", return_lse=True)
    dead = torch.zeros(2, 24, dtype=torch.bool)
    dead[0, 20:] = dead[1] = True
    dead = dead[:, None].expand(2, 2, 24)
    assert (out[dead] == 0).all()
    assert torch.equal(lse == -torch.inf, dead)


@pytest.mark.parametrize(("batch_stride", "token_stride"), [(2**31, 16), (16, 2**26)])
def test_offsets_beyond_int32(batch_stride: int, token_stride: int) -> None:
    """The last keys lie more than 2^31 elements behind the first, in memory that is reserved but hardly touched."""
    q, k, v = noise(3, 2, 1, 40, 16).half()
    storage = torch.empty(batch_stride + 39 * token_stride + 16, dtype=torch.float16)
    spread = storage.as_strided((2, 1, 40, 16), (batch_stride, 0, token_stride, 1))
    spread.copy_(k)
    with small_tiles():
        results = [attend(q, keys, v, full([Segment("a", 40)]), backend="triton") for keys in (k, spread)]
    assert torch.equal(*results)
