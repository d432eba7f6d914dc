"""Hearing on the microphone's signal with NumPy: how the scripted experts listen.

N samples of `AUDIO_RATE` per second.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.types import AUDIO, AUDIO_RATE, AUDIO_STEP, Observation

FINE: Final = 8192  # points of the transform of up to half a second: bins of 2 Hz
AUDIBLE_DB: Final = 20.0  # white noise has its highest bin up to about 13 dB above the median one


@dataclass(frozen=True)
class Peak:
    """The loudest component of a band."""

    frequency: float
    """[Hz]; 0 in silence."""
    level: float
    """Above the median of the band [dB]; 0 in silence."""

    @property
    def heard(self) -> bool:
        """Whether it stands out of noise."""
        return self.level > AUDIBLE_DB


def spectrum(sound: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Frequencies [Hz] and magnitudes of a sound (N,), each (K,), K = max(N, FINE) / 2 + 1.

    No window: what rings down within the sound has no edges to smear.
    """
    points = max(len(sound), FINE)
    frequencies = np.fft.rfftfreq(points, 1 / AUDIO_RATE).astype(np.float64)
    return frequencies, np.abs(np.fft.rfft(sound, points)).astype(np.float64)


def spectrum_peak(sound: NDArray[np.float32], low: float, high: float) -> Peak:
    """The loudest component of a sound (N,) between `low` and `high` [Hz]."""
    frequencies, magnitudes = spectrum(sound)
    band = (frequencies >= low) & (frequencies <= high)
    magnitude = magnitudes[band]
    best = int(magnitude.argmax())
    floor = float(np.median(magnitude))
    if floor <= 0.0:
        return Peak(0.0, 0.0)
    return Peak(float(frequencies[band][best]), float(20 * np.log10(magnitude[best] / floor)))


def band_energy(sound: NDArray[np.float32], low: float, high: float) -> float:
    """Mean square of a sound (N,) between `low` and `high` [Hz] (Parseval)."""
    frequencies, magnitudes = spectrum(sound)
    band = (frequencies >= low) & (frequencies <= high)
    points = 2 * (len(frequencies) - 1)
    return float(2 * np.square(magnitudes[band]).sum() / (points * len(sound)))


class Ear:
    """Keeps what was heard in the last `seconds`; starts in silence.

    Args:
        seconds: how long [s].
    """

    def __init__(self, seconds: float = 1.0) -> None:
        self._sound = np.zeros(round(seconds * AUDIO_RATE), np.float32)

    def hear(self, observation: Observation) -> None:
        """Adds one observation's sound; nothing if the environment has no microphone."""
        step = observation.get(AUDIO)
        if step is not None:
            self._sound = np.concatenate([self._sound[len(step) :], step])

    def last(self, steps: int) -> NDArray[np.float32]:
        """The sound of the last `steps` control steps, (steps AUDIO_STEP,) or as much as is kept."""
        return self._sound[-steps * AUDIO_STEP :]
