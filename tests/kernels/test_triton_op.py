"""The Triton kernels as operators, and the switch that chooses them."""

from typing import Any

import pytest
import torch
from attention_problems import layouts
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from triton_problems import small_tiles

from handsight.kernels import attention, triton_op, triton_plan
from handsight.kernels.attention import Backend, attend, choose
from handsight.kernels.layout import Segment, TokenLayout, Visibility, blockwise_causal, full
from handsight.kernels.problem import Attention
from handsight.kernels.tiles import tile_map
from handsight.kernels.triton_plan import mask_tensors, schedule

CPU = torch.device("cpu")
LAYOUT = blockwise_causal([[Segment("a", 12)], [Segment("b", 6)]], [[], [Segment("r", 2)]])


def leaves() -> tuple[Tensor, Tensor, Tensor]:
    q, k, v = (torch.randn(2, heads, 20, 8, generator=torch.Generator().manual_seed(heads)) for heads in (2, 1, 1))
    return q.requires_grad_(), k.requires_grad_(), v.flip(0).requires_grad_()


def present() -> Tensor:
    return torch.rand(2, 20, generator=torch.Generator().manual_seed(0)) < 0.6


def arguments(missing: bool) -> tuple[Any, ...]:
    """What `attend_triton` passes to the operator."""
    q, k, v = leaves()
    gone = present() if missing else None
    plans = [schedule(LAYOUT, gone, 16, 16, CPU, by_keys=by_keys) for by_keys in (False, True, False)]
    visits, has_partial = [plan.visits for plan in plans], [plan.has_partial for plan in plans]
    return q, k, v, *mask_tensors(LAYOUT, gone, CPU), visits, has_partial, [16, 16, 4, 2, 1] * 3, 1, 0.3


@pytest.mark.parametrize("missing", [False, True])
def test_operators_keep_pytorchs_contract(missing: bool) -> None:
    torch.library.opcheck(triton_op.attention, arguments(missing))
    q, k, v, sees, places, segments, visits, has_partial, tiles, _, scale = arguments(missing)
    out, lse = triton_op.attention(*arguments(missing))
    saved = [x.detach() for x in (torch.ones_like(out), torch.ones_like(lse), out, lse, q, k, v)]
    rest = (sees, places, segments, visits[1:], has_partial[1:], tiles[5:], scale)
    torch.library.opcheck(triton_op.attention_backward, (*saved, *rest))


