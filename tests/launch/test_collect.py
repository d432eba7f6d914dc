import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from handsight.datasets_rb.schema import RecordingSpec
from handsight.launch.cli import main
from handsight.launch.collect import HOPELESS, collect
from handsight.sensors.errors import HandsightError

FAKES = Path(__file__).parents[1] / "fakes"
SOURCE = "fake_episodes:FakeSource"
SIZE = 32


@pytest.fixture(autouse=True)
def _fakes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FAKES))  # workers inherit it


def spec(task: str = "fake/good") -> RecordingSpec:
    return RecordingSpec(task, image_size=SIZE)


def table(root: Path) -> dict[str, list[Any]]:
    columns: dict[str, list[Any]] = pq.read_table(root / "data").sort_by("index").to_pydict()
    return columns


def seeds(root: Path) -> list[int]:
    return sorted(set(table(root)["episode_seed"]))


def test_the_dataset_does_not_depend_on_the_workers(tmp_path: Path) -> None:
    one = collect(tmp_path / "one", spec("fake/slow"), 6, workers=1, source=SOURCE)
    two = collect(tmp_path / "two", spec("fake/slow"), 6, workers=2, source=SOURCE)
    assert (one.episodes, one.attempts, one.failures) == (two.episodes, two.attempts, two.failures) == (6, 7, 1)
    assert table(tmp_path / "one") == table(tmp_path / "two")
    assert seeds(tmp_path / "one") == [0, 1, 2, 3, 5, 6]
    assert one.frames == len(table(tmp_path / "one")["index"])


def test_asking_for_more_extends_and_remembers_failures(tmp_path: Path) -> None:
    collect(tmp_path / "ds", spec(), 5, workers=1, source=SOURCE)
    more = collect(tmp_path / "ds", spec(), 9, workers=2, source=SOURCE)
    assert (more.episodes, more.attempts, more.failures) == (9, 5, 2)  # seeds 6 to 10; 4 is not tried again
    assert seeds(tmp_path / "ds") == [0, 1, 2, 3, 5, 6, 7, 8, 10]
    nothing = collect(tmp_path / "ds", spec(), 9, workers=1, source=SOURCE)
    assert (nothing.episodes, nothing.attempts) == (9, 0)


def start(root: Path, episodes: int) -> "subprocess.Popen[str]":
    """A recording in a process of its own group, as a shell would start it."""
    code = (
        "import sys; from handsight.launch.collect import collect; from handsight.datasets_rb.schema import RecordingSpec\n"
        f"collect({str(root)!r}, RecordingSpec('fake/slow', image_size={SIZE}), {episodes}, workers=2, source={SOURCE!r})"
    )
    environment = os.environ | {"PYTHONPATH": str(FAKES)}
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


def wait_for_episodes(root: Path, wanted: int) -> None:
    deadline = time.monotonic() + 120
    while len(list((root / ".journal").glob("seed-*"))) < wanted and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len(list((root / ".journal").glob("seed-*"))) >= wanted


def test_a_killed_recording_continues_to_the_same_dataset(tmp_path: Path) -> None:
    process = start(tmp_path / "killed", 1000)
    wait_for_episodes(tmp_path / "killed", 4)
    process.send_signal(signal.SIGKILL)
    process.communicate()  # also waits for the workers: they hold the pipe until they have noticed
    assert not (tmp_path / "killed" / "meta").exists()
    kept = len(list((tmp_path / "killed" / ".journal").glob("seed-*")))
    result = collect(tmp_path / "killed", spec("fake/slow"), kept + 2, workers=2, source=SOURCE)
    assert result.episodes == kept + 2
    assert result.attempts <= 6  # those that were under way, the two new ones and a failure
    collect(tmp_path / "whole", spec("fake/slow"), kept + 2, workers=1, source=SOURCE)
    assert table(tmp_path / "killed") == table(tmp_path / "whole")


def test_interrupting_keeps_what_is_finished(tmp_path: Path) -> None:
    process = start(tmp_path / "ds", 1000)
    wait_for_episodes(tmp_path / "ds", 3)
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the workers too
    _, errors = process.communicate()
    assert process.returncode != 0
    assert "KeyboardInterrupt: interrupted with" in errors.splitlines()[-1]
    assert "run the same command to continue" in errors.splitlines()[-1]
    assert len(list((tmp_path / "ds" / ".journal").glob("seed-*"))) >= 3


def test_workers_load_neither_torch_nor_lerobot(tmp_path: Path) -> None:
    collect(tmp_path / "ds", spec("fake/modules"), 1, workers=1, source=SOURCE)
    assert pq.read_table(tmp_path / "ds" / "meta" / "tasks.parquet").to_pydict()["task"] == ["loaded: "]


def test_a_hopeless_expert_and_a_dying_worker_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(HandsightError, match=f"got {HOPELESS}.* failures in a row|got \\d+ failures in a row"):
        collect(tmp_path / "hopeless", spec("fake/hopeless"), 3, workers=1, source=SOURCE)
    with pytest.raises(HandsightError, match="was killed"):
        collect(tmp_path / "die", spec("fake/die"), 3, workers=1, source=SOURCE)


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        ([], "expected --env.task=FAMILY/NAME and --root=DIR"),
        (["--env.task=sense/tabletop_grasp"], "expected --env.task=FAMILY/NAME and --root=DIR"),
        (["--env.task=sense/nothing", "--root={}"], "expected --env.task to be one of"),
        (["--env.task=sense/tabletop_grasp", "--root={}", "--episodes=0"], "--episodes and --workers of at least 1"),
        (["--env.task=sense/tabletop_grasp", "--root={}", "--images=gif"], "--images=video or --images=png"),
        (["--env.task=sense/tabletop_grasp", "--root={}", "--episode=3"], "got --episode"),
    ],
)
def test_wrong_arguments_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str], argv: list[str], message: str) -> None:
    assert main(["collect", *(word.format(tmp_path / "ds") for word in argv)]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("handsight: error: ")]
    assert len(lines) == 1
    assert message in lines[0]
    assert not (tmp_path / "ds" / "meta").exists()


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["collect", "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    assert all(f"--{name}" in text for name in ("env.task", "episodes", "root", "workers", "seed", "image_size", "images", "noise"))
