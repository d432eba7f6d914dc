"""The table of shipped checkpoints: its cells, its paired differences, its Markdown."""

from dataclasses import asdict
from typing import Any

import pytest

from handsight.launch.bench_zoo import SHIPPED, ZooArguments, cells, paired, table
from handsight.launch.metrics import wilson


def row(cell: str, successes: str) -> dict[str, Any]:
    rate = asdict(wilson([letter == "1" for letter in successes]))
    return {"checkpoint": "tabletop_grasp", "cell": cell, "successes": successes, "success": rate, "reach": rate, "wrong_object": rate}


def test_every_checkpoint_has_its_controls_on_the_same_seeds() -> None:
    found = list(cells(ZooArguments(episodes=7, seed=5)))
    for shipped in SHIPPED:
        mine = [cell for cell in found if cell.name == shipped.name]
        assert [cell.label for cell in mine] == ["shipped", shipped.control, "held-out phrasings", "random actions"]
        assert {(cell.arguments.seed, cell.arguments.episodes) for cell in mine} == {(5, 7)}
        assert mine[1].arguments.sensors.zero == shipped.zeroed
    assert {cell.name for cell in cells(ZooArguments(only="bag_stiff"))} == {"bag_stiff"}


def test_paired_differences_are_of_the_same_episodes() -> None:
    difference = paired([row("shipped", "1110"), row("blind", "0010")])["tabletop_grasp: shipped minus blind"]
    assert difference["mean"] == pytest.approx(0.5)
    assert difference["low"] <= 0.5 <= difference["high"]
    assert paired([row("shipped", "1010")]) == {}


def test_table_shows_rates_with_intervals() -> None:
    trained = row("training seed 0", "1" * 10) | {"training_cpu_minutes": 15.63}
    lines = table([row("shipped", "1" * 8 + "0" * 2), trained]).splitlines()
    assert lines[2].startswith("| tabletop_grasp | shipped | 0.800 [0.49, 0.94] |")
    assert lines[3].endswith("| 10 | 15.6 |")
