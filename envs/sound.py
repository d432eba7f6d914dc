"""Contact sound by modal synthesis: every object is a bank of damped resonators struck by rising contact force.

A source rings in M = 8 modes. A rise of the contact force by dF [N] at time s adds to the microphone's signal

    y(t) = gain dF sum_m a_m exp(-alpha_m (t - s)) sin(2 pi f_m (t - s)),   t >= s

with f_m = f_0 r_m (f_0 inversely proportional to size), alpha_m = air + pi f_m eta (eta: the material's loss factor) and a_m falling with
the width of the contact pulse (soft materials strike softly). (van den Doel and Pai, "The sounds of physical shapes", Presence 7(4), 1998.)
The ratios r_m are those of a free disc and the loss factors lie in published ranges (envs/validate_sound.py, which also measures the
result); f_0, air and pulse are plausible choices, not fitted to recordings. Each mode is one complex number that rotates and decays from
tick to tick, so tails of any length carry over exactly: a cut into steps is not audible, and the cost does not depend on the number of
strikes.

K ticks a step (500 Hz), S samples a tick, N sources, M modes.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import MicrophoneConfig
from handsight.sensors.types import AUDIO_RATE, AUDIO_STEP

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

TICKS: Final = 25  # of physics in a control step
MODES: Final = 8
REFERENCE_SIZE: Final = 0.04  # [m] object size at which a material sounds at its f0
# lambda^2 of a thin disc with a free edge, Poisson's ratio 0.33 (Leissa, "Vibration of plates", NASA SP-160, 1969, table 2.5), of the modes
# with (nodal diameters, circles) (2, 0) (0, 1) (3, 0) (1, 1) (4, 0) (5, 0) (2, 1) (0, 2). The tests solve the equation: within 0.4%.
FREE_DISC: Final = np.array([5.253, 9.084, 12.23, 20.52, 21.6, 33.1, 35.25, 38.55])
MODE_RATIOS: Final = FREE_DISC / FREE_DISC[0]
RATIO_SPREAD: Final = 0.03  # objects of one material differ in their overtones, never in f0
GAIN_PER_NEWTON: Final = 0.03  # full scale needs a blow of 20 to 35 N (rubber: 65 N) within one tick
QUIET_RISE: Final = 0.05  # [N a tick] slower loading (25 N/s) is silent: otherwise a squeeze would hum at the tick rate
REFERENCE_RMS: Final = 4.5e-3  # of the 50 ms after a 1 N tap on plastic of reference size; SNR counts from here
QUIET_SHARE: Final = 0.2  # of the load already there; a firmer grip or a jerk while carrying is no knock. Scale-free, so sound stays linear
ONSET: Final = 4  # ticks after a strike in which a ring reaches its peak: a quarter period, down to 31 Hz
SILENCE: Final = 1.0e-9  # mode amplitude that is set to zero, before it becomes a slow denormal number


@dataclass(frozen=True)
class Material:
    """How a solid rings."""

    frequency: float
    """f0 of an object of REFERENCE_SIZE [Hz]."""
    loss: float
    """Loss factor eta: the share of energy lost, per radian."""
    air: float
    """Decay rate at every frequency [1/s]: air, and the hand or table that holds the object."""
    pulse: float
    """Width of the contact pulse [s]; modes well above 1 / (2 pi pulse) are not excited."""
    overtones: float = 1.0
    """Share of the usual amplitude that the modes above the first have; a button's tone is nearly pure."""


MATERIALS: Final = {
    "metal": Material(frequency=1450.0, loss=0.0015, air=8.0, pulse=2.0e-5),
    "glass": Material(frequency=2100.0, loss=0.004, air=12.0, pulse=2.0e-5),
    "wood": Material(frequency=620.0, loss=0.025, air=25.0, pulse=8.0e-5),
    "plastic": Material(frequency=850.0, loss=0.05, air=30.0, pulse=1.2e-4),
    "rubber": Material(frequency=180.0, loss=0.3, air=40.0, pulse=9.0e-4),
    # no solid but a button's tone: every pitch lasts equally long (40 dB down after 0.2 s) and is equally loud
    "chime": Material(frequency=880.0, loss=0.0, air=23.0, pulse=2.0e-5, overtones=0.05),
}


