"""`handsight train`: LeRobot's own trainer with our policies, environments and cached reader.

    handsight train --policy.type=fuse --dataset.root=data/tabletop_grasp --steps=2000 --batch_size=64
    handsight train --policy.type=fuse --dataset.root=data/bag_stiff,data/button_sound:2 ...   # several recordings, by weight
    handsight train --resume=true --output_dir=outputs/train/...

Every option of `lerobot-train` passes through. Defaults that differ from LeRobot's, when an option is not given: --dataset.repo_id from
the folder's name, --policy.push_to_hub=false, --policy.device=cpu without a GPU, --num_workers=0 (the cached reader is faster than its
workers), --dataset.video_backend=pyav, --dataset.use_imagenet_stats=false, --wandb.mode from WANDB_MODE. --policy.path may also be zoo/NAME
or a training output. One more option: --threads=N for torch, by default one per physical core.
"""

import argparse
import contextlib
import json
import logging
import os
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Final

from handsight.datasets_rb.mixture import parse_mixture
from handsight.launch.checkpoints import find
from handsight.sensors.errors import HandsightError

EXIT_INTERRUPTED: Final = 130
COST_FILE: Final = "cost.json"
_LAST_CONFIG: Final = Path("checkpoints", "last", "pretrained_model", "train_config.json")


def main(argv: list[str]) -> int:
    """Runs the verb; 130 when it was interrupted."""
    if {"-h", "--help"} & set(argv):
        print(__doc__)
        return _run_lerobot([word for word in argv if word != "-h"] + ["--help"], Progress())
    threads, words = _take(normalise(argv), "threads")
    arguments = complete(words)
    check(arguments)
    _limit_threads(threads)
    progress = Progress()
    started = Cost.now()
    try:
        code = _run_lerobot(arguments, progress)
    except KeyboardInterrupt:
        progress.discard_half_written()
        print(f"\ninterrupted; {progress.how_to_resume()}", file=sys.stderr)
        return EXIT_INTERRUPTED
    except OSError:
        progress.discard_half_written()  # a full disk, most likely; the command line says so in one line
        raise
    finally:
        progress.note_cost(started)
    if progress.folder is not None:
        print(f"trained in {progress.cost.cpu_s / 60:.1f} CPU minutes; see what it can do with:")
        print(f"  handsight rollout --policy.path={progress.folder} --env.task=...")
    return code


# -- options


def normalise(argv: Sequence[str]) -> list[str]:
    """Every option as `--key=value`; a key alone is true.

    Raises HandsightError for a word that belongs to no option.
    """
    words: list[str] = []
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise HandsightError(f"expected --key=value, got {word!r}; see `handsight train --help`")
        if "=" not in word:
            word += "=" + (rest.pop(0) if rest and not rest[0].startswith("--") else "true")
        words.append(word)
    return words


def value(arguments: Sequence[str], key: str) -> str | None:
    """What was given for an option; the last one wins."""
    given = [word.partition("=")[2] for word in arguments if word.startswith(f"--{key}=")]
    return given[-1] if given else None


def _take(arguments: Sequence[str], key: str) -> tuple[str | None, list[str]]:
    return value(arguments, key), [word for word in arguments if not word.startswith(f"--{key}=")]


def _is_true(text: str | None) -> bool:
    return (text or "").lower() in ("true", "1", "yes")


def complete(arguments: list[str]) -> list[str]:
    """Adds our defaults for what was not given; a configuration file already decides everything, so then there are few."""
    if _is_true(value(arguments, "resume")) and value(arguments, "config_path") is None:
        arguments = [*arguments, f"--config_path={_last_config(arguments)}"]
    defaults: dict[str, str] = {}
    if "WANDB_MODE" in os.environ:  # LeRobot would ask for "online" whatever it says
        defaults["wandb.mode"] = os.environ["WANDB_MODE"]
    if value(arguments, "config_path") is None:
        defaults |= {"num_workers": "0", "dataset.video_backend": "pyav", "dataset.use_imagenet_stats": "false"}
        if root := value(arguments, "dataset.root"):
            mixture = parse_mixture(root)
            defaults["dataset.repo_id"] = f"local/{mixture[0].root.resolve().name if len(mixture) == 1 else 'mixture'}"
        if value(arguments, "policy.type") or value(arguments, "policy.path"):
            defaults |= {"policy.push_to_hub": "false"} | ({} if _has_gpu() else {"policy.device": "cpu"})
    added = [f"--{key}={default}" for key, default in defaults.items() if value(arguments, key) is None]
    return [_with_checkpoint_folder(word) for word in arguments] + added


