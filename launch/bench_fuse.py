"""`handsight bench fuse [--quick]`: what touch, sound and the language losses add to one policy for seven tasks.

    for task in bag_shape bag_stiff bag_rough bag_color_feel button_sound shake_material tabletop_grasp; do
      handsight collect --env.task=sense/$task --episodes=500 --root=data/fuse/$task
    done
    for sense in V T; do
      handsight collect --env.task=sense/bag_color_feel --env.prompt=$sense --seed=20000 --episodes=120 \
        --root=data/fuse/bag_color_feel_$sense
    done
    handsight bench fuse                       # trains and plays everything that is not there yet
    handsight bench fuse --arms="vision only" --seeds=1

One policy without touch and sound is trained first. It is then finetuned in five ways (and a sixth from scratch), the ways that decide with
three training seeds, all on the same demonstrations and for as many steps (launch/fuse_grid.py), and played for 100 episodes a cell.
Beside these, zoo/fuse is trained for longer with touch and sound, and reads every phrasing as the closest meaning of its training
(`handsight remember`). Its training seed 0 is the shipped checkpoint (`--arms=zoo/fuse --seeds=1` needs no recordings; with --retrain it is
trained anew). It and the runs with both losses are also played with sensors taken away, and are taught to speak (--word_steps), which
`handsight bench describe` judges. What was cut off goes on from its last checkpoint and its last episode. Actions are computed by ONNX
Runtime, within 1e-5 of torch's and in half the time (--runtime=torch plays without it).
Writes launch/results/fuse.json after every cell; rows of other runs stay there.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, Final

from handsight.launch.arguments import parse
from handsight.launch.cells import bits, each_played, play_cell, slug
from handsight.launch.checkpoints import find
from handsight.launch.episodes import read_json, write_json
from handsight.launch.export import export_once
from handsight.launch.fuse_grid import ARMS, BASE, COMPARED, PARTIAL, PLAIN, RECIPE, SHARES, TASKS, WORDS, Arm, Cell, Stage, cells, runs
from handsight.launch.fuse_table import summary, table
from handsight.launch.metrics import wilson
from handsight.launch.remember import meanings_of, remember
from handsight.launch.rollout import EnvArguments, PolicyArguments, RolloutArguments, SensorArguments
from handsight.launch.train import cpu_minutes
from handsight.launch.training_run import train_once
from handsight.policies.weights import fingerprint
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/fuse.json")
REMEMBERING: Final = "remembering"
"""Folder of a run's checkpoint that remembers meanings."""


@dataclass(frozen=True)
class FuseArguments:
    """Arguments of `handsight bench fuse`."""

    data: str = "data/fuse"
    """Folder with one recording a task."""
    base_steps: int = 16000
    """Training steps of the policy that is finetuned."""
    steps: int = 4000
    """Training steps of every run that is compared."""
    word_steps: int = 5200
    """Training steps of the words of runs with both losses, after these."""
    episodes: int = 100
    """Episodes a cell."""
    seed: int = 5000
    """First evaluation seed; 1000 and on are for development."""
    arms: str = ""
    """Names of arms, separated by commas; all of them without it."""
    seeds: int = 3
    """Training seeds of the deciding arms."""
    retrain: bool = False
    """Train what is shipped, too."""
    conditions: str = ""
    """Names of conditions to play ("plain"), separated by commas; all of them without it."""
    jobs: int = 2
    """Trainings at a time, one thread each."""
    players: int = 2
    """Cells that are played at a time."""
    runtime: str = "onnx"
    """What computes the actions: onnx, which every run is exported for first, or torch."""
    folder: str = "outputs/bench/fuse"
    """Where checkpoints and episodes are kept."""
    quick: bool = False
    """2 steps, one seed and 1 episode a cell, no result file."""


