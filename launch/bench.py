"""`handsight bench NAME [--quick]`: regenerates a table of results.

    handsight bench reader --quick

A benchmark is a module launch/bench_NAME.py whose `main(argv)` does the work; what follows NAME goes to it. --quick takes seconds to a few
minutes and shows that everything runs; only the full run gives numbers to report. Results go to launch/results.
"""

import difflib
import importlib
from pathlib import Path
from typing import Final

from handsight.sensors.errors import HandsightError

_PREFIX: Final = "bench_"


def names() -> list[str]:
    """Every benchmark, sorted."""
    return sorted(path.stem.removeprefix(_PREFIX) for path in Path(__file__).parent.glob(f"{_PREFIX}*.py"))


def main(argv: list[str]) -> int:
    """Runs one benchmark, or lists them."""
    if not argv or argv[0] in ("-h", "--help"):
        print(f"{__doc__}\nbenchmarks: {', '.join(names())}")
        return 0
    name, *rest = argv
    if name not in names():
        close = difflib.get_close_matches(name, names(), n=1)
        hint = f"; did you mean {close[0]}?" if close else ""
        raise HandsightError(f"expected a benchmark ({', '.join(names())}), got {name!r}{hint}")
    code: int = importlib.import_module(f"handsight.launch.{_PREFIX}{name}").main(rest)
    return code
