"""`handsight bench compose [--quick]`: tasks that are composed of others: hear, then look, then grasp; hear, say, then do what was said.

    handsight collect --env.task=sense/grasp_by_button --env.split=train --episodes=900 --root=data/fuse/grasp_by_button
    handsight collect --env.task=sense/tabletop_grasp --episodes=500 --root=data/fuse/tabletop_grasp
    handsight collect --env.task=sense/press_describe_press --episodes=300 --root=data/fuse/press_describe_press
    handsight collect --env.task=sense/button_sound --episodes=500 --root=data/fuse/button_sound
    handsight bench compose

zoo/fuse is finetuned on each, its description-generating loss going on. sense/grasp_by_button is trained without a fifth of the triples of
tone, colour and shape, and played on both kinds; the policy notes the color of what it last met (--policy.note=VA:color), in its own words.
In sense/press_describe_press its own sentence about the first sound is its instruction from then on (rollout --command=A); its three stages
are counted apart. What was cut off goes on where it stopped. Writes launch/results/compose.json.
"""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from handsight.launch.arguments import parse
from handsight.launch.cells import bits, each_played, play_cell, slug
from handsight.launch.checkpoints import find
from handsight.launch.episodes import write_json
from handsight.launch.export import export_once
from handsight.launch.fuse_grid import COMPARED, RECIPE, WORDS
from handsight.launch.metrics import EpisodeResult, wilson
from handsight.launch.rollout import EnvArguments, PolicyArguments, RolloutArguments, SensorArguments
from handsight.launch.train import cpu_minutes
from handsight.launch.training_run import train_once
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/compose.json")
GRASP, CHAIN = "grasp_by_button", "press_describe_press"
ROOTS: Final = {GRASP: (GRASP, "tabletop_grasp:0.5"), CHAIN: (CHAIN, "button_sound:0.5")}
"""Recordings that the policy of each task is finetuned on, with their shares."""
OPTIONS: Final = {GRASP: ("--policy.note=VA:color",), CHAIN: ()}
"""Without the note no training found what color has to do with the choice: 900 scenes are learned by heart first."""
STEPS: Final = {GRASP: 11000, CHAIN: 8000}
WORD_STEPS: Final = {GRASP: 2500}
"""Steps of words alone after them: a note must be true."""


@dataclass(frozen=True)
class ComposeArguments:
    """Arguments of `handsight bench compose`."""

    tasks: str = f"{GRASP},{CHAIN}"
    """Which of the two."""
    data: str = "data/fuse"
    """Folder with the recordings."""
    base: str = "zoo/fuse"
    """Policy that is finetuned: a checkpoint folder or zoo/NAME."""
    steps: int | None = None
    """Training steps of each; by default 11000 of grasp_by_button, then 2500 of its words alone, and 8000 of press_describe_press."""
    episodes: int = 100
    """Episodes a cell."""
    seed: int = 5000
    """First evaluation seed; 1000 and on are for development."""
    seeds: int = 1
    """Training seeds."""
    jobs: int = 2
    """Trainings at a time, one thread each."""
    players: int = 2
    """Cells that are played at a time."""
    folder: str = "outputs/bench/compose"
    """Where checkpoints and episodes are kept."""
    quick: bool = False
    """2 steps and 1 episode a cell, no result file."""


@dataclass(frozen=True)
class Cell:
    """How one trained policy is played."""

    task: str
    name: str
    split: str = "any"
    zero: str = ""
    command: str = ""
    notes: bool = True


CELLS: Final = (
    Cell(GRASP, "triples of training", split="train"),
    Cell(GRASP, "held-out triples", split="new_combination"),
    Cell(GRASP, "held-out triples, audio zeroed", split="new_combination", zero="audio"),
    Cell(GRASP, "held-out triples, without its notes", split="new_combination", notes=False),
    Cell(CHAIN, "its own words", command="A"),
    Cell(CHAIN, "audio zeroed", zero="audio", command="A"),
)


def main(argv: list[str]) -> int:
    """Trains what is not trained, plays what is not played, prints the table."""
    arguments = parse(ComposeArguments, argv, "handsight bench compose", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, steps=2, episodes=1, seeds=1, folder=arguments.folder + "_quick")
    tasks = [name.strip() for name in arguments.tasks.split(",") if name.strip()]
    if unknown := [name for name in tasks if name not in ROOTS]:
        raise HandsightError(f"expected --tasks out of {', '.join(ROOTS)}, got {', '.join(unknown)}")
    _require(arguments, tasks)
    runs = [(task, seed) for seed in range(arguments.seeds) for task in tasks]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda run: _train(run[0], run[1], arguments), runs))
    for task, seed in runs:
        export_once(str(_run(task, seed, arguments)))
    playing = [(cell, seed) for task, seed in runs for cell in CELLS if cell.task == task]
    rows: list[dict[str, Any]] = []
    for row in each_played(partial(_play, arguments=arguments), playing, arguments.players):
        rows.append(row)
        if not arguments.quick:
            command = " ".join(["handsight bench compose", *argv])
            write_json(RESULT, {"command": command, "args": asdict(arguments), "rows": rows})
    print(table(rows))
    return 0


