"""What `handsight bench fuse` compares: arms, tasks and what is taken from a policy when it is played."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

TOUCH_TASKS: Final = ("bag_shape", "bag_stiff", "bag_rough", "bag_color_feel")
SOUND_TASKS: Final = ("button_sound", "shake_material")
HIDDEN: Final = (*TOUCH_TASKS, *SOUND_TASKS)
"""Tasks that cameras do not decide."""
TASKS: Final = (*HIDDEN, "tabletop_grasp")
CHANCE: Final = {
    "bag_shape": 1 / 3,
    "bag_stiff": 1 / 3,
    "bag_rough": 1 / 3,
    "bag_color_feel": 1 / 2,  # of the two that have the colour; touch alone
    "button_sound": 1 / 4,
    "shake_material": 1 / 3,
    "tabletop_grasp": 1 / 3,
}
"""Success of whoever does everything right but does not have the deciding sensor."""

RECIPE: Final = (
    "--policy.type=fuse",
    "--policy.state_history=[-40,-30,-20,-15,-10,-5,-2,0]",
    '--policy.image_shift={"front": 1, "wrist": 2}',
    "--policy.pooled_cache=true",
    "--batch_size=32",
)
"""Options of `handsight train` that all arms share."""


@dataclass(frozen=True)
class Arm:
    """One way to train, on the same demonstrations and for the same number of steps."""

    name: str
    options: tuple[str, ...]
    seeds: int
    """Training seeds 0, 1, ...; the arms that decide have three."""


CONTRASTIVE, GENERATION = "--policy.contrastive_weight=1", "--policy.generation_weight=1"
ARMS: Final = (
    Arm("both losses", (CONTRASTIVE, GENERATION), 3),
    Arm("all sensors, no losses", (), 3),
    Arm("vision only", ("--policy.sensors=front,wrist,state",), 3),
    Arm("contrastive only", (CONTRASTIVE,), 1),
    Arm("generation only", (GENERATION,), 1),
)


@dataclass(frozen=True)
class Condition:
    """How a trained policy is played."""

    name: str
    zero: str = ""
    swap: str = ""
    masked: str = ""
    phrasings: str = "train"


PLAIN: Final = Condition("plain")
CONTROLS: Final = (
    Condition("touch zeroed", zero="touch"),
    Condition("touch swapped", swap="touch"),
    Condition("touch missing", masked="touch"),
    Condition("audio zeroed", zero="audio"),
    Condition("audio swapped", swap="audio"),
    Condition("audio missing", masked="audio"),
    Condition("held-out phrasings", phrasings="heldout"),
)


@dataclass(frozen=True)
class Cell:
    """100 episodes of one trained policy."""

    arm: Arm
    seed: int
    task: str
    condition: Condition


def runs() -> Iterator[tuple[Arm, int]]:
    """Every training run, seed by seed, so that an interrupted grid has whole seeds."""
    for seed in range(max(arm.seeds for arm in ARMS)):
        yield from ((arm, seed) for arm in ARMS if seed < arm.seeds)


def cells(arm: Arm, seed: int) -> Iterator[Cell]:
    """What one run is played on: every task as it is, and the controls for the first arm, of which they ask whether it uses its sensors."""
    yield from (Cell(arm, seed, task, PLAIN) for task in TASKS)
    if arm is ARMS[0]:
        yield from (Cell(arm, seed, task, condition) for condition in CONTROLS for task in TASKS)


def decides(sensor: str, task: str) -> bool:
    """Whether a task cannot be solved above chance without the sensor."""
    return task in {"touch": TOUCH_TASKS, "audio": SOUND_TASKS}[sensor]