def _last_config(arguments: Sequence[str]) -> Path:
    folder = value(arguments, "output_dir")
    if folder is None:
        raise HandsightError("expected --output_dir of the run to resume, got none; or give its train_config.json with --config_path")
    path = Path(folder) / _LAST_CONFIG
    if not path.is_file():
        raise HandsightError(f"expected a checkpoint to resume from in {folder}, got none ({_LAST_CONFIG} is missing); start the run anew")
    return path


def _with_checkpoint_folder(word: str) -> str:
    """--policy.path may be zoo/NAME or a training output; hub ids are left to LeRobot."""
    key, _, path = word.partition("=")
    return f"{key}={find(path)}" if key == "--policy.path" and (path.startswith("zoo/") or Path(path).exists()) else word


def _has_gpu() -> bool:
    import torch

    return torch.cuda.is_available() or torch.backends.mps.is_available()


def check(arguments: Sequence[str]) -> None:
    """Catches what would otherwise fail only after LeRobot has been imported (half a minute).

    Raises HandsightError.
    """
    if value(arguments, "config_path") is not None:
        return
    if not (value(arguments, "dataset.root") or value(arguments, "dataset.repo_id")):
        raise HandsightError("expected --dataset.root, got none; give a folder that `handsight collect` wrote")
    if not any(value(arguments, key) for key in ("policy.type", "policy.path", "reward_model.type", "reward_model.path")):
        raise HandsightError("expected --policy.type or --policy.path, got neither; try --policy.type=fuse")
    root, out = value(arguments, "dataset.root"), value(arguments, "output_dir")
    for ingredient in parse_mixture(root) if root else ():
        if not (ingredient.root / "meta" / "info.json").is_file():
            raise HandsightError(
                f"expected a LeRobotDataset with meta/info.json in {ingredient.root}, got none; check --dataset.root, or collect one there"
            )
    if out is not None and Path(out).is_dir():
        raise HandsightError(
            f"expected a new --output_dir, got {out}, which exists; choose another one, or add --resume=true to continue it"
        )


def _limit_threads(threads: str | None) -> None:
    """torch's own default counts hyper-threads on some machines, which slows small models down."""
    if threads is None and "OMP_NUM_THREADS" in os.environ:
        return
    if threads is not None and not (threads.isdecimal() and int(threads) > 0):
        raise HandsightError(f"expected --threads of at least 1, got {threads}")
    import psutil  # type: ignore[import-untyped] # has no annotations
    import torch

    usable = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    torch.set_num_threads(int(threads) if threads else min(psutil.cpu_count(logical=False) or usable, usable))


# -- the run


@dataclass(frozen=True)
class Cost:
    """What a run has cost so far, resumptions included; kept in COST_FILE of its folder."""

    cpu_s: float = 0.0
    wall_s: float = 0.0

    @classmethod
    def now(cls) -> "Cost":
        """Readings of this process's clocks."""
        return cls(time.process_time(), time.monotonic())

    @classmethod
    def of(cls, run: Path) -> "Cost | None":
        """What a finished or interrupted run has noted; None if it has not."""
        file = run / COST_FILE
        return cls(**json.loads(file.read_text())) if file.is_file() else None

    def since(self, start: "Cost") -> "Cost":
        """Difference of two readings."""
        return Cost(self.cpu_s - start.cpu_s, self.wall_s - start.wall_s)

    def plus(self, other: "Cost") -> "Cost":
        """Sum of two runs."""
        return Cost(self.cpu_s + other.cpu_s, self.wall_s + other.wall_s)


def cpu_minutes(*runs: Path) -> float | None:
    """What trainings have cost together, of those that have noted it; None if none has."""
    costs = [cost.cpu_s for run in runs if (cost := Cost.of(run))]
    return sum(costs) / 60 if costs else None


