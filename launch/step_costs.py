"""What a control step costs, cell by cell: several simulators measured in turn, and compared within each turn.

One turn measures every cell once, so that a machine that is busy for a while is busy for all of them. A ratio is taken within a turn; what
is reported is the median over the turns, with all of their values beside it.
"""

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

OURS: Final = "handsight"
WORKERS: Final = (1, 2)


@dataclass(frozen=True)
class Cell:
    """What is measured: a simulator with two pictures of `size` px a step, drawn as handsight draws them ("same") or as shipped ("own")."""

    simulator: str
    pictures: str
    size: int


@dataclass(frozen=True)
class Sample:
    """One cell in one turn."""

    cpu_ms: Mapping[str, float]
    """CPU time of a step [ms] by part, `total` among them; one worker."""
    steps_per_second: Mapping[int, float]
    """Of wall time, by the number of workers."""


@dataclass
class Measurements:
    """Every sample of a run, in turns."""

    samples: dict[Cell, list[Sample]] = field(default_factory=lambda: defaultdict(list))

    def add(self, cell: Cell, sample: Sample) -> None:
        """The next turn's sample of a cell."""
        self.samples[cell].append(sample)

    def drop(self, simulator: str) -> None:
        """Forgets a simulator that failed: what is left of it would be compared with other turns."""
        for cell in [cell for cell in self.samples if cell.simulator == simulator]:
            del self.samples[cell]

    def ours(self, size: int) -> "Measured":
        """Handsight with pictures of `size` px."""
        return Measured(self.samples[Cell(OURS, "same", size)])

    def rows(self) -> list[dict[str, Any]]:
        """One row a cell, ready for JSON; by size, ours first."""
        cells = sorted(self.samples, key=lambda cell: (cell.size, cell.simulator != OURS))
        return [vars(cell) | Measured(self.samples[cell]).compared_with(self.ours(cell.size)) for cell in cells]


@dataclass(frozen=True)
class Measured:
    """All turns of one cell."""

    turns: list[Sample]

    def cpu_ms(self, part: str = "total") -> float:
        """Median of a part's CPU time of a step [ms]."""
        return median(turn.cpu_ms[part] for turn in self.turns)

    def steps_per_second(self, workers: int) -> float:
        """Median over the turns."""
        return median(turn.steps_per_second[workers] for turn in self.turns)

    def compared_with(self, ours: "Measured") -> dict[str, Any]:
        """Medians, the turns behind them, and how many times ours they are, turn by turn."""
        cpu = [mine.cpu_ms["total"] / other.cpu_ms["total"] for mine, other in zip(self.turns, ours.turns, strict=True)]
        speed = {
            workers: [
                mine.steps_per_second[workers] / other.steps_per_second[workers] for mine, other in zip(self.turns, ours.turns, strict=True)
            ]
            for workers in WORKERS
        }
        return {
            "cpu_ms": {part: self.cpu_ms(part) for part in self.turns[0].cpu_ms},
            "steps_per_second": {str(workers): self.steps_per_second(workers) for workers in WORKERS},
            "cpu_times_ours": median(cpu),
            "steps_per_second_times_ours": {str(workers): median(speed[workers]) for workers in WORKERS},
            "turns": {
                "cpu_ms": [turn.cpu_ms["total"] for turn in self.turns],
                "steps_per_second": {str(workers): [turn.steps_per_second[workers] for turn in self.turns] for workers in WORKERS},
            },
        }
