"""Other simulators, measured in the same run as ours: each in a virtual environment of its own, played by launch/peer_steps.py.

The environment is made once, by uv, and kept. Whatever goes wrong with a peer (no network, no uv, a crash) is a PeerError of one line.
"""

import json
import os
import re
import select
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from handsight.launch.step_costs import WORKERS, Sample
from handsight.sensors.errors import HandsightError

PICTURES: Final = ("same", "own")
SCRIPT: Final = Path(__file__).with_name("peer_steps.py")
INSTALLED: Final = "installed.json"
_UV_SCRIPT: Final = Path("launch/setup/setup.sh")
_INSTALL_SECONDS: Final = 900.0
_ANSWER_SECONDS: Final = 180.0  # besides the time that was asked for; a step at a peer's own settings may take a second


class PeerError(HandsightError):
    """A peer cannot be measured; the run goes on without it."""


@dataclass(frozen=True)
class Peer:
    """What pip installs. MuJoCo is pinned to the last release that the peer works with."""

    name: str
    requirements: tuple[str, ...]


# metaworld pins mujoco 3.3.0 itself, and Gymnasium's viewer needs packaging without saying so. gymnasium-robotics 1.4.2 stops at an
# assertion on joint types with later releases of MuJoCo.
PEERS: Final = {
    peer.name: peer
    for peer in (
        Peer("metaworld", ("metaworld==3.1.1", "mujoco==3.3.0", "gymnasium==1.4.0", "packaging")),
        Peer("gymnasium-robotics", ("gymnasium-robotics==1.4.2", "mujoco==3.3.0", "gymnasium==1.4.0", "packaging")),
    )
}


def chosen(names: str) -> list[Peer]:
    """Peers named in `a,b`; none for an empty string.

    Raises:
        HandsightError: an unknown name.
    """
    wanted = [name.strip() for name in names.split(",") if name.strip()]
    if unknown := [name for name in wanted if name not in PEERS]:
        raise HandsightError(f"expected --peers among {', '.join(PEERS)}, got {', '.join(unknown)}; --peers= measures none")
    return [PEERS[name] for name in dict.fromkeys(wanted)]


def environment(peer: Peer, root: Path) -> Path:
    """The Python of the peer's environment in `root`/NAME, which is made if it is missing, unfinished or of other requirements.

    Raises:
        PeerError: it cannot be made.
    """
    folder = root / peer.name
    python, stamp = folder / "bin/python", folder / INSTALLED
    wanted = json.dumps({"requirements": peer.requirements, "base": sys.base_prefix})
    if not (python.exists() and stamp.exists() and stamp.read_text() == wanted):
        uv = _uv()
        folder.parent.mkdir(parents=True, exist_ok=True)
        _run(uv, "venv", "--quiet", "--clear", "--python", sys.executable, str(folder))
        _run(uv, "pip", "install", "--quiet", "--python", str(python), *peer.requirements)
        stamp.write_text(wanted)  # last: what was interrupted has none
    return python


def _uv() -> str:
    """Where uv is: `make setup` knows, and gets it if it must; outside the repository it has to be on the path."""
    if _UV_SCRIPT.exists():
        return _run("sh", str(_UV_SCRIPT), "uv").strip()
    if found := shutil.which("uv"):
        return found
    raise PeerError("expected uv, got none; run in the repository or put uv on the path")


def _run(*command: str) -> str:
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_INSTALL_SECONDS, env=_variables(), check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerError(str(error)) from error
    if child.returncode != 0:
        raise PeerError(f"{' '.join(command[:3])} ended with {child.returncode}: {_joined(child.stderr)}")
    return child.stdout


def _variables() -> dict[str, str]:
    """Ours, so that both render alike (MUJOCO_GL, LP_NUM_THREADS), but for what leads to our packages."""
    return {name: value for name, value in os.environ.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH")} | {"PYTHONSAFEPATH": "1"}


def _joined(errors: str) -> str:
    """What uv says, in one line and without the address of an index."""
    said = errors.partition("hint:")[0]
    return re.sub(r"\w+://\S+", "(an address)", " ".join(said.split())) or "it said nothing"


def _last(errors: str) -> str:
    """The line in which Python names the error; what destructors complain about comes after it."""
    lines = errors.partition("Exception ignored")[0].strip().splitlines()
    return lines[-1].strip() if lines else "it said nothing"


class Worker:
    """One process that plays a peer; it says what it simulates and then waits.

    Raises:
        PeerError: it ends, or does not answer in time.
    """

    def __init__(self, command: Sequence[str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True, env=_variables()
            )
        except OSError as error:
            self._errors.close()
            raise PeerError(str(error)) from error

    def tell(self, content: dict[str, Any]) -> None:
        """One line in; a process that is gone is noticed when its answer is awaited."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.write(json.dumps(content) + "\n")
            self._process.stdin.flush()

    def hear(self, seconds: float = 0.0) -> dict[str, Any]:
        """One line out, which may take `seconds` of work."""
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], seconds + _ANSWER_SECONDS)
        if not ready:
            raise PeerError(f"no answer within {seconds + _ANSWER_SECONDS:.0f} s")
        line = self._process.stdout.readline()
        try:
            answer: dict[str, Any] = json.loads(line)
        except ValueError as error:
            raise PeerError(self._last_words(line)) from error
        return answer

    def _last_words(self, line: str) -> str:
        if line:
            return f"expected JSON, got {line.strip()!r}"
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(5.0)
        self._errors.seek(0)
        return f"ended with {self._process.poll()}: {_last(self._errors.read())}"

    def close(self) -> None:
        """Ends the process."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._errors):
            with suppress(BrokenPipeError):
                stream.close()  # type: ignore[union-attr]


@dataclass(frozen=True)
class Crew:
    """A peer's workers, idle between measurements, and what they simulate."""

    peer: Peer
    workers: list[Worker]
    description: dict[str, Any]

    def measure(self, size: int, pictures: str, seconds: float) -> Sample:
        """Plays for `seconds` with one worker, then with all of them at once."""
        answers = {count: self._play(count, size, pictures, seconds) for count in WORKERS}
        speeds = {count: sum(float(answer["steps_per_second"]) for answer in of_all) for count, of_all in answers.items()}
        return Sample(answers[1][0]["cpu_ms"], speeds)

    def _play(self, count: int, size: int, pictures: str, seconds: float) -> list[dict[str, Any]]:
        crew = self.workers[:count]
        for worker in crew:
            worker.tell({"size": size, "pictures": pictures})
        for worker in crew:
            worker.hear()  # only when all are ready does any of them start
        for worker in crew:
            worker.tell({"seconds": seconds})
        return [worker.hear(seconds) for worker in crew]


@contextmanager
def crew_of(peer: Peer, root: Path) -> Iterator[Crew]:
    """The peer's workers, started; ended when it closes.

    Raises:
        PeerError: the environment cannot be made, or a worker does not start.
    """
    command = [str(environment(peer, root)), str(SCRIPT), peer.name]
    with ExitStack() as stack:
        workers = []
        for _ in range(max(WORKERS)):
            workers.append(Worker(command))
            stack.callback(workers[-1].close)
        descriptions = [worker.hear() for worker in workers]
        yield Crew(peer, workers, descriptions[0])
