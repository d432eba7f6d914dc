"""Few queries over many keys: the split kernel in Triton's interpreter, and the rule that chooses it. Nothing here runs on a GPU."""

from typing import Any

import pytest
import torch
from attention_problems import problems
from hypothesis import given, settings
from hypothesis import strategies as st
from interpreted_bfloat16 import exact_bfloat16
from triton_problems import STORED, gradients, small_tiles, weights_of

from handsight.kernels.attention import attend
from handsight.kernels.layout import Segment, blockwise_causal, cross
from handsight.kernels.reference import attend_reference
from handsight.kernels.triton_split import splits_for


@settings(max_examples=10)
@given(problems(longest=16), st.integers(2, 5), st.sampled_from([16, 32]))
def test_parts_add_up_to_the_oracle(problem: dict[str, Any], splits: int, block_n: int) -> None:
    """Also with more splits than tiles, whose parts are empty, and with heads that share a tile of rows."""
    with small_tiles(block_n, 16, splits):
        out, lse = attend(**problem, backend="triton", return_lse=True)
    exact_out, exact_lse = attend_reference(**problem)
    torch.testing.assert_close(out.double(), exact_out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse.double(), exact_lse, atol=1e-5, rtol=1e-5)


def suffix_problem() -> dict[str, Any]:
    """Actions over a cached prefix: three query heads a key-value head."""
    prefix, actions = Segment("prefix", 70), Segment("actions", 7)
    layout = blockwise_causal([[prefix], [actions]]).asking("actions")
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(2, heads, tokens, 16, generator=generator) for heads, tokens in ((6, 7), (2, 77), (2, 77)))
    present = torch.rand(2, 77, generator=generator) < 0.7
    return {"q": q, "k": k, "v": v, "layout": layout, "present": present}


@pytest.mark.parametrize("splits", [2, 3, 7])
def test_every_full_tile_belongs_to_one_split(splits: int) -> None:
    """Five full tiles and a partial one: they do not divide evenly, and 7 splits leave some without any."""
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(1, heads, tokens, 8, generator=generator) for heads, tokens in ((4, 3), (2, 85), (2, 85)))
    layout = cross([Segment("queries", 3)], [Segment("keys", 85)])
    with small_tiles(splits=splits):
        out, lse = attend(q, k, v, layout, backend="triton", return_lse=True)
    exact_out, exact_lse = attend_reference(q, k, v, layout)
    torch.testing.assert_close(out.double(), exact_out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(lse.double(), exact_lse, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", STORED)
def test_memory_layout_does_not_matter(name: str) -> None:
    problem = suffix_problem()
    stored = {**problem, **{each: STORED[name](problem[each]) for each in ("q", "k", "v")}}
    with small_tiles(splits=3):
        out = attend(**stored, backend="triton")
    torch.testing.assert_close(out.double(), attend_reference(**stored)[0], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float16, 2e-3), (torch.bfloat16, 2e-2)])
def test_half_precision_stays_within_its_rounding(dtype: torch.dtype, tolerance: float) -> None:
    problem = suffix_problem()
    problem |= {name: problem[name].to(dtype) for name in ("q", "k", "v")}
    with small_tiles(splits=3), exact_bfloat16():
        out = attend(**problem, backend="triton")
    assert out.dtype == dtype
    torch.testing.assert_close(out.double(), attend_reference(**problem)[0], atol=tolerance, rtol=tolerance)


def test_gradients_do_not_know_of_the_split() -> None:
    problem = suffix_problem()
    weights = weights_of(problem)
    with small_tiles(splits=3):
        fast = gradients(problem, weights, "triton")
    for one, other in zip(fast, gradients(problem, weights, "reference"), strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@given(st.integers(1, 500), st.integers(1, 500), st.integers(1, 200))
def test_splits_fill_the_multiprocessors_once_and_leave_two_tiles_to_each(programs: int, key_tiles: int, multiprocessors: int) -> None:
    splits = splits_for(programs, key_tiles, multiprocessors)
    assert splits >= 1
    if splits > 1:
        assert programs * splits <= multiprocessors
        assert 2 * splits <= key_tiles


@pytest.mark.parametrize(
    ("programs", "key_tiles", "expected"),
    [
        (7, 28, 14),  # pi0's actions: 51 queries of 8 heads in tiles of 64 rows, over 868 keys in tiles of 32
        (15, 5, 2),  # SmolVLA's: 50 queries of 3 heads a group, 5 groups, over 291 keys in tiles of 64
        (104, 14, 1),  # pi0's prefix occupies 104 of 132 multiprocessors by itself
        (7, 3, 1),  # too few keys to share
    ],
)
def test_splits_of_known_policies_on_132_multiprocessors(programs: int, key_tiles: int, expected: int) -> None:
    assert splits_for(programs, key_tiles, 132) == expected
