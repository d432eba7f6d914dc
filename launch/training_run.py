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

    Raises HandsightError when the training fails.
    """
    if _checkpoint(run, f"{steps:06d}").is_dir():
        return
    if _checkpoint(run, "last").is_dir():
        handsight("train", "--resume=true", f"--output_dir={run}", "--threads=1")
        return
    shutil.rmtree(run, ignore_errors=True)
    handsight("train", *options, f"--steps={steps}", f"--output_dir={run}", "--threads=1")


def handsight(*words: str) -> None:
    """One verb in a process of its own; its output is kept back unless it fails.

    Raises HandsightError with the last line of what it said.
    """
    code = "import sys; from handsight.launch.cli import main; sys.exit(main())"
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONSAFEPATH": "1"}
    done = subprocess.run([sys.executable, "-c", code, *words], env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise HandsightError(f"expected `handsight {' '.join(words)}` to succeed, got exit code {done.returncode}: {last}")


def _checkpoint(run: Path, name: str) -> Path:
    return run / "checkpoints" / name / "training_state"