@pytest.mark.parametrize("missing", [False, True])
def test_compiled_without_a_break_equals_eager(missing: bool) -> None:
    gone = present() if missing else None

    def layer(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return attend(q, k, v * 2, LAYOUT, present=gone, backend="triton").square()

    def run(function: Any) -> tuple[Tensor, ...]:
        inputs = leaves()
        out = function(*inputs)
        return out, *torch.autograd.grad(out.sum(), inputs)

    torch.compiler.reset()
    compiled = run(torch.compile(layer, fullgraph=True, backend="aot_eager"))
    for one, other in zip(compiled, run(layer), strict=True):
        assert torch.equal(one, other)


def test_after_the_first_call_the_host_does_no_work_for_a_layout() -> None:
    layout = full([Segment("seen once", 33), Segment("and again", 5)])
    q = torch.randn(1, 1, 38, 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    caches = (triton_plan._kept_mask, triton_plan._kept_schedule)
    attend(q, q, q, layout, backend="triton")
    before = [cache.cache_info().misses for cache in caches]
    attend(q, q, q, full([Segment("seen once", 33), Segment("and again", 5)]), backend="triton")
    assert [cache.cache_info().misses for cache in caches] == before


def test_what_is_first_used_for_inference_serves_training_too() -> None:
    layout = blockwise_causal([[Segment("inference first", 2)], [Segment("then training", 2)]])
    x = torch.randn(1, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        attend(x, x, x, layout, backend="triton")
    leaf = x.clone().requires_grad_()
    attend(leaf, leaf, leaf, layout, backend="triton").sum().backward()
    assert leaf.grad is not None


def test_output_is_stored_token_by_token() -> None:
    """As projections give heads and take them back, whatever the inputs are stored like."""
    inputs = leaves()
    out = attend(*inputs, LAYOUT, backend="triton")
    assert all(x.transpose(1, 2).is_contiguous() for x in (out, *torch.autograd.grad(out.sum(), inputs)))


@settings(max_examples=100)
@given(layouts(longest=12), st.sampled_from([1, 4, 16]), st.sampled_from([1, 4, 16]), st.booleans(), st.integers(0, 2**31))
def test_schedules_hold_what_is_seen_of_the_keys_that_are_present(
    layout: TokenLayout, block_n: int, block_m: int, by_keys: bool, seed: int
) -> None:
    gone = torch.rand(2, layout.num_keys, generator=torch.Generator().manual_seed(seed)) < 0.5
    for row in range(2):
        gone[row, : seed % (layout.num_keys + 1)] = bool(row)  # whole tiles of either kind
    tiles = tile_map(layout, block_n, block_m)
    static, dynamic = (schedule(layout, keys, block_n, block_m, CPU, by_keys=by_keys) for keys in (None, gone))
    assert static.has_partial == tiles.is_partial.any()
    for batch, plan in [(None, static), (0, dynamic), (1, dynamic)]:
        for row, (n_full, n_partial, *columns) in enumerate(plan.visits[batch or 0].tolist()):
            for column in range(tiles.is_full.shape[0] if by_keys else tiles.is_full.shape[1]):
                tile = (column, row) if by_keys else (row, column)
                there = torch.ones(1) if batch is None else gone[batch, tile[1] * block_m : (tile[1] + 1) * block_m]
                is_full, is_some = bool(tiles.is_full[tile]), bool(tiles.is_full[tile] or tiles.is_partial[tile])
                assert (column in columns[:n_full]) == (is_full and bool(there.all()))
                assert (column in columns[: n_full + n_partial]) == (is_some and bool(there.any()))


@given(layouts(longest=12))
def test_bits_are_the_table(layout: TokenLayout) -> None:
    sees, places, segments = mask_tensors(layout, None, CPU)
    bits = (sees[:, 0, :, None] >> segments[0].int()) & 1  # (1 or 2, N, M); no word but the first for so few segments
    mask = bits[0].bool()
    if layout.is_causal:
        mask |= bits[1].bool() & (torch.arange(layout.num_keys) <= places[:, None])
    assert torch.equal(mask, torch.from_numpy(layout.mask()))


def call(
    device: str = "cpu", dtype: torch.dtype = torch.float32, width: int = 8, batch: int = 1, layout: TokenLayout = LAYOUT
) -> Attention:
    with FakeTensorMode():
        x = torch.empty(batch, 1, layout.num_keys, width, device=device, dtype=dtype)
    return Attention(x, x, x, layout, None, 1.0)


HIDDEN = TokenLayout((Segment("a", 2),), (Segment("a", 2),), ((Visibility.CAUSAL,),))


@pytest.mark.parametrize(
    ("asked", "problem", "expected", "reason"),
    [
        ("auto", {}, "sdpa", "fastest that runs on this device"),
        ("auto", {"device": "cuda"}, "triton", "no dense mask"),
        ("auto", {"device": "cuda", "layout": full([Segment("a", 2)])}, "sdpa", "nothing is masked"),
        ("auto", {"device": "cuda", "dtype": torch.float64}, "sdpa", "not torch.float64"),
        ("auto", {"device": "cuda", "width": 257}, "sdpa", "at most 128, or 256, wide"),
        ("auto", {"device": "cuda", "width": 160}, "sdpa", "not 160"),
        ("auto", {"device": "cuda", "batch": 65536}, "sdpa", "at most 65535 batch"),
        ("triton", {"device": "cuda"}, "triton", "asked for"),
        ("triton", {}, "triton", "asked for"),
        ("flex", {"device": "cuda"}, "flex", "asked for"),
    ],
)
def test_choice_and_its_reason(asked: Backend, problem: dict[str, Any], expected: str, reason: str) -> None:
    choice = choose(call(**{"layout": HIDDEN, **problem}), asked)
    assert choice.backend == expected
    assert reason in choice.reason


@pytest.mark.parametrize(
    ("constant", "value", "message"),
    [("TRITON_IS_INTERPRETED", False, "TRITON_INTERPRET=1"), ("HAS_TRITON", False, "not installed")],
)
def test_triton_where_it_cannot_run_is_one_line(constant: str, value: bool, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, constant, value)
    with pytest.raises(ValueError, match=message) as caught:
        attend(*leaves(), LAYOUT, backend="triton")
    assert "\n" not in str(caught.value)
    assert choose(call("cuda", layout=HIDDEN)).backend == ("triton" if constant == "TRITON_IS_INTERPRETED" else "sdpa")


@pytest.mark.parametrize("problem", [{"dtype": torch.float64}, {"width": 257}])
def test_what_the_kernels_do_not_take_is_refused(problem: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="backend='triton'"):
        choose(call(**problem), "triton")


def test_splits_need_a_gpu() -> None:
    q, k, v = leaves()
    assert triton_op._splits(Attention(q, k, v, LAYOUT, None, 1.0)) == 1


def test_half_precision_of_a_whole_call_is_that_of_its_inputs() -> None:
    q, k, v = (x.detach().half() for x in leaves())
    with small_tiles():
        out, lse = attend(q, k, v, LAYOUT, backend="triton", return_lse=True)
    assert (out.dtype, lse.dtype) == (torch.float16, torch.float32)
