"""`handsight rollout`: plays seeded episodes with a policy and reports success, videos and an HTML page.

    handsight rollout --policy.path=zoo/tabletop_grasp --env.task=sense/tabletop_grasp --episodes=100 --seed=1000
    handsight rollout --policy.path=expert --env.task=all

The second plays every task and writes one page about all of them, gallery.html.
The same arguments give the same success vector for any --batch_size and any number of --workers.
"""

import contextlib
import os
import platform
import resource
import shlex
import sys
import time
from collections import Counter
from collections.abc import Generator
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

from tqdm import tqdm

from handsight.envs.pool import DEFAULT_MAKER, EnvPool
from handsight.envs.randomize import Ranges
from handsight.envs.splits import Split
from handsight.launch.actors import SCRIPTED, Cast, scripted
from handsight.launch.arguments import parse
from handsight.launch.episodes import METRICS_FILE, VIDEO_FOLDER, ResultFolder, by_seed, read_json, write_json
from handsight.launch.gallery import GALLERY_FILE, chosen_tasks, write_gallery
from handsight.launch.gl import require_gl
from handsight.launch.metrics import EpisodeResult, wilson
from handsight.launch.narrate import narrated, parse_command
from handsight.launch.play import Filming, play
from handsight.policies.runtimes import RUNTIMES
from handsight.sensors.errors import HandsightError
from handsight.sensors.questions import parse_questions
from handsight.sensors.realism import IDEAL, Realism
from handsight.sensors.types import KEY_OF_SENSOR, Sensor

EXIT_INTERRUPTED: Final = 130
DEFAULT_IMAGE_SIZE: Final = 128
EPISODES, FILMS = 50, 8  # of one task
GALLERY_EPISODES, GALLERY_FILMS = 10, 1  # of each of several
_UNCHANGED: Final = (
    ("split", "any"),
    ("realism", "ideal"),
    ("prompt", ""),
)  # left out of a folder's identity: earlier folders can be continued
_PACKAGES: Final = ("lerobot_policy_handsight", "lerobot", "torch", "mujoco", "gymnasium", "numpy", "onnxruntime")


@dataclass(frozen=True)
class PolicyArguments:
    path: str = ""
    """A checkpoint folder, a hub id, zoo/NAME (shipped with handsight), expert, random, constant or down."""


@dataclass(frozen=True)
class EnvArguments:
    task: str = ""
    """The task, such as sense/tabletop_grasp; or several: a family (sense), names separated by commas, or all."""

    image_size: int | None = None
    """Side of the camera images [px]; by default what the policy was trained on."""

    phrasings: str | None = None
    """Which phrasings of the instructions: train (the default) or heldout."""

    prompt: str = ""
    """Senses that the instructions speak to, such as V where a task needs VT; its own if empty."""

    split: str = "any"
    """Which scenes are drawn: any, train, new_combination or new_object."""

    realism: str = "ideal"
    """Noise, gains, rates and delays: ideal or robot, and knobs by name, as in robot,touch.noise_kpa=1.0 (see sensors/realism.py)."""

    maker: str = DEFAULT_MAKER
    """MODULE:FUNCTION that makes an environment from the task, for environments of your own."""


@dataclass(frozen=True)
class SensorArguments:
    zero: str = ""
    """Sensors that the policy gets as zeros, to see what it does without them: any of front,wrist,state,touch,audio."""

    swap: str = ""
    """Sensors whose readings come from another episode of the same task, to see whether the policy believes them."""

    mask: str = ""
    """Sensors that the policy is told are missing; of policies that can do without some, as fuse can."""


