"""Episode videos that browsers play: H.264, yuv420p, index at the front."""

from pathlib import Path
from types import TracebackType
from typing import Self

import av
import numpy as np
from numpy.typing import NDArray

from handsight.sensors.types import FRONT, WRIST, Observation


def compose(view: NDArray[np.uint8], observation: Observation) -> NDArray[np.uint8]:
    """The rendered view with what the policy sees beside it: front camera above, wrist camera below, each half as high.

    Args:
        view: (H, W, 3), H even.
        observation: cameras that are missing leave their place black; zeroed ones look as the policy sees them.
    """
    half = view.shape[0] // 2
    cameras = [_resize(observation[key], half) if key in observation else np.zeros((half, half, 3), np.uint8) for key in (FRONT, WRIST)]
    return np.concatenate([view, np.concatenate(cameras)], axis=1)


def _resize(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Nearest neighbour: shows the pixels that the policy gets."""
    rows = np.arange(side) * image.shape[0] // side
    columns = np.arange(side) * image.shape[1] // side
    return image[rows][:, columns]


class VideoWriter:
    """Writes frames (H, W, 3) uint8 with even H and W; the file appears under its name only when it is complete."""

    def __init__(self, path: Path, fps: int) -> None:
        self.path = path
        self._partial = path.with_name(path.stem + ".partial" + path.suffix)
        self._container = av.open(str(self._partial), "w", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "veryfast"})
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1

    def add(self, frame: NDArray[np.uint8]) -> None:
        self._stream.height, self._stream.width = frame.shape[:2]
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        self._container.close()
        self._partial.replace(self.path)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._container.close()
        self._partial.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish() if kind is None else self.discard()
