"""A training run as a step of a benchmark: in a process of its own, not repeated when it is there, continued when it was cut off."""

import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from handsight.sensors.errors import HandsightError


def train_once(run: Path, steps: int, options: Sequence[str]) -> None:
    """Trains into the folder `run` unless it holds a checkpoint of `steps`; goes on from the last checkpoint that it has.

    What it prints goes to a file beside the folder, which is told at the start: several may run at a time.

    Raises HandsightError when the training fails.
    """
    if _checkpoint(run, f"{steps:06d}").is_dir():
        return
    if _checkpoint(run, "last").is_dir():
        words = ["--resume=true"]
    else:
        shutil.rmtree(run, ignore_errors=True)
        words = [*options, f"--steps={steps}"]
    log = run.with_suffix(".log")
    print(f"training {run}, {steps} steps; to see how far it is: tail -f {log}", flush=True)
    handsight(log, "train", *words, f"--output_dir={run}", "--threads=1")


def handsight(log: Path, *words: str) -> None:
    """One verb in a process of its own; what it prints goes to the end of the file `log`.

    Raises HandsightError with the last line of what it said when it fails.
    """
    code = "import sys; from handsight.launch.cli import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("a") as file:
        done = subprocess.run([sys.executable, "-c", code, *words], env=environment, stdout=file, stderr=file, check=False)
    if done.returncode != 0:
        last = (log.read_text().strip().splitlines() or ["no message"])[-1]
        raise HandsightError(f"expected `handsight {' '.join(words)}` to succeed, got exit code {done.returncode}: {last}")


def _checkpoint(run: Path, name: str) -> Path:
    return run / "checkpoints" / name / "training_state"
