"""What layouts are: their tables against the dense masks that the literature draws, and what they refuse."""

import numpy as np
import pytest
from attention_problems import layouts
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from handsight.kernels.layout import (
    Segment,
    TokenLayout,
    Visibility,
    blockwise_causal,
    causal,
    cross,
    full,
    layout_of_mask,
    prefix_lm,
    with_prompt,
)
from handsight.kernels.tiles import tile_map

A, B, C = Segment("a", 2), Segment("b", 1), Segment("c", 2)


def drawn(picture: str) -> NDArray[np.bool_]:
    return np.array([[cell == "x" for cell in line.split()] for line in picture.strip().splitlines()])


def test_blockwise_causal_is_the_table_in_its_docstring() -> None:
    language, *rest = (Segment(name, 1) for name in ("language", "camera0", "readout0", "camera1", "readout1"))
    layout = blockwise_causal([[language], [rest[0]], [rest[2]]], [[], [rest[1]], [rest[3]]])
    expected = """
        x . . . .
        x x . . .
        x x x . .
        x x . x .
        x x . x x"""
    assert (layout.mask() == drawn(expected)).all()


@pytest.mark.parametrize(
    ("layout", "picture"),
    [
        (causal([A, B]), "x . .\nx x .\nx x x"),
        (prefix_lm([A], [C]), "x x . .\nx x . .\nx x x .\nx x x x"),
        (blockwise_causal([[A], [B]]), "x x .\nx x .\nx x x"),
        (cross([B], [A]), "x x"),
        (prefix_lm([B], [C]).asking("c"), "x x .\nx x x"),
        (blockwise_causal([[A], [B]]).seeing("b"), ".\n.\nx"),
        (with_prompt(causal([A]), B), "x x .\nx x x"),
    ],
)
def test_layouts_equal_the_masks_that_are_drawn_of_them(layout: TokenLayout, picture: str) -> None:
    assert (layout.mask() == drawn(picture)).all()


@given(layouts())
def test_a_mask_becomes_its_layout_again(layout: TokenLayout) -> None:
    mask = layout.mask()
    assert (layout_of_mask(mask).mask() == mask).all()


@given(layouts(), st.integers(1, 7), st.integers(1, 7))
def test_tiles_are_classed_as_the_dense_mask_says(layout: TokenLayout, block_n: int, block_m: int) -> None:
    mask, tiles = layout.mask(), tile_map(layout, block_n, block_m)
    for row in range(tiles.is_full.shape[0]):
        for column in range(tiles.is_full.shape[1]):
            tile = mask[row * block_n : (row + 1) * block_n, column * block_m : (column + 1) * block_m]
            whole = tile.shape[1] == block_m and tile.all()  # a tile that hangs over the last key needs a mask
            assert tiles.is_full[row, column] == whole
            assert tiles.is_partial[row, column] == (tile.any() and not whole)


def test_shares_of_a_causal_layout() -> None:
    tiles = tile_map(causal([Segment("text", 8)]), 2, 2)  # 4 x 4 tiles: 4 on the diagonal, 6 below, 6 above
    assert (tiles.share_full, tiles.share_skipped) == (6 / 16, 6 / 16)


def test_layouts_refuse_what_makes_no_sense() -> None:
    with pytest.raises(ValueError, match="at least one token"):
        Segment("empty", 0)
    with pytest.raises(ValueError, match="each name once"):
        full([Segment("a", 1), Segment("a", 2)])
    with pytest.raises(ValueError, match="expected a table"):
        TokenLayout((A,), (A,), ((True, True),))
    with pytest.raises(ValueError, match="expected readouts"):
        blockwise_causal([[Segment("a", 1)]], [[], []])
    with pytest.raises(KeyError, match="expected one of"):
        full([Segment("a", 1)]).key_span("b")
    with pytest.raises(ValueError, match="at most 127 segments"):
        full([Segment(str(i), 1) for i in range(128)])
    with pytest.raises(ValueError, match="among the keys"):
        TokenLayout((B,), (A,), ((Visibility.CAUSAL,),))
    with pytest.raises(KeyError, match="expected one of"):
        full([A]).asking("b")