@dataclass
class Progress:
    """Where the run is; filled in as LeRobot gets there."""

    folder: Path | None = None
    cost: Cost = field(default_factory=Cost)
    steps: int = 0  # of this run, without those before a resumption
    earlier: set[str] = field(default_factory=set)  # checkpoints that were there when it began

    def begin(self, folder: Path) -> None:
        """Note the output folder and what it holds already."""
        self.folder = folder
        self.earlier = {path.name for path in self._checkpoints()}

    def note_cost(self, started: Cost) -> None:
        """Add what this process has spent since `started` to what earlier ones did."""
        if self.folder is None or not self.folder.is_dir():
            return
        self.cost = (Cost.of(self.folder) or Cost()).plus(Cost.now().since(started))
        with contextlib.suppress(OSError):  # on a full disk the message about that matters more
            (self.folder / COST_FILE).write_text(json.dumps(asdict(self.cost)))

    def discard_half_written(self) -> None:
        """Remove a checkpoint of this run that LeRobot has not finished: it moves the link `last` only after the last file."""
        if self.folder is None:
            return
        last = (self.folder / "checkpoints" / "last").resolve().name
        newest = int(last) if last.isdecimal() else -1
        for path in self._checkpoints():
            if path.name not in self.earlier and int(path.name) > newest:
                shutil.rmtree(path)

    def how_to_resume(self) -> str:
        """Which checkpoint there is and the command that continues from it."""
        if self.folder is None or not (self.folder / _LAST_CONFIG).is_file():
            return "there is no checkpoint yet; start again, with a smaller --save_freq to get one earlier"
        step = (self.folder / "checkpoints" / "last").resolve().name
        return f"resume from step {int(step)} with: handsight train --resume=true --output_dir={self.folder}"

    def require_finite(self, optimizer: Any, *_: object) -> None:
        """Before every optimiser step: a loss that is not finite makes every gradient NaN (clipping spreads it), so one of them tells.

        Raises HandsightError before the weights are touched.
        """
        self.steps += 1
        gradient = next((p.grad for group in optimizer.param_groups for p in group["params"] if p.grad is not None), None)
        if gradient is not None and not gradient.sum().isfinite():
            raise HandsightError(
                f"expected a finite loss, got NaN or infinity at step {self.steps} of this run; lower the learning rate "
                f"(--policy.optimizer_lr) and look for NaN in the dataset; {self.how_to_resume()}"
            )

    def _checkpoints(self) -> list[Path]:
        folder = self.folder / "checkpoints" if self.folder is not None else None
        return [path for path in folder.iterdir() if path.name.isdecimal()] if folder is not None and folder.is_dir() else []


def _run_lerobot(arguments: list[str], progress: Progress) -> int:
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # its crash reports go over the network, also offline
    with _argv(["handsight train", *arguments]):  # LeRobot's parser reads sys.argv, more than once
        from lerobot.scripts import lerobot_train
        from torch.optim.optimizer import register_optimizer_step_pre_hook

        import lerobot_policy_handsight  # noqa: F401  registers our types, also from a source tree without installed metadata
        from handsight.launch.training_data import seam

        if "--help" not in arguments:
            _parse(arguments)
        _prepare_wandb(arguments)
        # it warns, at length, that torchcodec cannot be loaded, before it reads that we ask for pyav
        logging.getLogger("lerobot.utils.import_utils").setLevel(logging.ERROR)
        hook = register_optimizer_step_pre_hook(progress.require_finite)
        try:
            with seam(lerobot_train, lambda config: progress.begin(Path(config.output_dir))):
                lerobot_train.main()
        except SystemExit as stop:  # --help, or an option that it could not read and has explained
            return int(stop.code or 0)
        finally:
            hook.remove()
            _finish_wandb()
    return 0


def _parse(arguments: Sequence[str]) -> None:
    """Parses as LeRobot is going to, but for a mistake in one line instead of 600 lines of usage.

    Raises HandsightError.
    """
    import draccus
    from draccus.utils import DraccusException
    from lerobot.configs import parser
    from lerobot.configs.train import TrainPipelineConfig

    words = [word for word in arguments if not word.startswith("--config_path=") and parser.PLUGIN_DISCOVERY_SUFFIX not in word]
    words = parser.filter_path_args(TrainPipelineConfig.__get_path_fields__(), words)
    path = value(arguments, "config_path")
    try:
        with draccus.config_type("json"):
            local = path if path is not None and Path(path).is_file() and path.endswith(".json") else None
            draccus.parse(TrainPipelineConfig, config_path=local, args=words, exit_on_error=False)
    except (DraccusException, argparse.ArgumentError) as error:
        reason = " ".join(str(error).split())[:600]
        raise HandsightError(f"expected options that LeRobot's trainer has, got: {reason}; see `handsight train --help`") from error


@contextlib.contextmanager
def _argv(words: list[str]) -> Iterator[None]:
    previous, sys.argv = sys.argv, words
    try:
        yield
    finally:
        sys.argv = previous


def _finish_wandb() -> None:
    if "wandb" in sys.modules:  # or else nothing was logged
        from handsight.launch.track import finish_open_run

        finish_open_run()


def _prepare_wandb(arguments: Sequence[str]) -> None:
    """A run that was trained without wandb and is resumed with it: LeRobot insists on an earlier wandb run, so make one."""
    path = value(arguments, "config_path")
    if not _is_true(value(arguments, "resume")) or path is None or not Path(path).is_file():
        return
    config = json.loads(Path(path).read_text())
    saved = config.get("wandb") or {}
    wanted = {key: value(arguments, f"wandb.{key}") or saved.get(key) for key in ("enable", "run_id", "project", "entity", "mode")}
    folder = Path(value(arguments, "output_dir") or config["output_dir"])
    if not _is_true(str(wanted["enable"])) or wanted["run_id"] or (folder / "wandb" / "latest-run").exists():
        return
    from handsight.launch.track import start_for_resume

    start_for_resume(folder, str(wanted["project"]), wanted["entity"], wanted["mode"])
