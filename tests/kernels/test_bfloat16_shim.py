"""The shim that bfloat16 needs in Triton's interpreter: right with it, wrong without it."""

import pytest
import torch
import triton
import triton.language as tl
from interpreted_bfloat16 import exact_bfloat16
from torch import Tensor


@triton.jit
def product_kernel(a_ptr: tl.tensor, b_ptr: tl.tensor, out_ptr: tl.tensor, rounded_ptr: tl.tensor) -> None:
    square = tl.arange(0, 16)[:, None] * 16 + tl.arange(0, 16)[None, :]
    out = tl.dot(tl.load(a_ptr + square), tl.load(b_ptr + square))
    tl.store(out_ptr + square, out)
    tl.store(rounded_ptr + square, out.to(tl.bfloat16))


def product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    out, rounded = torch.empty(16, 16), torch.empty(16, 16, dtype=torch.bfloat16)
    product_kernel[(1,)](a, b, out, rounded)
    return out, rounded


@pytest.fixture
def operands() -> Tensor:
    return torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0)).bfloat16()


def test_products_are_exact_and_casts_round_to_nearest_even(operands: Tensor) -> None:
    with exact_bfloat16():
        out, rounded = product(*operands)
    torch.testing.assert_close(out.double(), operands[0].double() @ operands[1].double(), atol=1e-5, rtol=1e-5)
    assert torch.equal(rounded, out.bfloat16())


def test_other_types_are_left_alone() -> None:
    a, b = torch.randn(2, 16, 16, generator=torch.Generator().manual_seed(0))
    with exact_bfloat16():
        out, _ = product(a, b)
    assert torch.equal(out, product(a, b)[0])


def test_the_interpreter_still_needs_the_shim(operands: Tensor) -> None:
    """Fails on the day when Triton's interpreter multiplies and rounds bfloat16 itself: then the shim goes."""
    out, _ = product(*operands)
    assert (out.double() - operands[0].double() @ operands[1].double()).abs().max() > 1
    exact = torch.tensor(1.0 + 3 / 256)  # between two bfloat16, 1 + 1/128 and 1 + 2/128: to nearest even is the second
    one = torch.zeros(16, 16)
    one[0, 0] = exact
    _, cut = product(one, torch.eye(16))
    assert cut[0, 0] != exact.bfloat16()
