"""Two small datasets, written once."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))

from fake_episodes import record


@pytest.fixture(scope="session", params=["video", "png"])
def dataset(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seeds 0 to 6 without the failing 4, extended once, so with two files of each kind. Not to be changed."""
    root = tmp_path_factory.mktemp("dataset") / str(request.param)
    record(root, range(4), str(request.param))
    return record(root, range(4, 7), str(request.param))
