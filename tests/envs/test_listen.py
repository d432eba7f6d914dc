"""Listening: peaks of known sines, energy by Parseval, silence and noise."""

import numpy as np
import pytest

from handsight.envs.listen import Ear, band_energy, spectrum_peak
from handsight.sensors.types import AUDIO, AUDIO_RATE, AUDIO_STEP

TIME = np.arange(4800) / AUDIO_RATE


@pytest.mark.parametrize("frequency", [330.0, 523.0, 880.0, 1480.0])
def test_a_decaying_sine_in_noise_is_found(frequency: float, rng: np.random.Generator) -> None:
    ring = 0.05 * np.exp(-23 * TIME) * np.sin(2 * np.pi * frequency * TIME) + 0.003 * rng.standard_normal(len(TIME))
    peak = spectrum_peak(ring.astype(np.float32), 250, 1800)
    assert peak.heard
    assert abs(peak.frequency - frequency) < 6


def test_noise_and_silence_are_not_heard(rng: np.random.Generator) -> None:
    levels = [spectrum_peak(rng.standard_normal(4800).astype(np.float32), 250, 1800) for _ in range(300)]
    assert not any(peak.heard for peak in levels)
    assert not spectrum_peak(np.zeros(4800, np.float32), 250, 1800).heard


def test_a_peak_outside_the_band_is_left_out() -> None:
    tones = np.sin(2 * np.pi * 400 * TIME) + 0.1 * np.sin(2 * np.pi * 1200 * TIME)
    assert spectrum_peak(tones.astype(np.float32), 1000, 1500).frequency == pytest.approx(1200, abs=4)


def test_the_energy_of_a_sine_is_half_its_square() -> None:
    sine = (0.4 * np.sin(2 * np.pi * 1000 * TIME)).astype(np.float32)
    assert band_energy(sine, 0, 8000) == pytest.approx(0.08, rel=0.01)
    assert band_energy(sine, 2000, 8000) < 1e-4


def test_the_ear_keeps_the_last_second() -> None:
    ear = Ear(seconds=0.2)
    for value in range(6):
        ear.hear({AUDIO: np.full(AUDIO_STEP, value, np.float32)})
    ear.hear({})
    assert ear.last(2).tolist() == [4.0] * AUDIO_STEP + [5.0] * AUDIO_STEP
    assert len(ear.last(100)) == 4 * AUDIO_STEP