def main(argv: list[str]) -> int:
    """Trains every run that is not finished, plays every cell that is not, then prints the table."""
    arguments = parse(FuseArguments, argv, "handsight bench fuse", __doc__ or "")
    if arguments.quick:
        arguments = replace(arguments, base_steps=2, steps=2, word_steps=2, episodes=1, seeds=1, folder=arguments.folder + "_quick")
    chosen = list(_chosen_runs(arguments))
    trained = [arm for arm, seed in chosen if not _is_taken(arm, seed, arguments)]
    if trained:
        _require(Path(arguments.data))
    if any(arm.finetuned for arm in trained):
        train_once(_base(arguments), arguments.base_steps, [*BASE, *_options(arguments, {}, 0, arguments.base_steps)])
    with ThreadPoolExecutor(arguments.jobs) as pool:
        list(pool.map(lambda run: _train(run[0], run[1], arguments), chosen))
    if arguments.runtime != "torch":
        for arm, seed in chosen:
            export_once(str(_played(arm, seed, arguments)))
    rows = {} if arguments.quick else earlier_rows(arguments)
    kept = list(rows.values())
    differences = summary(kept)
    playing = list(_chosen_cells(chosen, arguments))
    for row in each_played(partial(_play, arguments=arguments), playing, arguments.players):
        if rows.get(_key(row)) == row:
            continue  # read from an earlier run: all intervals again would take longer than that
        rows[_key(row)] = row
        kept = list(rows.values())
        differences = summary(kept)
        if not arguments.quick:
            command = " ".join(["handsight bench fuse", *argv])
            write_json(RESULT, {"command": command, "args": asdict(arguments), "rows": kept, "summary": differences})
    print(table(kept, differences))
    return 0


def _key(row: dict[str, Any]) -> tuple[Any, ...]:
    return row["arm"], row["training_seed"], row["task"], row["condition"]


def earlier_rows(arguments: FuseArguments) -> dict[tuple[Any, ...], dict[str, Any]]:
    """Those of the result file that were trained and played as it is asked now; what is not chosen now is not lost."""
    found = read_json(RESULT) if RESULT.is_file() else {"args": {}, "rows": []}
    same = all(found["args"].get(name) == getattr(arguments, name) for name in ("base_steps", "steps", "episodes", "seed"))
    return {_key(row): row for row in found["rows"]} if same else {}


def _require(folder: Path) -> None:
    missing = [name for name in (*TASKS, *PARTIAL) if not (folder / name / "meta" / "info.json").is_file()]
    if missing:
        raise HandsightError(
            f"expected the recordings that `handsight bench fuse --help` lists in {folder}, got none of {', '.join(missing)}; collect them"
        )


def _chosen_runs(arguments: FuseArguments) -> Iterator[tuple[Arm, int]]:
    wanted = _names(arguments.arms, "arms", [arm.name for arm in ARMS])
    yield from ((arm, seed) for arm, seed in runs() if arm.name in wanted and seed < arguments.seeds)


def _chosen_cells(chosen: Sequence[tuple[Arm, int]], arguments: FuseArguments) -> Iterator[Cell]:
    """Every run as it is before any control, so that an interrupted grid has whole comparisons."""
    known = list(dict.fromkeys(cell.condition.name for arm in ARMS for cell in cells(arm, 0)))
    wanted = _names(arguments.conditions, "conditions", known)
    every = [cell for arm, seed in chosen for cell in cells(arm, seed) if cell.condition.name in wanted]
    yield from sorted(every, key=lambda cell: cell.condition is not PLAIN)


