"""Hypothesis strategies: any layout, and small attention problems over it."""

from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor

from handsight.kernels.layout import Segment, TokenLayout, Visibility


@st.composite
def layouts(draw: st.DrawFn, longest: int = 5) -> TokenLayout:
    """Any table at all: rows that see nothing, segments that nobody sees, queries that are keys (some of them, in any order) or not."""
    keys = [Segment(f"s{i}", n) for i, n in enumerate(draw(st.lists(st.integers(1, longest), min_size=1, max_size=4)))]
    asked = draw(st.permutations(keys).flatmap(lambda order: st.integers(1, len(order)).map(lambda n: order[:n])))
    others = [Segment(f"q{i}", n) for i, n in enumerate(draw(st.lists(st.integers(1, longest), max_size=2)))]
    rows = [
        draw(st.lists(st.sampled_from(list(Visibility) if query in keys else [0, 1]), min_size=len(keys), max_size=len(keys)).map(tuple))
        for query in [*asked, *others]
    ]
    return TokenLayout((*asked, *others), tuple(keys), tuple(rows))


@st.composite
def problems(draw: st.DrawFn, longest: int = 5) -> dict[str, Any]:
    """Random q, k, v over segments of up to `longest` tokens and, half of the time, keys that are missing."""
    layout = draw(layouts(longest))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    batch, groups, width = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.sampled_from([1, 3, 8]))
    heads = groups * draw(st.integers(1, 3))

    def noise(count: int, tokens: int) -> Tensor:
        return 2 * torch.randn(batch, count, tokens, width, generator=generator)

    q, k, v = noise(heads, layout.num_queries), noise(groups, layout.num_keys), noise(groups, layout.num_keys)
    present = torch.rand(batch, layout.num_keys, generator=generator) < 0.6 if draw(st.booleans()) else None
    scale = draw(st.sampled_from([None, 0.3]))
    return {"q": q, "k": k, "v": v, "layout": layout, "present": present, "scale": scale}
