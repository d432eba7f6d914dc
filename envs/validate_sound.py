"""Checks envs/sound.py against what it was not made from: a blind estimator, the integrated equations of motion, published loss factors.

`modal_table` lets an estimator that knows nothing of the synthesis (the matrix pencil) find the modes in the microphone's signal.
`strike_table` compares that signal with oscillators, m q'' + c q' + k q = F(t), that a force pulse of finite width strikes.
`LOSS_FACTORS` are the published ranges in which the materials' loss factors have to lie.

M modes, K samples.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from handsight.envs.sound import GAIN_PER_NEWTON, MATERIALS, MODES, QUIET, TICKS, ContactSound, SoundSource
from handsight.sensors.types import AUDIO_RATE

Floats = NDArray[np.float64]
Complexes = NDArray[np.complex128]

AUDIBLE: Final = 1.0e-3  # of the strongest mode (60 dB); weaker modes are neither looked for nor heard
READ: Final = 800  # samples that are compared: 50 ms
RANK: Final = 1.0e-7  # singular values below this share of the largest are the rounding to 32-bit samples
PULSE_STEPS: Final = 50  # of the integration in one standard deviation of the pulse
PULSE_REACH: Final = 6.0  # standard deviations after which the pulse is over


@dataclass(frozen=True)
class Published:
    """Range of a loss factor in the literature."""

    low: float
    high: float
    source: str


# Read in the cell-by-cell transcriptions of these books' tables in github.com/jmrplens/phonometry (src/phonometry/solids/data).
LOSS_FACTORS: Final = {
    "metal": Published(
        1.0e-4, 2.0e-3, "steel 1-6e-4 to copper 2e-3: Norton and Karczub 2003, table 6.1; on mounts up to 1e-2: Bies 2017, C.1"
    ),
    "glass": Published(6.0e-4, 6.0e-3, "from 0.6-2e-3: Vigran 2008, table 3.1; to 3-6e-3: Hopkins 2007, table A2"),
    "wood": Published(8.0e-3, 5.0e-2, "spruce 8-10e-3: Vigran 2008, table 3.1; oak, beech, pine 4-5e-2: Bies 2017, table C.1"),
    "plastic": Published(1.0e-2, 1.4e-1, "polystyrene 0.01, PVC 0.04, acrylic 0.06, polyester 0.14: Mechel 2008, table 3"),
    "rubber": Published(5.0e-2, 6.0e-1, "neoprene 0.05-0.1: Bies 2017, C.1; silicone at most 0.6: Ver and Beranek 2006, table 14.1"),
}


@dataclass(frozen=True)
class ModeRow:
    """One mode of one material, as set and as found in the sound."""

    material: str
    mode: int
    frequency_set: float
    frequency_estimated: float
    frequency_error: float
    """Relative."""
    decay_set: float
    decay_estimated: float
    decay_error: float
    """Relative."""


@dataclass(frozen=True)
class StrikeRow:
    """One material's sound against the integrated equations of motion."""

    material: str
    pulse_ms: float
    """From the first to the last force [ms]."""
    level_error_db: float
    """Our rms over that of the reference, once the pulse is over."""
    waveform_error: float
    """rms of the difference over the rms of the reference. Ours strikes at once and thus leads by about alpha pulse^2: rubber by 0.2 ms."""


def modal_table(seed: int = 0, materials: Sequence[str] = tuple(MATERIALS)) -> list[ModeRow]:
    """Every mode within 60 dB of its material's strongest; the estimator is told neither their number nor where they are."""
    rows = []
    for material in materials:
        signal, modes = tap(material, seed)
        frequency, decay = estimate_modes(signal[:READ], AUDIO_RATE)
        audible = modes[2] >= AUDIBLE * modes[2].max()
        for mode in np.flatnonzero(audible):
            found = np.abs(frequency - modes[0, mode]).argmin()
            rows.append(_row(material, int(mode), modes[:2, mode], np.array([frequency[found], decay[found]])))
    return rows


def _row(material: str, mode: int, wanted: Floats, found: Floats) -> ModeRow:
    error = np.abs(found / wanted - 1.0)
    return ModeRow(
        material=material,
        mode=mode,
        frequency_set=float(wanted[0]),
        frequency_estimated=float(found[0]),
        frequency_error=float(error[0]),
        decay_set=float(wanted[1]),
        decay_estimated=float(found[1]),
        decay_error=float(error[1]),
    )


def tap(material: str, seed: int = 0, steps: int = 4) -> tuple[Floats, Floats]:
    """(K,) sound from the strike of 1 N on, without noise or gain, and (3, M) the source's modes."""
    sound = ContactSound(microphone=QUIET)
    sound.reset(np.random.default_rng(seed), (SoundSource(material),), resting=np.zeros(1))
    signal = np.concatenate([sound.step(np.ones((TICKS, 1))) for _ in range(steps)])
    return signal.astype(np.float64), sound.modes[0]


