"""Contact sound: silent without contact, linear in the blow, at the right pitch, and seamless across steps."""

import numpy as np
import pytest

from handsight.envs.sound import (
    GAIN_PER_NEWTON,
    MATERIALS,
    QUIET,
    QUIET_RISE,
    REFERENCE_RMS,
    REFERENCE_SIZE,
    TICKS,
    ContactSound,
    MicrophoneConfig,
    SoundSource,
)
from handsight.sensors.errors import HandsightError

EVERY = tuple(SoundSource(name) for name in MATERIALS)


def listen(sources: tuple[SoundSource, ...], forces: np.ndarray, *, seed: int = 0, microphone: MicrophoneConfig = QUIET) -> np.ndarray:
    sound = ContactSound(microphone=microphone)
    sound.reset(np.random.default_rng(seed), sources)
    return np.concatenate([sound.step(chunk) for chunk in forces.reshape(-1, TICKS, len(sources))])


def blow(newtons: float, *, steps: int = 20, tick: int = 40, sources: int = 1, source: int = 0) -> np.ndarray:
    forces = np.zeros((steps * TICKS, sources))
    forces[tick : tick + 3, source] = newtons
    return forces


@pytest.mark.parametrize("material", MATERIALS)
def test_silent_before_contact_and_loud_after(material: str) -> None:
    signal = listen((SoundSource(material),), blow(2.0))
    assert signal.shape == (20 * 800,)
    assert signal.dtype == np.float32
    assert not signal[: 40 * 32].any()
    assert np.abs(signal[40 * 32 : 42 * 32]).max() > 1e-3
    assert np.abs(signal[-800:]).max() < np.abs(signal).max()


def test_silent_at_rest_while_unloading_and_while_slowly_squeezing() -> None:
    forces = np.concatenate([np.full(25, 9.0), np.linspace(9.0, 0.0, 50), np.linspace(0.0, 6.0, 300), np.full(50, 6.0)])
    assert np.diff(forces).max() < QUIET_RISE
    assert not listen((SoundSource("metal"),), forces[:, None]).any()


def test_jerks_of_a_held_object_are_silent_but_a_blow_is_not() -> None:
    held = np.full((50, 1), 15.0)
    held[10::5] += 2.5
    assert not listen((SoundSource("metal"),), held).any()
    held[30] += 10.0
    assert listen((SoundSource("metal"),), held).any()


def test_linear_in_force() -> None:
    rng = np.random.default_rng(1)
    forces = rng.uniform(0, 1, (10 * TICKS, 5)) * (rng.uniform(size=(10 * TICKS, 5)) < 0.02) + 0.0
    forces[(forces > 0) & (forces < 2 * QUIET_RISE)] = 0.5
    one, two = listen(EVERY, forces), listen(EVERY, 2 * forces)
    assert np.abs(two).max() < 1.0
    np.testing.assert_allclose(two, 2 * one, rtol=1e-5, atol=1e-7)


def test_sources_add_up() -> None:
    together = blow(1.0, sources=5, source=1) + blow(1.0, sources=5, source=3, tick=45)
    apart = [listen(EVERY, blow(1.0, sources=5, source=s, tick=t)) for s, t in ((1, 40), (3, 45))]
    np.testing.assert_allclose(listen(EVERY, together), sum(apart), atol=1e-7)


@pytest.mark.parametrize(
    ("source", "pitch"),
    [(SoundSource(name), material.frequency) for name, material in MATERIALS.items()]
    + [(SoundSource("wood", size=2 * REFERENCE_SIZE), MATERIALS["wood"].frequency / 2), (SoundSource("metal", frequency=880.0), 880.0)],
)
def test_dominant_frequency(source: SoundSource, pitch: float) -> None:
    signal = listen((source,), blow(1.0))
    frequency = np.fft.rfftfreq(4 * len(signal), 1 / 16_000)
    peak = frequency[np.abs(np.fft.rfft(signal, 4 * len(signal))).argmax()]
    np.testing.assert_allclose(peak, pitch, rtol=0.04)  # strong damping pulls the spectral peak to sqrt(f^2 - (alpha / 2 pi)^2)


def test_materials_decay_in_order() -> None:
    def fall(material: str) -> float:
        """Time [s] until 99% of the energy has passed."""
        energy = np.cumsum(np.square(listen((SoundSource(material),), blow(1.0, tick=1)), dtype=np.float64))
        return float(np.searchsorted(energy, 0.99 * energy[-1])) / 16_000

    times = [fall(name) for name in ("metal", "glass", "wood", "plastic", "rubber")]
    assert times == sorted(times, reverse=True), times


