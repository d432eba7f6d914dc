"""Episode videos that browsers play: H.264, yuv420p, index at the front; with sound as AAC."""

from fractions import Fraction
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import av
import numpy as np
from numpy.typing import NDArray

from handsight.launch.pictures import pads
from handsight.sensors.types import AUDIO_RATE, FRONT, TOUCH, WRIST, Observation

GAP: Final = 2  # pixels between the parts of a frame


def compose(view: NDArray[np.uint8], observation: Observation) -> NDArray[np.uint8]:
    """The rendered view with what the policy senses beside it, each half as high: front over wrist camera, left over right finger pad.

    Args:
        view: (H, W, 3), H even.
        observation: cameras that are missing leave their place black, touch that is missing leaves none; zeroed ones look as the policy
            gets them.
    """
    half = view.shape[0] // 2
    columns = [[observation.get(key, np.zeros((1, 1, 3), np.uint8)) for key in (FRONT, WRIST)]]
    if TOUCH in observation:
        columns.append(pads(observation[TOUCH][:, 0]))
    return np.concatenate([view, *(np.concatenate([_framed(image, half) for image in column]) for column in columns)], axis=1)


def _framed(image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
    """Nearest neighbour, to show the pixels that the policy gets; black margins above and to the left set it apart."""
    pixels = np.arange(side - GAP)
    rows, columns = (pixels * length // len(pixels) for length in image.shape[:2])
    return np.pad(image[rows][:, columns], ((GAP, 0), (GAP, 0), (0, 0)))


class VideoWriter:
    """Writes frames (H, W, 3) uint8 with even H and W; the file appears under its name only when it is complete."""

    def __init__(self, path: Path, fps: int, *, sound: bool = False) -> None:
        self.path = path
        self._partial = path.with_name(path.stem + ".partial" + path.suffix)
        self._container = av.open(str(self._partial), "w", options={"movflags": "faststart"})
        self._stream = self._container.add_stream("libx264", rate=fps, options={"crf": "23", "preset": "veryfast"})
        self._stream.pix_fmt = "yuv420p"
        self._stream.thread_count = 1
        # 96 kbit/s keeps the ring of a struck object, and the noise of the microphone free of chirps.
        self._sound: Any = self._container.add_stream("aac", rate=AUDIO_RATE, layout="mono", bit_rate=96_000) if sound else None
        self._samples = 0

    def add(self, frame: NDArray[np.uint8]) -> None:
        self._stream.height, self._stream.width = frame.shape[:2]
        self._container.mux(self._stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))

    def hear(self, samples: NDArray[np.float32]) -> None:
        """Appends (S,) samples in [-1, 1] to the sound; call it after the first `add`."""
        frame = av.AudioFrame.from_ndarray(samples[None], format="fltp", layout="mono")
        frame.sample_rate, frame.time_base, frame.pts = AUDIO_RATE, Fraction(1, AUDIO_RATE), self._samples
        self._samples += len(samples)
        self._container.mux(self._sound.encode(frame))

    def finish(self) -> None:
        self._container.mux(self._stream.encode(None))
        if self._sound is not None and self._samples:
            self._container.mux(self._sound.encode(None))
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