def estimate_modes(signal: Floats, rate: int) -> tuple[Floats, Floats]:
    """Frequencies [Hz] and decay rates [1/s] of a sum of damped sines, by the matrix pencil.

    (Hua and Sarkar, "Matrix pencil method for estimating parameters of exponentially damped/undamped sinusoids in noise", IEEE Trans. ASSP
    38(5), 1990.) The number of modes is the rank of the signal's Hankel matrix.
    """
    pencil = len(signal) // 3
    hankel = np.lib.stride_tricks.sliding_window_view(signal, pencil + 1)
    _, strength, right = np.linalg.svd(hankel, full_matrices=False)
    subspace = right[: int((strength > RANK * strength[0]).sum())].T  # (pencil + 1, 2 M)
    poles = np.linalg.eigvals(np.linalg.lstsq(subspace[:-1], subspace[1:], rcond=None)[0])
    exponent = np.log(poles[poles.imag > 0.0].astype(np.complex128)) * rate
    return exponent.imag / (2.0 * np.pi), -exponent.real


def strike_table(seed: int = 0, materials: Sequence[str] = tuple(MATERIALS)) -> list[StrikeRow]:
    """Our sound of a 1 N tap against that of the equations of motion, struck by a Gaussian pulse of the material's width."""
    rows = []
    for material in materials:
        signal, modes = tap(material, seed)
        width = MATERIALS[material].pulse
        time = np.arange(int(np.ceil(PULSE_REACH * width * AUDIO_RATE)), READ) / AUDIO_RATE  # from the end of the pulse on
        ours, reference = signal[READ - len(time) : READ], integrate(modes[0], modes[1], mode_gains(material, modes[0]), width, time)
        rows.append(
            StrikeRow(
                material=material,
                pulse_ms=2e3 * PULSE_REACH * width,
                level_error_db=float(20.0 * np.log10(_rms(ours) / _rms(reference))),
                waveform_error=float(_rms(ours - reference) / _rms(reference)),
            )
        )
    return rows


def mode_gains(material: str, frequency: Floats) -> Floats:
    """(M,) amplitude with which a mode would sound after an infinitely short blow of 1 N; the pulse's width is left to the integration."""
    share = np.where(np.arange(MODES) == 0, 1.0, MATERIALS[material].overtones)
    return np.where(frequency <= 0.45 * AUDIO_RATE, GAIN_PER_NEWTON * share / np.arange(1, MODES + 1), 0.0)


def integrate(frequency: Floats, decay: Floats, gain: Floats, width: float, time: Floats) -> Floats:
    """Sound of M oscillators, q'' + 2 alpha q' + (alpha^2 + (2 pi f)^2) q = F(t), struck by a Gaussian pulse F of unit impulse about t = 0.

    Exact for a force that is constant within a fine step: matrix exponentials by eigendecomposition. Neither the closed form of the ring
    nor the law for the pulse's spectrum, on which envs/sound.py rests, enters.

    Args:
        frequency: (M,) of the damped oscillation [Hz].
        decay: (M,) alpha [1/s].
        gain: (M,) amplitude that an infinitely short pulse would cause.
        width: standard deviation of the pulse [s].
        time: (K,) when the sound is read [s], not before the pulse is over.
    """
    turn = 2.0 * np.pi * frequency
    system = np.zeros((len(turn), 2, 2))
    system[:, 0, 1], system[:, 1, 0], system[:, 1, 1] = 1.0, -(decay**2 + turn**2), -2.0 * decay
    value, vector = np.linalg.eig(system)  # (M, 2), (M, 2, 2)
    force_enters = np.linalg.solve(vector, np.broadcast_to([[0.0], [1.0]], (len(turn), 2, 1)).astype(np.complex128))[..., 0]
    step = width / PULSE_STEPS
    middle = (np.arange(-PULSE_REACH * PULSE_STEPS, PULSE_REACH * PULSE_STEPS) + 0.5) * step
    force = np.exp(-0.5 * (middle / width) ** 2) / (width * np.sqrt(2.0 * np.pi))
    onward, pushed = np.exp(value * step), np.expm1(value * step) / value * force_enters
    state: Complexes = np.zeros_like(value)
    for push in force:
        state = onward * state + pushed * push
    after = np.exp(value[..., None] * (time - PULSE_REACH * width))  # (M, 2, K)
    position = np.einsum("me,me,mek->mk", vector[:, 0], state, after).real
    sound: Floats = (gain * turn) @ position
    return sound


def _rms(signal: Floats) -> float:
    return float(np.sqrt(np.square(signal).mean()))