@dataclass(frozen=True)
class RolloutArguments:
    policy: PolicyArguments = field(default_factory=PolicyArguments)
    env: EnvArguments = field(default_factory=EnvArguments)
    sensors: SensorArguments = field(default_factory=SensorArguments)

    episodes: int | None = None
    """How many episodes; their seeds are seed, seed + 1, ...; by default 50, or 10 of each task if there are several."""

    seed: int = 1000
    """Seed of the first episode."""

    workers: int | None = None
    """Processes that simulate; by default one per core and at most --batch_size; 0 simulates in this process."""

    batch_size: int = 2
    """How many episodes run at a time; does not change any result."""

    out: str = ""
    """Result folder; by default a new one under outputs/rollout. Naming an interrupted one continues it."""

    overwrite: bool = False
    """Throw away what --out holds of an earlier rollout."""

    videos: int | None = None
    """How many of the first episodes are filmed; by default 8, or 1 of each task if there are several."""

    wandb: bool = False
    """Log the episodes with their videos to Weights & Biases (WANDB_MODE=offline works)."""

    device: str | None = None
    """Where the policy runs; by default the GPU if there is one."""

    describe: str = ""
    """Combinations of senses that say what they have met, once a thing, such as V,T,VT, or answer about an attribute, such as T:hardness;
    needs a policy trained with generation_weight."""

    command: str = ""
    """Combination of senses whose first sentence becomes the instruction of the rest of the episode, such as A: the policy's own words are
    its next command (sense/press_describe_press)."""

    notes: bool = True
    """Whether a policy with a note (--policy.note of its training) reads what it says; false is a control."""

    runtime: str = "torch"
    """What computes the actions: torch, or what `handsight export` wrote: onnx or onnx-int8."""

    n_action_steps: int | None = None
    """Actions executed of each predicted chunk; by default the policy's own."""

    num_inference_steps: int | None = None
    """Sampling steps of a flow or diffusion policy; by default its own."""


def main(argv: list[str]) -> int:
    """Runs the verb; 130 when it was interrupted."""
    arguments = parse(RolloutArguments, argv, "handsight rollout", __doc__ or "")
    _check(arguments)
    require_gl()
    folder = Path(arguments.out) if arguments.out else _default_folder(arguments)
    tasks = chosen_tasks(arguments.env.task, arguments.env.maker)
    try:
        print(rollout_all(arguments, tasks, folder) if tasks else _rollout_one(arguments, folder))
    except KeyboardInterrupt:
        kept = [word for word in argv if not word.startswith(("--out", "--overwrite"))]
        command = shlex.join(["handsight", "rollout", *kept, f"--out={folder}"])
        print(f"\ninterrupted; the finished episodes are kept, continue with:\n  {command}", file=sys.stderr)
        return EXIT_INTERRUPTED
    return 0


def _rollout_one(arguments: RolloutArguments, folder: Path) -> str:
    metrics = rollout(arguments, folder)
    return f"{summary(metrics)}\nreport: {folder / 'report.html'}"


def rollout_all(arguments: RolloutArguments, tasks: list[str], folder: Path) -> str:
    """Plays every task into `folder`/family/task, writes `folder`/gallery.html, and says how each went.

    Raises HandsightError for anything in the arguments, the checkpoint or a folder that does not fit.
    """
    cast = make_cast(arguments)
    width = max(map(len, tasks))
    lines = []
    for task in tasks:
        one = replace(
            arguments,
            env=replace(arguments.env, task=task),
            episodes=arguments.episodes or GALLERY_EPISODES,
            videos=GALLERY_FILMS if arguments.videos is None else arguments.videos,
        )
        rate = rollout(one, folder / task, cast)["success"]
        lines.append(f"{task:<{width}} {rate['mean']:7.1%}   [{rate['low']:.1%}, {rate['high']:.1%}]   {rate['n']} episodes")
    write_gallery([folder / task for task in tasks], folder / GALLERY_FILE)
    return "\n".join([*lines, f"gallery: {folder / GALLERY_FILE}"])


def rollout(arguments: RolloutArguments, folder: Path, cast: Cast | None = None) -> dict[str, Any]:
    """Plays what is not finished yet, writes metrics.json and report.html into `folder` and returns the metrics.

    cast: who acts, where it is loaded already.

    Raises HandsightError for anything in the arguments, the checkpoint or the folder that does not fit.
    """
    cast = cast or make_cast(arguments)
    seeds = range(arguments.seed, arguments.seed + (arguments.episodes or EPISODES))
    results = ResultFolder(folder, identity(arguments, cast), overwrite=arguments.overwrite)
    waiting = [seed for seed in seeds if seed not in results.finished]
    steps, started = 0, time.perf_counter()
    if waiting:
        for result in _show_progress(_play(arguments, cast, waiting, folder), results, len(seeds), arguments.env.task):
            results.add(result)
            steps += result.steps
    chosen = by_seed(result for seed, result in results.finished.items() if seed in seeds)
    seconds = time.perf_counter() - started
    metrics = summarise(chosen, arguments, cast) | _speed(folder, steps, seconds, resumed=len(seeds) - len(waiting))
    write_json(folder / METRICS_FILE, metrics)
    _publish(arguments, folder)
    return metrics


