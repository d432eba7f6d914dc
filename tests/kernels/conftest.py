"""The tests of this folder share strategies that are no package."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))


def pytest_configure(config: pytest.Config) -> None:
    """Triton's interpreter makes an index of an array of one element, which NumPy would rather not have."""
    config.addinivalue_line("filterwarnings", "ignore:Conversion of an array with ndim > 0:DeprecationWarning:triton")
