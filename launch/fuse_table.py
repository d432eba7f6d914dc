"""From the cells of `handsight bench fuse` to its table and its differences with intervals.

Axes: S training seeds, K tasks, N episodes.
"""

import itertools
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from handsight.launch.fuse_grid import ARMS, CHANCE, COMPARABLE, CONTROLLED, CONTROLS, HIDDEN, PLAIN, TASKS, decides
from handsight.launch.metrics import Difference, Rate, wilson

DRAWS: Final = 10_000


def whole_seeds(rows: Sequence[dict[str, Any]], arm: str, condition: str, tasks: Sequence[str]) -> list[int]:
    """The training seeds that were played on all `tasks`, sorted."""
    found = {(row["training_seed"], row["task"]) for row in rows if (row["arm"], row["condition"]) == (arm, condition)}
    return sorted({seed for seed, _ in found if all((seed, task) in found for task in tasks)})


def outcomes(
    rows: Sequence[dict[str, Any]], arm: str, condition: str, tasks: Sequence[str], what: str = "successes"
) -> NDArray[np.float64] | None:
    """(S, K, N) successes (or "reached", "wrong"), of the training seeds that were played on all `tasks`; None without any."""
    found = {(row["training_seed"], row["task"]): row[what] for row in rows if (row["arm"], row["condition"]) == (arm, condition)}
    seeds = whole_seeds(rows, arm, condition, tasks)
    if not seeds:
        return None
    return np.array([[[float(letter) for letter in found[seed, task]] for task in tasks] for seed in seeds])


def seeded_difference(
    first: NDArray[np.float64], second: NDArray[np.float64], rng: np.random.Generator, *, same_runs: bool = False, draws: int = DRAWS
) -> Difference:
    """Mean over tasks of first - second with a percentile bootstrap interval that resamples training seeds and episodes.

    Both (S, K, N) on the same episodes, which are resampled together; so are training seeds if both are of the same runs.
    """
    means = np.empty(draws)
    episodes = first.shape[2]
    for i in range(draws):
        chosen = rng.integers(episodes, size=(first.shape[1], episodes))  # (K, N), the same for both arms
        seeds = rng.integers(len(first), size=len(first))
        others = seeds if same_runs else rng.integers(len(second), size=len(second))
        parts = first[seeds].mean(axis=0), second[others].mean(axis=0)  # (K, N) each
        means[i] = np.take_along_axis(parts[0] - parts[1], chosen, axis=1).mean()
    low, high = np.quantile(means, [0.025, 0.975])
    return Difference(float(first.mean() - second.mean()), float(low), float(high), episodes * first.shape[1])


def selection(rows: Sequence[dict[str, Any]], arm: str, condition: str, tasks: Sequence[str]) -> Rate | None:
    """How many of the episodes that ended with an object chosen it; who drops it or runs out of time has not. None without any.

    The episodes of all training seeds count alike.
    """
    right, wrong = (outcomes(rows, arm, condition, tasks, what) for what in ("successes", "wrong"))
    if right is None or wrong is None or not (right.any() or wrong.any()):
        return None
    return wilson([True] * int(right.sum()) + [False] * int(wrong.sum()))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Differences of arms over the tasks that vision does not decide, and of controls where their sensor decides and where not.

    Of success, and of reach where the instruction is what differs.
    """
    rng = np.random.default_rng(0)
    best = ARMS[0].name
    found: dict[str, Any] = {}

    def compare(name: str, first: str, arm: str, condition: str, tasks: Sequence[str], what: str = "successes") -> None:
        asked = rows
        if arm == first:
            seeds = set(whole_seeds(rows, arm, PLAIN.name, tasks)) & set(whole_seeds(rows, arm, condition, tasks))
            asked = [row for row in rows if row["training_seed"] in seeds]
        ours, theirs = outcomes(asked, first, PLAIN.name, tasks, what), outcomes(asked, arm, condition, tasks, what)
        if ours is not None and theirs is not None:
            difference = asdict(seeded_difference(ours, theirs, rng, same_runs=arm == first))
            found[name] = difference | {
                "training_seeds": [len(ours), len(theirs)],
                "rate": float(theirs.mean()),
                "selection": None if (chosen := selection(rows, arm, condition, tasks)) is None else asdict(chosen),
                "chance": float(np.mean([CHANCE[task] for task in tasks])),
            }

    for arm in COMPARABLE[1:]:
        compare(f"{best} minus {arm.name}, hidden tasks", best, arm.name, PLAIN.name, HIDDEN)
    for arm, condition in itertools.product(CONTROLLED, CONTROLS):
        sensor = condition.zero or condition.swap or condition.masked
        groups: dict[str, Sequence[str]] = {"": condition.tasks}
        if sensor:
            groups = {
                f", {sensor} decides": [task for task in TASKS if decides(sensor, task)],
                f", {sensor} does not decide": [task for task in TASKS if not decides(sensor, task)],
            }
        for where, tasks in groups.items():
            compare(f"{arm.name} minus {condition.name}{where}", arm.name, arm.name, condition.name, tasks)
        if condition.prompt:
            compare(f"{arm.name} minus {condition.name}, reach", arm.name, arm.name, condition.name, condition.tasks, "reached")
    return found


def table(rows: Sequence[dict[str, Any]], differences: dict[str, Any]) -> str:
    """Success by arm or control (rows) and task (columns), pooled over training seeds, and their `summary`, in Markdown."""
    lines = ["| | training seeds | " + " | ".join(TASKS) + " |", "|---" * (len(TASKS) + 2) + "|"]
    kinds = [(arm.name, PLAIN.name) for arm in ARMS] + [
        (arm.name, condition.name) for arm, condition in itertools.product(CONTROLLED, CONTROLS)
    ]
    for arm, condition in kinds:
        cells = {task: outcomes(rows, arm, condition, [task]) for task in TASKS}
        if any(cell is not None for cell in cells.values()):
            seeds = max(len(cell) for cell in cells.values() if cell is not None)
            label = arm if condition == PLAIN.name else f"{arm}; {condition}"
            shown = " | ".join("" if cell is None else f"{cell.mean():.2f}" for cell in cells.values())
            lines.append(f"| {label} | {seeds} | {shown} |")
    lines += ["", "| difference | points | 95% interval | training seeds | rate of the latter | its choices | chance |", "|---" * 7 + "|"]
    for name, found in differences.items():
        numbers = f"{100 * found['mean']:+.1f} | [{100 * found['low']:+.1f}, {100 * found['high']:+.1f}]"
        chosen = found["selection"]
        right = "" if chosen is None else f"{chosen['mean']:.2f} [{chosen['low']:.2f}, {chosen['high']:.2f}] of {chosen['n']}"
        runs = f"{found['training_seeds'][0]}, {found['training_seeds'][1]}"
        lines.append(f"| {name} | {numbers} | {runs} | {found['rate']:.2f} | {right} | {found['chance']:.2f} |")
    return "\n".join(lines)