def make_cast(arguments: RolloutArguments) -> Cast:
    """Who acts; the scripted ones do not need torch."""
    path = arguments.policy.path
    if path in SCRIPTED:
        return scripted(path)
    import torch

    from handsight.launch.policies import Overrides, load

    torch.set_num_threads(1)  # results must not depend on how sums are split over threads
    overrides = Overrides(arguments.device, arguments.n_action_steps, arguments.num_inference_steps, arguments.sensors.mask)
    return load(path, overrides, arguments.runtime)


def _play(arguments: RolloutArguments, cast: Cast, seeds: list[int], folder: Path) -> Generator[EpisodeResult]:
    films = FILMS if arguments.videos is None else arguments.videos
    filmed = frozenset(range(arguments.seed, arguments.seed + films))
    slots = min(arguments.batch_size, len(seeds))
    workers = min(slots, os.cpu_count() or 1) if arguments.workers is None else arguments.workers
    size = arguments.env.image_size or cast.image_size or DEFAULT_IMAGE_SIZE
    options: dict[str, Any] = {"image_size": size} | chosen(arguments.env)
    cast = narrated(cast if arguments.notes else replace(cast, note=""), arguments.describe, arguments.command)
    keys = {name: [KEY_OF_SENSOR[sensor] for sensor in taken] for name, taken in taken_sensors(arguments.sensors).items()}
    with EnvPool(arguments.env.task, slots, workers, **keys, maker=arguments.env.maker, **options) as pool:
        cast.check(pool.attributes)
        with contextlib.closing(play(pool, cast, seeds, Filming(folder / VIDEO_FOLDER, filmed))) as episodes:
            yield from episodes


def chosen(env: EnvArguments) -> dict[str, Any]:
    """What the environment is made with, without defaults: makers of others need not know them.

    Raises HandsightError for an unknown split or knob.
    """
    split, realism = Split.parse(env.split), Realism.parse(env.realism)
    given = {
        "phrasings": env.phrasings,
        "prompt": env.prompt or None,
        "ranges": Ranges(split=split) if split is not Split.ANY else None,
        "realism": realism if realism != IDEAL else None,
    }
    return {name: value for name, value in given.items() if value is not None}


def taken_sensors(sensors: SensorArguments) -> dict[str, list[Sensor]]:
    """What the environment does not deliver: sensors that are zeroed and swapped.

    Raises HandsightError for an unknown name, or one that is to be both.
    """
    zeroed, swapped = _sensors("zero", sensors.zero), _sensors("swap", sensors.swap)
    if both := [str(sensor.name).lower() for sensor in zeroed if sensor in swapped]:
        raise HandsightError(f"expected each sensor in --sensors.zero or in --sensors.swap, got {','.join(both)} in both")
    return {"zeroed": zeroed, "swapped": swapped}


def _sensors(option: str, names: str) -> list[Sensor]:
    known = {sensor.name.lower(): sensor for sensor in KEY_OF_SENSOR if sensor.name}
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in known]:
        raise HandsightError(f"expected --sensors.{option} among {','.join(known)}, got {','.join(unknown)}; separate them with commas")
    return [known[name] for name in wanted]


def identity(arguments: RolloutArguments, cast: Cast) -> dict[str, Any]:
    """What decides the results of an episode; the number of episodes, workers and the batch size do not."""
    env = asdict(arguments.env) | {"realism": str(Realism.parse(arguments.env.realism))}
    taken = taken_sensors(arguments.sensors) | {"masked": _sensors("mask", arguments.sensors.mask)}
    names = {way: sorted(str(sensor.name) for sensor in sensors) for way, sensors in taken.items()}
    return {
        "policy": cast.name,
        "fingerprint": cast.fingerprint,
        "env": {name: value for name, value in env.items() if (name, value) not in _UNCHANGED},
        **{way: sensors for way, sensors in names.items() if sensors or way == "zeroed"},  # earlier folders know no other way
        "seed": arguments.seed,
        "n_action_steps": arguments.n_action_steps,
        "num_inference_steps": arguments.num_inference_steps,
        "device": arguments.device,
        **({"runtime": arguments.runtime} if arguments.runtime != "torch" else {}),  # as above
        **({"describe": arguments.describe} if arguments.describe else {}),
        **({"command": arguments.command} if arguments.command else {}),
        **({} if arguments.notes else {"notes": False}),
    }


