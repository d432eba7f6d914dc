"""Records episodes into a LeRobotDataset v3 that survives a kill at any moment.

    with Recorder(root, RecordingSpec(task="sense/tabletop_grasp")) as recorder:
        recorder.add(episode)                        # committed when it returns
    dataset = LeRobotDataset("local/name", root=root)  # only after the `with` block ended well

Until then the episodes are in `root/.journal`; opening a Recorder with the same arguments continues there.
"""

import fcntl
import json
import shutil
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Final, Self

from handsight.datasets_rb import journal
from handsight.datasets_rb.commit import HIDDEN, RECORD, STAGING, finish
from handsight.datasets_rb.journal import Episode
from handsight.datasets_rb.schema import DatasetSpec, RecordingSpec, require_same
from handsight.sensors.errors import HandsightError

JOURNAL: Final = ".journal"
_ARGUMENTS: Final = "arguments.json"


class ResumableDataset:
    """Appends the journal's episodes to the dataset in `root`, which it creates if needed; ordered by seed within one publication.

    Raises HandsightError if `root` holds something else, was made with other arguments, is being written by another process, or if
    the disk is full.
    """

    def __init__(self, root: str | Path, spec: DatasetSpec) -> None:
        self.root, self.spec = Path(root), spec
        self.journal: Final = self.root / JOURNAL
        """Where episodes are written, by `journal.write(folder, packed)`; workers may do it themselves."""
        _require_ours(self.root)
        with journal.full_disk_explained(self.root):
            self.journal.mkdir(parents=True, exist_ok=True)
            with ExitStack() as stack:
                self._lock = stack.enter_context(_lock(self.journal / "lock"))
                self._recover()
                self._published = self._read_published()
                self._require_same_arguments()
                stack.pop_all()  # all is well: `close` releases it

    def outcomes(self) -> dict[int, bool]:
        """Seed -> success, of every attempt so far, published or not."""
        published = dict.fromkeys(self._published["failed"], False) | dict.fromkeys(self._published["seeds"], True)
        return published | journal.outcomes(self.journal)

    def finished_seeds(self) -> set[int]:
        """Every seed that needs no further attempt."""
        return set(self.outcomes())

    def pending(self) -> int:
        """How many episodes wait in the journal for `publish`."""
        return sum(journal.outcomes(self.journal).values())

    def publish(self) -> None:
        """Turns what the journal holds into LeRobot's files; afterwards the dataset is whole and the journal empty."""
        pending = sorted(seed for seed, success in journal.outcomes(self.journal).items() if success)
        if not pending:
            return
        from handsight.datasets_rb import publish  # LeRobot takes 18 CPU-seconds to import: not before it is needed

        outcomes = self.outcomes()
        failed = sorted(seed for seed, success in outcomes.items() if not success)
        record = {
            "arguments": self.spec.to_json(),
            "phase_names": journal.read(self.journal, pending[0]).phase_names,
            "seeds": [*self._published["seeds"], *pending],
            "failed": failed,
        }
        publish.stage(self.root, self.journal, self.spec, pending, record)
        self._recover()
        self._published = self._read_published()

    def close(self) -> None:
        """Lets other processes record here; the journal stays unless it is empty."""
        if self._lock.closed:
            return
        if not journal.outcomes(self.journal):
            shutil.rmtree(self.journal, ignore_errors=True)
            if not any(self.root.iterdir()):
                self.root.rmdir()
        self._lock.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        try:
            if kind is None:
                self.publish()
        finally:
            self.close()

    def _recover(self) -> None:
        """Does the rest of an interrupted publication and removes what is unfinished or already published."""
        finish(self.root, self.journal)
        for folder in (STAGING, HIDDEN):
            shutil.rmtree(self.journal / folder, ignore_errors=True)
        for temporary in self.journal.glob(".*"):
            temporary.unlink()
        published = self._read_published()
        for seed in {*published["seeds"], *published["failed"]}:
            journal.forget(self.journal, seed)

    def _read_published(self) -> dict[str, Any]:
        path = self.root / RECORD
        content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"arguments": None, "seeds": [], "failed": []}
        return content

    def _require_same_arguments(self) -> None:
        path = self.journal / _ARGUMENTS
        existing = self._published["arguments"] or (json.loads(path.read_text()) if path.exists() else None)
        if existing is None:
            journal.write_atomically(path, json.dumps(self.spec.to_json()).encode())
        else:
            require_same(self.spec, existing, str(self.root))


class Recorder(ResumableDataset):
    """A dataset of episodes that were simulated."""

    spec: RecordingSpec

    def __init__(self, root: str | Path, spec: RecordingSpec) -> None:
        super().__init__(root, spec)

    def add(self, episode: Episode) -> None:
        """Commits one successful episode; of a failed one only the seed is remembered."""
        if episode.success:
            journal.write(self.journal, journal.pack(self.spec, episode))
        else:
            journal.write_failure(self.journal, episode.seed)


def _require_ours(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise HandsightError(f"expected --root to be a folder, got the file {root}; choose another --root")
    ours = (root / JOURNAL).exists() or (root / RECORD).exists()
    if root.exists() and any(root.iterdir()) and not ours:
        raise HandsightError(
            f"expected --root to be a new folder or a recording of ours, got {root} with other files; choose another --root"
        )


def _lock(path: Path) -> IO[bytes]:
    """An exclusive lock that the kernel releases when this process ends, however it ends."""
    file = path.open("wb")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        root = path.parent.parent
        raise HandsightError(f"expected to be the only one recording into {root}, got another running process; wait or stop it") from None
    return file
