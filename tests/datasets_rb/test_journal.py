import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_episodes import SIZE, episode

from handsight.datasets_rb import journal
from handsight.datasets_rb.schema import RecordingSpec
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import FRONT, TOUCH

SPEC = RecordingSpec("fake/good", image_size=SIZE)


def test_writing_needs_neither_torch_nor_lerobot() -> None:
    code = "import handsight.datasets_rb.record, sys; print([m for m in ('torch', 'lerobot', 'transformers') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("images", ["video", "png"])
def test_reads_what_was_written(tmp_path: Path, images: str) -> None:
    packed = journal.pack(RecordingSpec("fake/good", image_size=SIZE, images=images), episode(3))
    journal.write(tmp_path, packed)
    read = journal.read(tmp_path, 3)
    assert (read.instruction, read.length, read.encoded, read.phase_names) == (
        packed.instruction,
        packed.length,
        packed.encoded,
        packed.phase_names,
    )
    assert read.columns.keys() == packed.columns.keys()
    for key, column in packed.columns.items():
        assert read.columns[key].dtype == column.dtype
        np.testing.assert_array_equal(read.columns[key], column)
    assert read.statistics.keys() == packed.statistics.keys()


def test_outcomes_and_forgetting(tmp_path: Path) -> None:
    journal.write(tmp_path, journal.pack(SPEC, episode(3)))
    journal.write_failure(tmp_path, 4)
    assert journal.outcomes(tmp_path) == {3: True, 4: False}
    journal.forget(tmp_path, 3)
    journal.forget(tmp_path, 4)
    assert not list(tmp_path.iterdir())


def test_a_full_disk_leaves_no_half_written_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = journal.pack(SPEC, episode(3))

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(HandsightError, match="expected free space"):
        journal.write(tmp_path, packed)
    assert not list(tmp_path.iterdir())


def test_refuses_an_episode_of_another_shape() -> None:
    with pytest.raises(HandsightError, match=r"expected observation\.images\.front of shape \(64, 64, 3\)"):
        journal.pack(RecordingSpec("fake/good", image_size=64), episode(0))
    missing = episode(0)
    del missing.observations[TOUCH]
    with pytest.raises(HandsightError, match=r"frames of observation\.touch"):
        journal.pack(SPEC, missing)


def test_video_keeps_colours(tmp_path: Path) -> None:
    images = episode(1).observations[FRONT]
    joined = journal.encode_video(images)
    import io

    import av

    with av.open(io.BytesIO(joined), "r") as container:
        decoded = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert decoded.shape == images.shape
    assert np.abs(decoded.astype(int) - images).mean() < 3
