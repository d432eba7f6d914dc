"""What every test relies on: no hub, no display, one thread, no time limits inside hypothesis, and a seeded generator."""

import os
from pathlib import Path

# Before anything imports torch, MuJoCo or huggingface_hub, which read these once.
os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("MUJOCO_GL", "egl")
os.environ.setdefault("LP_NUM_THREADS", "0")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("PYTHONSAFEPATH", "1")  # for the commands that tests start
os.environ.setdefault("TRITON_INTERPRET", "1")  # kernels run in Triton's interpreter; what compiles them starts a process without it

import numpy as np
import pytest
from hypothesis import settings

# Derandomised: the same examples in every run, so that a change and not a dice throw decides whether a test passes.
settings.register_profile("handsight", deadline=None, derandomize=True, max_examples=50)
settings.load_profile("handsight")


@pytest.fixture
def rng() -> np.random.Generator:
    """A generator with a fixed seed."""
    return np.random.default_rng(0)


@pytest.fixture(scope="session")
def repository() -> Path:
    """The folder that holds pyproject.toml."""
    return Path(__file__).resolve().parents[1]