def test_steps_join_into_one_shot_synthesis() -> None:
    """The same forces in 30 steps, in one long step, and as the textbook's sum of damped sines."""
    forces = blow(1.5, steps=30) + blow(3.0, steps=30, tick=49) + blow(0.7, steps=30, tick=301)
    source = SoundSource("metal", size=0.05)
    stepped = listen((source,), forces)
    whole = ContactSound(step=30 * 800, ticks=30 * TICKS, microphone=QUIET)
    whole.reset(np.random.default_rng(0), (source,))
    np.testing.assert_allclose(stepped, whole.step(forces), atol=1e-7)

    rises = np.maximum(np.diff(forces[:, 0], prepend=0.0), 0.0)
    material = MATERIALS["metal"]
    fundamental = material.frequency * REFERENCE_SIZE / source.size
    rng = np.random.default_rng(0)
    rng.uniform()  # the microphone's gain is drawn first
    ratios = np.array([1.0, 1.58, 2.24, 2.92, 3.46, 4.15, 4.94, 5.71]) * (1 + 0.03 * np.r_[0.0, rng.uniform(-1, 1, 8)[1:]])
    time = np.arange(len(stepped)) / 16_000
    expected = np.zeros(len(stepped))
    for tick in np.flatnonzero(rises):
        after = np.maximum(time - tick * 0.002, 0.0)
        for order, frequency in enumerate(fundamental * ratios, start=1):
            weight = np.exp(-0.5 * (2 * np.pi * frequency * material.pulse) ** 2) / order * (frequency <= 7200)
            decay = np.exp(-(material.air + np.pi * frequency * material.loss) * after)
            expected += GAIN_PER_NEWTON * rises[tick] * weight * decay * np.sin(2 * np.pi * frequency * after)
    np.testing.assert_allclose(stepped, expected, atol=1e-6)


def test_no_click_at_the_border_of_steps() -> None:
    """At 800-sample borders the second difference is no larger than elsewhere in the tail."""
    signal = listen((SoundSource("metal"),), blow(1.0, tick=1)).astype(np.float64)
    bend = np.abs(np.diff(signal, n=2))
    for border in range(800, 8000, 800):
        assert bend[border - 3 : border + 2].max() <= bend[border - 120 : border - 3].max() * 1.05


def test_same_seed_same_bytes() -> None:
    forces = blow(2.0, sources=5, source=2)
    first, again, other = (listen(EVERY, forces, seed=seed, microphone=MicrophoneConfig()) for seed in (3, 3, 4))
    assert first.tobytes() == again.tobytes() != other.tobytes()


@pytest.mark.parametrize("material", ["metal", "glass", "wood", "plastic"])
@pytest.mark.parametrize("seed", range(5))
def test_noise_floor_stays_far_below_a_contact(material: str, seed: int) -> None:
    """A firm 5 N tap has at least 20 times (13 dB) the energy of the noise of a step, at any drawn gain and noise."""
    signal = listen((SoundSource(material),), blow(5.0, tick=50), seed=seed, microphone=MicrophoneConfig())
    floor, contact = (np.square(signal[start : start + 800], dtype=np.float64).mean() for start in (800, 1600))
    assert 0 < floor <= (1.1 * REFERENCE_RMS * 10 ** ((6 - 10) / 20)) ** 2
    assert contact > 20 * floor


def test_gain_stays_within_its_range() -> None:
    gains = []
    for seed in range(40):
        config = MicrophoneConfig(gain_db=6.0, snr_db=None)
        reference = np.abs(listen((SoundSource("metal"),), blow(1.0), seed=seed)).max()
        gains.append(20 * np.log10(np.abs(listen((SoundSource("metal"),), blow(1.0), seed=seed, microphone=config)).max() / reference))
    assert -6 <= min(gains) < -3
    assert 3 < max(gains) <= 6


def test_loud_blows_are_clipped_to_full_scale() -> None:
    signal = listen((SoundSource("metal"),), blow(1000.0))
    assert np.abs(signal).max() == 1.0


def test_resting_force_is_the_baseline() -> None:
    sound = ContactSound(microphone=QUIET)
    sound.reset(np.random.default_rng(0), (SoundSource("wood"),), resting=np.array([0.0]))
    assert sound.step(np.full((TICKS, 1), 2.0)).any()
    sound.reset(np.random.default_rng(0), (SoundSource("wood"),))
    assert not sound.step(np.full((TICKS, 1), 2.0)).any()


def test_no_sources_is_silence() -> None:
    sound = ContactSound(microphone=QUIET)
    sound.reset(np.random.default_rng(0), ())
    assert not sound.step(np.zeros((TICKS, 0))).any()


def test_bad_input_is_named() -> None:
    with pytest.raises(HandsightError, match="metal, glass"):
        SoundSource("jelly")
    with pytest.raises(HandsightError, match="size > 0"):
        SoundSource("wood", size=0.0)
    with pytest.raises(ValueError, match=r"\(25, 0\)"):
        ContactSound().step(np.zeros((25, 3)))
    with pytest.raises(ValueError, match="whole number"):
        ContactSound(step=801)