@dataclass(frozen=True)
class SoundSource:
    """One thing that sounds when struck."""

    material: str
    size: float = REFERENCE_SIZE
    """Largest half extent or so [m]; twice the size sounds an octave lower."""
    frequency: float | None = None
    """f0 [Hz] instead of the one that follows from material and size: a button's tone."""
    gain: float = 1.0
    """How much louder than a solid of this material: a closed box amplifies the bead that rattles in it."""

    def __post_init__(self) -> None:
        if self.material not in MATERIALS:
            raise HandsightError(f"expected a material of {', '.join(MATERIALS)}, got {self.material!r}; correct the object's definition")
        if not self.size > 0.0 or (self.frequency is not None and not self.frequency > 0.0):
            raise HandsightError(
                f"expected size > 0 m and frequency > 0 Hz, got {self.size} and {self.frequency}; correct the object's definition"
            )
        if not self.gain > 0.0:
            raise HandsightError(f"expected gain > 0, got {self.gain}; leave out the source of a thing that makes no sound")


QUIET: Final = MicrophoneConfig(gain_db=0.0, snr_db=None)


class ContactSound:
    """Turns contact forces into the microphone's signal, one control step at a time; call `reset` before the first `step`.

    A force need not come from physics: a virtual source (a melody played at reset) is a column that is 0 but for the tick of its strike.
    """

    modes: Floats
    """(N, 3, M): frequency [Hz], decay rate [1/s] and weight of every mode of every source, as drawn at reset."""
    heard: frozenset[int]
    """Sources struck in the last step loudly enough to be heard: the ring of the hardest of their strikes alone peaks above the rms of the
    microphone's noise (any audible strike does if there is no noise). Neither other sources nor earlier tails are thought to mask it."""

    def __init__(
        self, *, rate: int = AUDIO_RATE, step: int = AUDIO_STEP, ticks: int = TICKS, microphone: MicrophoneConfig | None = None
    ) -> None:
        if step % ticks:
            raise ValueError(f"expected a step of a whole number of samples for each of {ticks} ticks, got {step}; change rate or ticks")
        self._rate, self._ticks, self._samples = rate, ticks, step // ticks
        self._microphone = MicrophoneConfig() if microphone is None else microphone
        self.reset(np.random.default_rng(0), ())

    def reset(self, rng: np.random.Generator, sources: tuple[SoundSource, ...], resting: Floats | None = None) -> None:
        """Begins an episode in silence.

        Args:
            rng: the episode's generator; overtones, gain and noise level are drawn now, the noise itself in every step.
            sources: what sounds, in the order of the columns of `step`'s forces.
            resting: (N,) forces before the first step [N]; by default the first row of the first step, so that what already lies on the
                table does not knock.
        """
        self._rng = rng
        self._previous = None if resting is None else np.array(resting, dtype=np.float64)
        self._gain = 10.0 ** (rng.uniform(-1.0, 1.0) * self._microphone.gain_db / 20.0)
        snr_db = rng.uniform(*(self._microphone.snr_db or (0.0, 0.0)))  # drawn in any case: the objects must not change with the microphone
        self._noise = REFERENCE_RMS * 10.0 ** (-snr_db / 20.0) if self._microphone.snr_db else 0.0
        self.heard = frozenset()
        self._build(rng, sources)

    def _build(self, rng: np.random.Generator, sources: tuple[SoundSource, ...]) -> None:
        self.modes = np.array([_modes(source, self._rate, rng) for source in sources]).reshape(len(sources), 3, MODES)
        frequency, decay, weight = self.modes.transpose(1, 0, 2).reshape(3, -1)
        exponent = (-decay + 2.0j * np.pi * frequency) / self._rate  # (N M,) of one sample
        self._waves: Complexes = np.exp(exponent[:, None] * np.arange(self._samples))  # (N M, S)
        self._turn: Complexes = np.exp(exponent * self._samples)  # (N M,) over one tick
        self._weight: Floats = weight * GAIN_PER_NEWTON
        self._state: Complexes = np.zeros(len(exponent), dtype=np.complex128)
        self._sources = len(sources)
        onset = np.exp(exponent[:, None] * np.arange(ONSET * self._samples)).imag * self._weight[:, None]  # (N M, ONSET S)
        self._peak: Floats = np.abs(onset.reshape(len(sources), MODES, onset.shape[1]).sum(axis=1)).max(axis=1)  # (N,) of a 1 N strike

    def step(self, forces: Floats) -> NDArray[np.float32]:
        """(K, N) contact force on each source [N], oldest first -> (K S,) samples in [-1, 1].

        A source's force is the sum of the normal forces of its contacts. (The length of the net force will not do: two pads that close on
        an object cancel, so the grasp is silent, while every jerk of carrying it sounds like a knock.)
        """
        if forces.shape != (self._ticks, self._sources):
            raise ValueError(f"expected forces of shape {(self._ticks, self._sources)}, got {forces.shape}; reset with the scene's sources")
        strikes = self._strikes(forces)
        self.heard = frozenset(np.flatnonzero(strikes.max(axis=0) * self._peak > self._noise).tolist())
        signal = self._ring(strikes)
        if self._noise:
            signal += self._noise * self._rng.standard_normal(len(signal))
        return np.asarray(np.clip(signal * self._gain, -1.0, 1.0), dtype=np.float32)

    def _strikes(self, forces: Floats) -> Floats:
        """(K, N) rises of the force from tick to tick that are fast enough to be heard [N]."""
        before = forces[0] if self._previous is None else self._previous
        self._previous = forces[-1].copy()
        load = np.concatenate([before[None], forces[:-1]])
        rise = forces - load
        return np.where(rise > np.maximum(QUIET_RISE, QUIET_SHARE * load), rise, 0.0)

    def _ring(self, strikes: Floats) -> Floats:
        """(K, N) strikes [N] -> (K S,) samples, from and to the state of the resonators."""
        if not (strikes.any() or self._state.any()):
            return np.zeros(self._ticks * self._samples)
        blows = np.repeat(strikes, MODES, axis=1) * self._weight  # (K, N M)
        states = np.empty(blows.shape, dtype=np.complex128)
        state = self._state
        for tick, blow in enumerate(blows):
            states[tick] = state = state + blow
            state = state * self._turn
        self._state = np.where(np.abs(state) < SILENCE, 0.0, state)
        # Im(z w) from real products: half the work of the complex one
        signal: Floats = states.real @ self._waves.imag + states.imag @ self._waves.real  # (K, S)
        return signal.reshape(-1)


def _modes(source: SoundSource, rate: int, rng: np.random.Generator) -> Floats:
    """(3, M): frequency [Hz], decay rate [1/s] and weight of each mode; modes near or above the Nyquist frequency are silent."""
    material = MATERIALS[source.material]
    spread = 1.0 + RATIO_SPREAD * rng.uniform(-1.0, 1.0, MODES)
    spread[0] = 1.0
    fundamental = source.frequency if source.frequency is not None else material.frequency * REFERENCE_SIZE / source.size
    frequency = fundamental * MODE_RATIOS * spread
    decay = material.air + np.pi * frequency * material.loss
    weight = np.exp(-0.5 * (2.0 * np.pi * frequency * material.pulse) ** 2) / np.arange(1, MODES + 1) * source.gain
    weight[1:] *= material.overtones
    weight[frequency > 0.45 * rate] = 0.0
    return np.stack([frequency, decay, weight])