def _require(arguments: ComposeArguments, tasks: Sequence[str]) -> None:
    find(arguments.base)
    folders = [_recording(arguments, root) for task in tasks for root in ROOTS[task]]
    if missing := [str(folder) for folder in folders if not folder.is_dir()]:
        raise HandsightError(f"expected what `handsight bench compose --help` lists, got no {', '.join(missing)}; make it first")


def _recording(arguments: ComposeArguments, root: str) -> Path:
    return Path(arguments.data) / root.partition(":")[0]


def _folder(task: str, seed: int, arguments: ComposeArguments) -> Path:
    return Path(arguments.folder) / f"{task}_{seed}"


def _train(task: str, seed: int, arguments: ComposeArguments) -> None:
    roots = ",".join(f"{arguments.data}/{root}" for root in ROOTS[task])
    every = [*COMPARED, *RECIPE, f"--dataset.root={roots}", f"--seed={seed}"]

    def train(name: str, base: str, steps: int, options: Sequence[str]) -> None:
        run = _folder(task, seed, arguments) / name
        train_once(run, steps, [f"--policy.path={base}", *every, *options, f"--save_freq={min(2000, steps)}"])

    train("train", arguments.base, arguments.steps or STEPS[task], [*OPTIONS[task], "--policy.language_share=0.125"])
    if task in WORD_STEPS:
        train("words", str(_folder(task, seed, arguments) / "train"), arguments.steps or WORD_STEPS[task], WORDS)


def _run(task: str, seed: int, arguments: ComposeArguments) -> Path:
    """Of the training that is played: the last one."""
    return _folder(task, seed, arguments) / ("words" if task in WORD_STEPS else "train")


def _play(run: tuple[Cell, int], arguments: ComposeArguments) -> dict[str, Any]:
    cell, seed = run
    folder = _folder(cell.task, seed, arguments)
    out = folder / slug(cell.name)
    metrics, episodes = play_cell(
        RolloutArguments(
            policy=PolicyArguments(str(_run(cell.task, seed, arguments))),
            env=EnvArguments(f"sense/{cell.task}", split=cell.split),
            sensors=SensorArguments(zero=cell.zero),
            episodes=arguments.episodes,
            seed=arguments.seed,
            workers=0,
            videos=0,
            runtime="onnx",
            command=cell.command,
            notes=cell.notes,
        ),
        out,
    )
    return {
        "task": cell.task,
        "cell": cell.name,
        "training_seed": seed,
        "successes": bits(episode.success for episode in episodes),
        "success": asdict(wilson([episode.success for episode in episodes])),
        "wrong_object": metrics["wrong_object"],
        "stages": {name: asdict(wilson(reached)) for name, reached in (stages if cell.command else notes)(episodes).items()},
        "training_cpu_minutes": cpu_minutes(folder / "train", folder / "words"),
        "versions": metrics["versions"],
    }


def stages(episodes: Sequence[EpisodeResult]) -> dict[str, list[bool]]:
    """Of each episode: whether the sample was pressed, whether the first words about a sound were true as well, whether all was done."""
    pressed = [episode.stage == "press" for episode in episodes]
    true = [done and bool(episode.said) and episode.said[0].endswith("(true)") for done, episode in zip(pressed, episodes, strict=True)]
    return {"sample pressed": pressed, "and described": true, "and its like pressed": [episode.success for episode in episodes]}


def notes(episodes: Sequence[EpisodeResult]) -> dict[str, list[bool]]:
    """Whether each note that was taken is true, and success by whether the one of the last button was; nothing where none was taken.

    An episode that ends with an object in the hand ends with a note of that object; the one before is of the button.
    """
    rates = {"true notes": [line.endswith("(true)") for episode in episodes for line in episode.said]}
    ended = [episode for episode in episodes if (episode.success or episode.wrong_object) and len(episode.said) > 1]
    for kind in ("true", "false"):
        after = [episode.success for episode in ended if episode.said[-2].endswith(f"({kind})")]
        rates[f"success where the button's was {kind}"] = after
    return {name: found for name, found in rates.items() if found}


def table(rows: Sequence[dict[str, Any]]) -> str:
    """Markdown."""

    def text(rate: dict[str, Any]) -> str:
        return f"{rate['mean']:.2f} [{rate['low']:.2f}, {rate['high']:.2f}]"

    lines = ["| task | | training seed | training, CPU min | success | wrong object | stages, notes |", "|---" * 7 + "|"]
    for row in rows:
        parts = "; ".join(f"{name} {text(rate)}" for name, rate in row["stages"].items())
        rates = f"{text(row['success'])} | {text(row['wrong_object'])}"
        told = f"{row['task']} | {row['cell']} | {row['training_seed']} | {row['training_cpu_minutes']:.0f}"
        lines.append(f"| {told} | {rates} | {parts} |")
    return "\n".join(lines)
