"""Makes exact readings those of a robot: taken at the sensor's rate, noisy, delivered late. The knobs: sensors/realism.py. NumPy only.

    truth --every 1 / rate_hz--> reading --gain, noise--> reading --delay_s--> observation

Each sensor draws from a generator of its own, so that a knob of one changes no reading of another. An ideal sensor passes its reading on
untouched, bit by bit.
"""

import math
from collections import deque
from collections.abc import Callable
from typing import Any, Final, Protocol

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.pcm import AudioRing
from handsight.sensors.realism import CameraConfig, MicrophoneConfig, Realism, StateConfig, Timing, TouchConfig
from handsight.sensors.types import AUDIO, AUDIO_RATE, CONTROL_HZ, FRONT, STATE, STATE_NAMES, TOUCH, TOUCH_SHAPE, WRIST

Reading = NDArray[Any]
ROUNDING: Final = 1.0e-9  # of a step: 0.15 s times 20 Hz is 3, not 3.0000000000000004
LENGTHS: Final = [STATE_NAMES.index(name) for name in ("tcp_x", "tcp_y", "tcp_z", "finger_opening")]
FORCES: Final = [STATE_NAMES.index(name) for name in ("force_left", "force_right")]


def delay_steps(delay_s: float) -> int:
    """Control steps after which a reading is at least `delay_s` [s] old."""
    return math.ceil(delay_s * CONTROL_HZ - ROUNDING)


def reads_at(step: int, rate_hz: float) -> bool:
    """Whether a sensor of `rate_hz` takes a reading at this control step of an episode; at step 0 it does."""
    per_step = rate_hz / CONTROL_HZ
    return step == 0 or int(step * per_step + ROUNDING) > int((step - 1) * per_step + ROUNDING)


class Noise(Protocol):
    """What a sensor does to the truth. `draw` begins an episode; `apply` returns a reading of the same shape and type."""

    def draw(self, rng: np.random.Generator) -> None: ...

    def apply(self, truth: Reading) -> Reading: ...


class CameraNoise:
    """Independent normal noise on each pixel and colour, rounded and clipped to 0..255."""

    def __init__(self, config: CameraConfig) -> None:
        self._deviation = np.float32(config.noise)

    def draw(self, rng: np.random.Generator) -> None:
        """Begins an episode."""
        self._rng = rng

    def apply(self, truth: Reading) -> Reading:
        """(H, W, 3) uint8 to the same."""
        if not self._deviation:
            return truth
        noisy = self._rng.standard_normal(truth.shape, dtype=np.float32)
        noisy *= self._deviation  # in place: half a millisecond less a step
        noisy += truth
        np.clip(np.rint(noisy, out=noisy), 0.0, 255.0, out=noisy)
        return noisy.astype(np.uint8)


class StateNoise:
    """Normal noise on lengths and forces."""

    def __init__(self, config: StateConfig) -> None:
        self._config = config

    def draw(self, rng: np.random.Generator) -> None:
        """Begins an episode."""
        self._rng = rng

    def apply(self, truth: Reading) -> Reading:
        """(15,) float32 to the same."""
        config = self._config
        if not (config.noise_m or config.noise_n):
            return truth
        noisy, noise = truth.copy(), self._rng.standard_normal(len(truth))
        noisy[LENGTHS] += config.noise_m * noise[LENGTHS]
        noisy[FORCES] = np.maximum(noisy[FORCES] + config.noise_n * noise[FORCES], 0.0)
        return noisy


class TouchNoise:
    """A gain of each taxel's own, and normal noise on each component: max(0, gain p + noise) for the normal pressure."""

    def __init__(self, config: TouchConfig) -> None:
        self._config = config

    def draw(self, rng: np.random.Generator) -> None:
        """Draws the gains (2, 1, 16, 16) of this episode."""
        self._rng = rng
        pads, _, rows, columns = TOUCH_SHAPE
        self._gain = 1.0 + self._config.gain * rng.uniform(-1.0, 1.0, (pads, 1, rows, columns))

    def apply(self, truth: Reading) -> Reading:
        """(2, 3, 16, 16) float32 [kPa] to the same."""
        if not (self._config.gain or self._config.noise_kpa):
            return truth
        noisy = truth * self._gain
        if self._config.noise_kpa:
            noisy += self._config.noise_kpa * self._rng.standard_normal(truth.shape)
        noisy[:, 0] = np.maximum(noisy[:, 0], 0.0)
        return noisy.astype(np.float32)


class Channel:
    """Delivers one sensor's readings: call `reset` at the start of an episode, then `read` once a control step.

    Until the first reading of an episode has arrived, it is delivered early: the robot stood still before.
    """

    def __init__(self, timing: Timing, noise: Noise) -> None:
        self._rate = timing.rate_hz
        self._noise = noise
        self._readings: deque[Reading] = deque(maxlen=delay_steps(timing.delay_s) + 1)

    def reset(self, rng: np.random.Generator) -> None:
        """Begins an episode."""
        self._noise.draw(rng)
        self._readings.clear()
        self._step = 0

    def read(self, measure: Callable[[], Reading]) -> Reading:
        """What arrives at this step; `measure` is called only in steps at which the sensor reads."""
        due = reads_at(self._step, self._rate)
        self._step += 1
        self._readings.append(self._noise.apply(measure()) if due else self._readings[-1])
        return self._readings[0].copy()


class SoundChannel:
    """Delays a microphone's stream by whole samples; its gain and noise are the microphone's own (envs/sound.py)."""

    def __init__(self, config: MicrophoneConfig) -> None:
        self._late = round(config.delay_s * AUDIO_RATE)

    def reset(self, rng: np.random.Generator) -> None:
        """Silence, as before the first sample."""
        self._ring: AudioRing | None = None

    def read(self, measure: Callable[[], Reading]) -> Reading:
        """(S,) samples that arrive at this step."""
        block = measure()
        if not self._late:
            return block
        self._ring = self._ring or AudioRing(self._late + len(block))
        self._ring.push(block)
        return self._ring.latest()[: len(block)]


def channels(realism: Realism) -> dict[str, Channel | SoundChannel]:
    """One for each observation key, in a fixed order."""
    return {
        FRONT: Channel(realism.front, CameraNoise(realism.front)),
        WRIST: Channel(realism.wrist, CameraNoise(realism.wrist)),
        STATE: Channel(realism.state, StateNoise(realism.state)),
        TOUCH: Channel(realism.touch, TouchNoise(realism.touch)),
        AUDIO: SoundChannel(realism.audio),
    }
