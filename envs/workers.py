"""Processes that simulate: they import neither torch nor LeRobot, whatever the parent's main module imported."""

import multiprocessing
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.context import SpawnContext, SpawnProcess
from typing import Any


@contextmanager
def main_module_hidden() -> Iterator[None]:
    """Spawned children re-import the parent's main module, which for LeRobot's trainer costs 31 CPU-seconds each; hide it."""
    main: dict[str, Any] = vars(sys.modules["__main__"])
    saved: dict[str, Any] = {name: main[name] for name in ("__spec__", "__file__") if name in main}
    main["__spec__"] = None
    main.pop("__file__", None)
    try:
        yield
    finally:
        main.update(saved)


class _QuietProcess(SpawnProcess):
    def start(self) -> None:
        with main_module_hidden():
            super().start()


class _QuietContext(SpawnContext):
    Process = _QuietProcess


def quiet_context() -> SpawnContext:
    """A spawn context for `ProcessPoolExecutor(mp_context=...)` or `.Process(...)` whose children start in well under a second.

    What runs in the children must be importable by name (a function of a module), not defined in the main script.
    """
    if multiprocessing.current_process().daemon:
        raise RuntimeError("expected to be called from a process that may have children, got a daemon; start workers from the parent")
    return _QuietContext()
