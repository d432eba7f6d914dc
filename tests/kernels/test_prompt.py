"""Prompts that a batch shares, and merging attention over parts of the keys."""

from typing import Any

import pytest
import torch
from attention_problems import problems
from hypothesis import given, settings
from hypothesis import strategies as st

from handsight.kernels.attention import Backend, attend
from handsight.kernels.layout import Segment, TokenLayout, full
from handsight.kernels.prompt import attend_prompted, merge


@given(problems(), st.integers(1, 4))
def test_a_prompt_is_keys_that_everybody_sees(problem: dict[str, Any], length: int) -> None:
    assert_prompt_is_keys(problem, length, "sdpa")


@settings(max_examples=10)
@given(problems(), st.integers(1, 4))
def test_triton_reads_a_prompt_once_for_the_batch(problem: dict[str, Any], length: int) -> None:
    """In Triton's interpreter: the prompt and the other keys are attended to apart, and merged."""
    assert_prompt_is_keys(problem, length, "triton")


def assert_prompt_is_keys(problem: dict[str, Any], length: int, backend: Backend) -> None:
    k, v = problem["k"], problem["v"]
    prompt_k, prompt_v = torch.randn(2, k.shape[1], length, k.shape[3], generator=torch.Generator().manual_seed(length))
    out = attend_prompted(**problem, prompt_k=prompt_k, prompt_v=prompt_v, backend=backend)
    layout: TokenLayout = problem["layout"]
    seen = tuple((1, *row) for row in layout.visible)
    longer = TokenLayout(layout.queries, (Segment("prompt", length), *layout.keys), seen)
    present = None if problem["present"] is None else torch.cat([torch.ones(k.shape[0], length, dtype=torch.bool), problem["present"]], 1)
    repeated = [torch.cat([p[None].repeat(k.shape[0], 1, 1, 1), x], 2) for p, x in ((prompt_k, k), (prompt_v, v))]
    whole = attend(problem["q"], *repeated, longer, present=present, scale=problem["scale"], backend="reference")
    torch.testing.assert_close(out, whole, atol=1e-5, rtol=1e-5)


@given(problems())
def test_merged_parts_equal_the_whole_with_its_gradients(problem: dict[str, Any]) -> None:
    layout: TokenLayout = problem["layout"]
    if layout.is_causal:
        return  # parts of a causal layout have no places of their own
    names = [segment.name for segment in layout.keys]
    leaves = {name: problem[name].clone().requires_grad_() for name in ("q", "k", "v")}

    def part(chosen: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        kept = [i for name in chosen for i in range(layout.num_keys)[layout.key_span(name)]]
        present = None if problem["present"] is None else problem["present"][:, kept]
        return attend(
            leaves["q"], leaves["k"][:, :, kept], leaves["v"][:, :, kept], layout.seeing(*chosen),
            present=present, scale=problem["scale"], return_lse=True,
        )  # fmt: skip

    merged = part(names[:1])
    for name in names[1:]:
        merged = merge(merged, part([name]))
    out, lse = attend(**{**problem, **leaves}, backend="sdpa", return_lse=True)
    torch.testing.assert_close(merged[0], out, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(merged[1], lse, atol=1e-5, rtol=1e-5)
    both = [torch.autograd.grad(x.square().sum(), list(leaves.values()), retain_graph=True) for x in (merged[0], out)]
    for one, other in zip(*both, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_prompt_that_does_not_fit_says_so() -> None:
    x = torch.zeros(1, 2, 3, 8)
    with pytest.raises(ValueError, match="expected prompt_k and prompt_v"):
        attend_prompted(x, x, x, full([Segment("a", 3)]), torch.zeros(1, 2, 8), torch.zeros(1, 2, 8))
