"""A filmed episode: the video, and beside it what was felt and heard at every step, for the pictures of a page.

T steps, S samples.
"""

import zipfile
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.pool import Attributes, Transition
from handsight.launch.video import VideoWriter, compose
from handsight.sensors.errors import HandsightError
from handsight.sensors.pcm import float_to_int16
from handsight.sensors.types import AUDIO, TOUCH

SENSES_SUFFIX: Final = ".npz"  # beside the video, under the same name


@dataclass(frozen=True)
class Senses:
    """What was sensed in one episode, as the policy got it; a sensor that the environment does not have has no rows."""

    pressure: NDArray[np.float16]
    """(T, 2, 16, 16) normal pressure on the left and the right pad [kPa]."""
    sound: NDArray[np.int16]
    """(S,) from the first frame to the last."""
    phases: NDArray[np.str_]
    """(T,) what the scripted expert was doing; empty if another policy acted."""
    instructions: NDArray[np.str_]
    """(T,) what the policy was told; some tasks say something new on the way."""
    fps: int
    """Steps a second."""
    view: tuple[int, int]
    """Height and width of the view of the scene, the left part of every frame of the video."""

    def save(self, path: Path) -> None:
        """Replaces the file in one step."""
        partial = path.with_name(path.stem + ".partial" + path.suffix)
        with partial.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **{field.name: np.asarray(getattr(self, field.name)) for field in fields(self)})
        partial.replace(path)

    @classmethod
    def load(cls, path: Path) -> "Senses":
        """Raises HandsightError when the file is damaged."""
        try:
            with np.load(path, allow_pickle=False) as file:
                height, width = file["view"].tolist()
                return cls(
                    pressure=file["pressure"],
                    sound=file["sound"],
                    phases=file["phases"],
                    instructions=file["instructions"],
                    fps=int(file["fps"]),
                    view=(height, width),
                )
        except (ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
            raise HandsightError(f"expected touch and sound of a filmed episode in {path}, got {error}; remove the file") from error


class FilmWriter:
    """Films one episode; its files appear under their names only when they are complete.

    Args:
        path: of the video.
        attributes: of the environment.
    """

    def __init__(self, path: Path, attributes: Attributes) -> None:
        self.path = path
        self._fps = attributes.fps
        self._hears = AUDIO in attributes.observation_shapes
        self._video = VideoWriter(path, attributes.fps, sound=self._hears)
        self._view = (0, 0)
        self._pressure: list[NDArray[np.float16]] = []
        self._sound: list[NDArray[np.float32]] = []
        self._phases: list[str] = []
        self._instructions: list[str] = []

    def add(self, transition: Transition) -> None:
        """Takes the rendered frame and the observation of one step."""
        if transition.frame is None:
            return
        observation = transition.observation
        height, width = transition.frame.shape[:2]
        self._view = (height, width)
        self._video.add(compose(transition.frame, observation))
        # An observation holds the sound of the 50 ms before it, which belongs to the frame before; the first one has none.
        if self._hears and self._phases:
            self._sound.append(observation[AUDIO])
            self._video.hear(observation[AUDIO])
        if TOUCH in observation:
            self._pressure.append(observation[TOUCH][:, 0].astype(np.float16))
        self._phases.append(transition.phase)
        self._instructions.append(transition.task)

    def finish(self) -> None:
        """The video last: whoever sees it finds the rest."""
        self._senses().save(self.path.with_suffix(SENSES_SUFFIX))
        self._video.finish()

    def _senses(self) -> Senses:
        sound = np.concatenate(self._sound) if self._sound else np.zeros(0, np.float32)
        pressure = np.stack(self._pressure) if self._pressure else np.zeros((0, 2, 1, 1), np.float16)
        phases = np.array(self._phases if any(self._phases) else [], np.str_)
        return Senses(pressure, float_to_int16(sound), phases, np.array(self._instructions, np.str_), self._fps, self._view)

    def discard(self) -> None:
        """Leaves nothing behind."""
        self._video.discard()