def summarise(results: list[EpisodeResult], arguments: RolloutArguments, cast: Cast) -> dict[str, Any]:
    """The part of metrics.json that depends on the episodes alone."""
    return {
        "success": asdict(wilson([result.success for result in results])),
        "reach": asdict(wilson([result.reached for result in results])),
        "wrong_object": asdict(wilson([result.wrong_object for result in results])),
        "outcomes": dict(Counter(result.outcome for result in results)),
        "seeds": [result.seed for result in results],
        "policy": {"path": cast.name, "fingerprint": cast.fingerprint},
        "versions": versions(),
        "args": asdict(arguments),
    }


def summary(metrics: dict[str, Any]) -> str:
    """What the terminal shows at the end."""

    def line(title: str, key: str) -> str:
        rate = metrics[key]
        return f"{title:<14}{rate['mean']:6.1%}   [{rate['low']:.1%}, {rate['high']:.1%}]"

    lines = [line("success", "success"), line("reached", "reach"), line("wrong object", "wrong_object")]
    header = f"{metrics['success']['n']} episodes, 95% Wilson intervals, {metrics['steps_per_second']:.0f} steps/s"
    return "\n".join([header, *lines])


def versions() -> dict[str, str]:
    """Of Python and of every package that can change a result."""
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _speed(folder: Path, steps: int, seconds: float, resumed: int) -> dict[str, Any]:
    """Of the episodes played now; if all were finished already, what the folder says about them."""
    if steps == 0 and (folder / METRICS_FILE).exists():
        previous = read_json(folder / METRICS_FILE)
        return {key: previous[key] for key in ("seconds", "steps_per_second", "peak_memory_mb", "resumed_episodes")}
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": round(seconds, 3),
        "steps_per_second": round(steps / seconds, 2) if seconds > 0 else 0.0,
        "peak_memory_mb": round(peak / 1024, 1),  # of the largest process; Linux counts in KiB
        "resumed_episodes": resumed,
    }


def _show_progress(episodes: Generator[EpisodeResult], results: ResultFolder, total: int, task: str) -> Generator[EpisodeResult]:
    done = list(results.finished.values())
    with contextlib.closing(episodes), tqdm(total=total, initial=len(done), unit="episode", desc=task) as bar:
        successes = sum(result.success for result in done)
        for count, result in enumerate(episodes, len(done) + 1):
            successes += result.success
            bar.set_postfix_str(f"success {successes / count:.0%}", refresh=False)
            bar.update()
            for line in result.said:
                bar.write(f"seed {result.seed}, {line}")
            yield result


def _publish(arguments: RolloutArguments, folder: Path) -> None:
    from handsight.launch.report import write_report

    write_report([folder], folder / "report.html")
    if arguments.wandb:
        from handsight.launch.track import log_rollout

        log_rollout(folder)


def _check(arguments: RolloutArguments) -> None:
    if not arguments.policy.path:
        known = "a checkpoint folder, a hub id, zoo/NAME, expert, random, constant or down"
        raise HandsightError(f"expected --policy.path, got none; give {known}")
    if not arguments.env.task:
        raise HandsightError("expected --env.task, got none; try --env.task=sense/tabletop_grasp")
    if arguments.env.phrasings not in (None, "train", "heldout"):
        raise HandsightError(f"expected --env.phrasings=train or heldout, got {arguments.env.phrasings}")
    if arguments.runtime not in RUNTIMES:
        raise HandsightError(f"expected --runtime={' or '.join(RUNTIMES)}, got {arguments.runtime}")
    chosen(arguments.env)
    parse_questions(arguments.describe)
    parse_command(arguments.command)
    for name, least in (("episodes", 1), ("batch_size", 1), ("seed", 0), ("videos", 0), ("workers", 0)):
        value = getattr(arguments, name)
        if value is not None and value < least:
            raise HandsightError(f"expected --{name} of at least {least}, got {value}")


def _default_folder(arguments: RolloutArguments) -> Path:
    """Named after the time, the task and the policy."""
    now = datetime.now()
    task = "gallery" if "," in arguments.env.task else Path(arguments.env.task).name
    names = [task, Path(arguments.policy.path).name]
    return Path("outputs") / "rollout" / f"{now:%Y-%m-%d}" / "_".join([f"{now:%H-%M-%S}", *names])
