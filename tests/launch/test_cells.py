"""Cells of a benchmark's table."""

import os

import pytest

from handsight.launch.cells import bits, each_played, slug


@pytest.mark.parametrize("players", [1, 2])
def test_rows_come_in_the_order_of_their_cells(players: int) -> None:
    environment = dict(os.environ)
    cells = [[("cell", number)] for number in range(5)]
    assert list(each_played(dict, cells, players)) == [{"cell": number} for number in range(5)]
    assert dict(os.environ) == environment


def test_a_cell_that_fails_is_not_passed_over() -> None:
    rows = each_played(dict, [[("cell", 0)], [3]], players=2)
    assert next(rows) == {"cell": 0}
    with pytest.raises(TypeError, match="cannot convert"):
        next(rows)


def test_names_of_folders_and_outcomes() -> None:
    assert slug("held-out phrasings") == "held_out_phrasings"
    assert bits([True, False]) == "10"
