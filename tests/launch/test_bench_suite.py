"""The suite's table: what is played, when a cell misses its target, and that nothing measured is measured twice."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from handsight.envs.env import task_names
from handsight.envs.proofs import task_named
from handsight.launch.bench_suite import SuiteArguments, _kept, chosen, rollouts
from handsight.launch.metrics import wilson
from handsight.launch.suite_table import MISSED, NOTED, at_chance, needs_of, passed, table, verdict
from handsight.sensors.errors import HandsightError


def rate(successes: int, n: int = 200) -> dict[str, Any]:
    return asdict(wilson([True] * successes + [False] * (n - successes)))


def cells(**changed: Any) -> dict[str, Any]:
    """Of a task that needs touch and passes every proof."""
    played = {"expert": 198, "without touch": 66, "random": 0, "constant": 2, "down": 0, "robot": 120}
    proofs = {
        "occlusion": {"pixels": 0, "frames": 500, "episodes": 10},
        "independence": {"p": 0.4, "feature": "", "features": 101, "n": 2000},
    }
    return {label: {"success": rate(count)} for label, count in played.items()} | proofs | changed


def row(**changed: Any) -> dict[str, Any]:
    return {"task": "sense/bag", "needs": {"touch": 1 / 3}, "cells": cells(**changed)}


@pytest.mark.parametrize("chance", [1 / 64, 1 / 4, 1 / 3, 1 / 2])
def test_at_chance_means_inside_wilsons_interval(chance: float) -> None:
    for successes in range(201):
        found = wilson([True] * successes + [False] * (200 - successes))
        assert (at_chance(asdict(found), chance, cells=1) == "") == (found.low <= chance <= found.high), successes
        assert at_chance(asdict(found), chance, cells=1) in ("", MISSED)


def test_a_cell_of_many_is_noted_before_it_is_missed() -> None:
    assert [at_chance(rate(successes), 1 / 3, cells=26) for successes in (66, 81, 90)] == ["", NOTED, MISSED]


@pytest.mark.parametrize(
    ("label", "cell"),
    [
        ("expert", {"success": rate(189)}),
        ("without touch", {"success": rate(130)}),
        ("without touch", {"success": rate(10)}),
        ("random", {"success": rate(10)}),
        ("constant", {"success": rate(10)}),
        ("down", {"success": rate(10)}),
        ("occlusion", {"pixels": 1, "frames": 500, "episodes": 10}),
        ("independence", {"p": 0.01, "feature": "front 0/0/0", "features": 101, "n": 2000}),
    ],
)
def test_every_proof_can_fail(label: str, cell: dict[str, Any]) -> None:
    assert passed([row()])
    failed = row(**{label: cell})
    assert verdict(label, cell, failed["needs"], 1) == MISSED
    assert not passed([row(), failed])
    assert MISSED in table([failed]).splitlines()[2]
    assert MISSED not in table([row()]).splitlines()[2]


def test_the_table_shows_every_cell_and_bears_unfinished_rows() -> None:
    line = table([row()]).splitlines()[2]
    assert line.startswith("| sense/bag | touch (0.333) | 0.990 [0.96, 1.00] n = 200 | 0.330 [0.27, 0.40] n = 200 |")
    assert line.count("|") == 11
    assert "0 in 500 frames" in line
    unfinished = row()
    unfinished["cells"] = {"expert": unfinished["cells"]["expert"]}
    assert table([unfinished]).splitlines()[2].count("|") == 4  # task, needs, expert
    assert table([row(), unfinished]).splitlines()[3].count("|") == 11


def test_what_is_played_follows_what_a_task_needs() -> None:
    found = rollouts("sense/bag_color_feel", SuiteArguments(episodes=7, actors=3, seed=5))
    assert list(found) == ["expert", "without cameras", "without touch", "random", "constant", "down", "robot"]
    assert found["without cameras"].sensors.zero == "front,wrist"
    assert found["robot"].env.realism == "robot"
    assert {label for label, play in found.items() if play.episodes == 3} == {"random", "constant", "down"}
    assert {(play.episodes, play.seed) for play in found.values()} == {(7, 5), (3, 5)}
    for task in task_names():
        assert all(f"without {name}" in rollouts(task, SuiteArguments()) for name in needs_of(task_named(task)))


def test_tasks_are_chosen_by_how_they_begin() -> None:
    assert chosen("sense/bag_s") == ["sense/bag_shape", "sense/bag_stiff"]
    assert chosen("") == task_names()
    with pytest.raises(HandsightError, match="expected --only to begin the name of a task"):
        chosen("nothing/")


def test_a_finished_cell_is_not_measured_again(tmp_path: Path) -> None:
    measured: list[str] = []

    def measure(task: str, arguments: SuiteArguments) -> dict[str, Any]:
        measured.append(task)
        return {"pixels": arguments.watched}

    path = tmp_path / "deep" / "occlusion.json"
    for arguments in (SuiteArguments(), SuiteArguments(), SuiteArguments(watched=3)):
        assert _kept(path, "a/task", arguments, measure) == {"pixels": arguments.watched}
    assert len(measured) == 2