def _names(given: str, option: str, known: Sequence[str]) -> list[str]:
    wanted = [name.strip() for name in given.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise HandsightError(f"expected --{option} out of {'; '.join(known)}, got {', '.join(unknown)}")
    return wanted or list(known)


def _is_taken(arm: Arm, seed: int, arguments: FuseArguments) -> bool:
    """Whether it is played as it is shipped."""
    return arm.shipped and seed == 0 and not arguments.retrain


def _run_folder(arm: Arm, seed: int, arguments: FuseArguments) -> Path:
    return Path(arguments.folder) / f"{slug(arm.name)}_{'shipped' if _is_taken(arm, seed, arguments) else seed}"


def _played(arm: Arm, seed: int, arguments: FuseArguments) -> Path:
    """The checkpoint that is played: words leave what it does as it is."""
    return _run_folder(arm, seed, arguments) / (REMEMBERING if arm.remembers and not _is_taken(arm, seed, arguments) else "train")


def _base(arguments: FuseArguments) -> Path:
    return Path(arguments.folder) / "base" / "train"


def _options(arguments: FuseArguments, shares: Mapping[str, float], seed: int, steps: int) -> list[str]:
    drawn = {**SHARES, **shares}
    recordings = ",".join(f"{arguments.data}/{name}:{drawn.get(name, 1.0)}" for name in (*TASKS, *PARTIAL))
    return [*RECIPE, f"--dataset.root={recordings}", f"--seed={seed}", f"--save_freq={min(2000, steps)}"]


def _train(arm: Arm, seed: int, arguments: FuseArguments) -> None:
    run = _run_folder(arm, seed, arguments)
    if _is_taken(arm, seed, arguments):
        _take(find(arm.name), run)
        return
    start = _start(arm, arguments) if arm.finetuned else None
    for name, stage in {"before": arm.before, "train": Stage(arm.steps or arguments.steps, arm.shares)}.items():
        if stage is None:
            continue
        steps = arguments.steps if arguments.quick else stage.steps
        path = [] if start is None else [f"--policy.path={start}"]
        train_once(run / name, steps, [*path, *arm.options, *COMPARED, *_options(arguments, stage.shares, seed, steps)])
        start = run / name
    if arm.speaks:
        words = [f"--policy.path={run / 'train'}", *WORDS, *_options(arguments, arm.shares, seed, arguments.word_steps)]
        train_once(run / "words", arguments.word_steps, words)
    if arm.remembers and not (run / REMEMBERING).is_dir():
        meanings = meanings_of(",".join(f"sense/{task}" for task in TASKS))
        remember(str(run / ("words" if arm.speaks else "train")), meanings, run / REMEMBERING)


def _start(arm: Arm, arguments: FuseArguments) -> Path:
    """What an arm is finetuned from: the base, or a checkpoint that was kept on the way to it."""
    if arm.base_steps is None or arguments.quick:
        return _base(arguments)
    return _base(arguments) / "checkpoints" / f"{arm.base_steps:06d}" / "pretrained_model"


def _take(shipped: Path, run: Path) -> None:
    """A copy to export beside; what was played with other weights is not kept."""
    copy = run / "train"
    if copy.is_dir() and fingerprint(copy) == fingerprint(shipped):
        return
    shutil.rmtree(run, ignore_errors=True)
    shutil.copytree(shipped, copy)


def _play(cell: Cell, arguments: FuseArguments) -> dict[str, Any]:
    folder = _run_folder(cell.arm, cell.seed, arguments)
    out = folder / slug(cell.condition.name) / cell.task
    metrics, episodes = play_cell(
        RolloutArguments(
            policy=PolicyArguments(str(_played(cell.arm, cell.seed, arguments))),
            env=EnvArguments(f"sense/{cell.task}", phrasings=cell.condition.phrasings, prompt=cell.condition.prompt),
            sensors=SensorArguments(zero=cell.condition.zero, swap=cell.condition.swap, mask=cell.condition.masked),
            episodes=arguments.episodes,
            seed=arguments.seed,
            workers=0,
            videos=0,
            runtime=arguments.runtime,
        ),
        out,
    )
    return {
        "arm": cell.arm.name,
        "training_seed": cell.seed,
        "task": cell.task,
        "condition": cell.condition.name,
        "successes": bits(episode.success for episode in episodes),
        "reached": bits(episode.reached for episode in episodes),
        "wrong": bits(episode.wrong_object for episode in episodes),
        "success": asdict(wilson([episode.success for episode in episodes])),
        "training_cpu_minutes": cpu_minutes(folder / "before", folder / "train"),
        "versions": metrics["versions"],
    }
