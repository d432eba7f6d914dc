"""The tests of this folder share strategies that are no package."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))
