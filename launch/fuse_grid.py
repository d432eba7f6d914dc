"""What `handsight bench fuse` compares: arms, tasks and what is taken from a policy when it is played."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
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

PARTIAL: Final = ("bag_color_feel_V", "bag_color_feel_T")
"""Recordings of bag_color_feel whose instructions speak to one sense alone: FuSe draws its instructions from all combinations."""
SHARES: Final = {"tabletop_grasp": 2.0, "shake_material": 2.0} | dict.fromkeys(PARTIAL, 0.25)
"""How often a recording is drawn, where not as often as any other: no other task teaches what these two need."""
RECIPE: Final = (
    "--policy.state_history=[-40,-30,-20,-15,-10,-5,-2,0]",
    '--policy.image_shift={"front": 1, "wrist": 2}',
    "--policy.pooled_cache=true",
    "--batch_size=32",
)
"""Options of `handsight train` that all runs share."""
BLIND: Final = "--policy.masked=touch,audio"
"""Touch and sound count as missing, with the parameters that they would have: all arms have equally many, but for the losses' heads."""
BASE: Final = ("--policy.type=fuse", BLIND)
"""The policy without touch and sound that all arms and training seeds are finetuned from: the generalist, in FuSe Octo."""
COMPARED: Final = ("--policy.encounter_weight=4",)
"""Of all runs that are compared: what is felt and heard decides in few frames. Drawn like all others, touch was not yet listened to after
2000 steps of finetuning; eight times as often, after 1000 (one training seed each, squeezes of the demonstrations)."""


@dataclass(frozen=True)
class Stage:
    """A training that another one goes on from."""

    steps: int
    shares: Mapping[str, float]
    """How often recordings are drawn, where not as SHARES says."""


@dataclass(frozen=True)
class Arm:
    """One way to train, on the same demonstrations and for the same number of steps."""

    name: str
    options: tuple[str, ...]
    seeds: int
    """Training seeds 0, 1, ...; the arms that decide have three."""
    finetuned: bool = True
    """From the base; or else from scratch."""
    shipped: bool = False
    """Its first training seed is the shipped checkpoint of this name."""
    base_steps: int | None = None
    """After how many training steps the base is taken; after all of them without it."""
    steps: int | None = None
    """Training steps, if it does not share those of the runs that are compared."""
    speaks: bool = False
    """Its words are trained on afterwards (WORDS), for `handsight bench describe`."""
    shares: Mapping[str, float] = field(default_factory=dict)
    """How often recordings are drawn, where not as SHARES says."""
    before: Stage | None = None
    """What it is trained on first, with the same options."""
    remembers: bool = False
    """At last it is made to read every phrasing as the closest meaning of its training (`handsight remember`)."""


SEEING: Final = "--policy.masked="
LOSSES: Final = ("--policy.language_share=0.25", "--policy.language_reads=condition")
CONTRASTIVE: Final = "--policy.contrastive_weight=0.3"
GENERATION: Final = "--policy.generation_weight=0.3"
"""Below FuSe's 1: without a large model's capacity, losses ten times the flow's would have the trunk to themselves. As in FuSe, they read
what actions are made of."""
WORDS: Final = (
    "--policy.trains=language",
    "--policy.language_reads=tokens",
    "--policy.language_share=1",
    "--policy.contrastive_weight=0",
    "--policy.generation_combinations=3",
    "--policy.encounter_weight=16",
)
"""Descriptions alone, read from the sensors' tokens; actions stay the same bits. Frames in which something has just been met, where there
is something new to say, are drawn four times as often as in COMPARED."""
ARMS: Final = (
    Arm("both losses", (SEEING, CONTRASTIVE, GENERATION, *LOSSES), 3, speaks=True),
    Arm("all sensors without losses", (SEEING,), 3),
    Arm("vision only", (BLIND,), 3),
    Arm("contrastive only", (SEEING, CONTRASTIVE, *LOSSES), 1),
    Arm("generation only", (SEEING, GENERATION, *LOSSES), 1),
    Arm("both losses from scratch", ("--policy.type=fuse", CONTRASTIVE, GENERATION, *LOSSES), 1, finetuned=False),
    Arm(
        "zoo/fuse",
        (SEEING, CONTRASTIVE, GENERATION, "--policy.language_share=0.125", "--policy.language_reads=condition"),
        2,
        shipped=True,
        base_steps=10_000,
        before=Stage(9000, {"bag_color_feel": 2.0}),
        steps=5000,
        shares={"bag_color_feel": 2.0, "button_sound": 3.0, "shake_material": 3.0},
        speaks=True,
        remembers=True,
    ),
)
SHIPPED: Final = ARMS[-1]
"""Not a comparison of losses: longer with touch and sound, and losses on fewer rows. The task with the longest way, the only one that needs
two senses, is drawn twice as often. At last sounds are drawn three times as often: they decide in two tasks of seven, and were not yet
listened to where the way to a button was known."""
COMPARABLE: Final = ARMS[:-1]
"""The arms that are trained for equally many steps."""
CONTROLLED: Final = (ARMS[0], SHIPPED)
"""The arms that are asked whether they use their sensors."""


@dataclass(frozen=True)
class Condition:
    """How a trained policy is played."""

    name: str
    zero: str = ""
    swap: str = ""
    masked: str = ""
    phrasings: str = "train"
    prompt: str = ""
    tasks: tuple[str, ...] = TASKS
    """The tasks of which it asks something."""


PLAIN: Final = Condition("plain")
CONTROLS: Final = (
    Condition("touch zeroed", zero="touch"),
    Condition("touch swapped", swap="touch", tasks=TOUCH_TASKS),
    Condition("touch missing", masked="touch", tasks=tuple(task for task in TASKS if task not in TOUCH_TASKS)),
    Condition("audio zeroed", zero="audio"),
    Condition("audio swapped", swap="audio", tasks=SOUND_TASKS),
    Condition("audio missing", masked="audio", tasks=tuple(task for task in TASKS if task not in SOUND_TASKS)),
    Condition("held-out phrasings", phrasings="heldout"),
    Condition("prompt V", prompt="V", tasks=("bag_color_feel",)),
    Condition("prompt T", prompt="T", tasks=("bag_color_feel",)),
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
    """What one run is played on: every task as it is, and for some arms the controls."""
    yield from (Cell(arm, seed, task, PLAIN) for task in TASKS)
    if arm in CONTROLLED:
        yield from (Cell(arm, seed, task, condition) for condition in CONTROLS for task in condition.tasks)


def decides(sensor: str, task: str) -> bool:
    """Whether a task cannot be solved above chance without the sensor."""
    return task in {"touch": TOUCH_TASKS, "audio": SOUND_TASKS}[sensor]
