"""Verdicts on the cells of the suite's table, and the table in Markdown."""

import math
from collections.abc import Sequence
from statistics import NormalDist
from typing import Any, Final

from handsight.envs.tasks.base import Task

EXPERT: Final = 0.95  # least success
ACTORS: Final = 0.05  # random and constant actions succeed less often
LEAK: Final = 0.01  # least p of independence
CONFIDENCE: Final = 0.95
MISSED: Final = "**✗**"
NOTED: Final = "~"
COLUMNS: Final = (
    *("task", "needs (chance without)", "expert", "without it"),
    *("random", "constant", "down", "hidden pixels", "independence", "robot"),
)

Cell = dict[str, Any]
Row = dict[str, Any]


def needs_of(task: Task) -> dict[str, float]:
    """Chance of success without each needed sensor, by its lower-case name."""
    return {str(sensor.name).lower(): chance for sensor, chance in task.needs.items()}


def at_chance(success: Cell, chance: float, cells: int) -> str:
    """Whether chance lies in the Wilson interval of a success rate.

    Empty if it lies in that of CONFIDENCE; NOTED if only in the one that all `cells` of a table hold at once with CONFIDENCE (Bonferroni);
    else MISSED. Of many cells that are exactly at chance one in twenty is noted.
    """

    def inside(confidence: float) -> bool:
        z, n = NormalDist().inv_cdf(0.5 + confidence / 2), success["n"]
        # Wilson's interval holds the chances that are within z standard deviations (of themselves) of the rate
        return abs(success["mean"] - chance) <= z * math.sqrt(chance * (1 - chance) / n)

    if inside(CONFIDENCE):
        return ""
    return NOTED if inside(1 - (1 - CONFIDENCE) / cells) else MISSED


def verdict(label: str, cell: Cell, needs: dict[str, float], cells: int) -> str:
    """The mark of a cell: empty if it reaches its target or has none."""
    if label.startswith("without "):
        return at_chance(cell["success"], needs[label.removeprefix("without ")], cells)
    missed = {
        "expert": lambda: cell["success"]["mean"] < EXPERT,
        "random": lambda: cell["success"]["mean"] >= ACTORS,
        "constant": lambda: cell["success"]["mean"] >= ACTORS,
        "down": lambda: cell["success"]["mean"] >= ACTORS,
        "occlusion": lambda: cell["pixels"] > 0,
        "independence": lambda: cell["p"] <= LEAK,
    }
    return MISSED if label in missed and missed[label]() else ""


def blind_cells(rows: Sequence[Row]) -> int:
    """How many cells of a table lack a sensor."""
    return max(1, sum(len(row["needs"]) for row in rows))


def passed(rows: Sequence[Row]) -> bool:
    """Whether no cell misses its target."""
    marks = [verdict(label, cell, row["needs"], blind_cells(rows)) for row in rows for label, cell in row["cells"].items()]
    return MISSED not in marks


def table(rows: Sequence[Row]) -> str:
    """The rows in Markdown, with a legend; without the columns that nothing was measured for yet."""
    cells = blind_cells(rows)
    columns = [column for column in zip(COLUMNS, *(_texts(row, cells) for row in rows), strict=True) if any(column[1:])]
    head, *body = [f"| {' | '.join(line)} |" for line in zip(*columns, strict=True)]
    lines = [head, "|---" * len(columns) + "|", *body]
    noted = sum(NOTED in line for line in lines)
    legend = (
        f"Success with 95% Wilson intervals. {MISSED}: misses its target. {NOTED}: chance is outside this cell's 95% interval but inside "
        f"the one that all {cells} such cells hold at once; about {cells * (1 - CONFIDENCE):.0f} are to be expected, {noted} are here. "
        "Constant: one random action held; down: closed gripper straight down; robot: the expert under --env.realism=robot (no target)."
    )
    return "\n".join([*lines, "", legend])


def _texts(row: Row, cells: int) -> list[str]:
    """One for each of COLUMNS."""
    needs, found = row["needs"], row["cells"]

    def text(label: str) -> str:
        return f"{written(label, found[label])} {verdict(label, found[label], needs, cells)}".strip() if label in found else ""

    chances = ", ".join(f"{name} ({chance:.3g})" for name, chance in needs.items())
    blind = "<br>".join(text(f"without {name}") for name in needs)
    rest = (text(label) for label in ("random", "constant", "down", "occlusion", "independence", "robot"))
    return [row["task"], chances, text("expert"), blind, *rest]


def written(label: str, cell: Cell) -> str:
    """A cell without its mark."""
    if label == "occlusion":
        return f"{cell['pixels']} in {cell['frames']} frames" if cell["frames"] else "hides nothing"
    if label == "independence":
        return f"p = {cell['p']:.2g}, {cell['features']} features, n = {cell['n']}"
    success = cell["success"]
    return f"{success['mean']:.3f} [{success['low']:.2f}, {success['high']:.2f}] n = {success['n']}"
