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
    forces = rng.uniform(0, 1, (10 * TICKS, len(EVERY))) * (rng.uniform(size=(10 * TICKS, len(EVERY))) < 0.02) + 0.0
    forces[(forces > 0) & (forces < 2 * QUIET_RISE)] = 0.5
    one, two = listen(EVERY, forces), listen(EVERY, 2 * forces)
    assert np.abs(two).max() < 1.0
    np.testing.assert_allclose(two, 2 * one, rtol=1e-5, atol=1e-7)


def test_sources_add_up() -> None:
    together = blow(1.0, sources=len(EVERY), source=1) + blow(1.0, sources=len(EVERY), source=3, tick=45)
    apart = [listen(EVERY, blow(1.0, sources=len(EVERY), source=s, tick=t)) for s, t in ((1, 40), (3, 45))]
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
    rng.uniform(size=2)  # the microphone's gain and noise level are drawn first
    ratios = np.array([5.253, 9.084, 12.23, 20.52, 21.6, 33.1, 35.25, 38.55]) / 5.253 * (1 + 0.03 * np.r_[0.0, rng.uniform(-1, 1, 8)[1:]])
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
    forces = blow(2.0, sources=len(EVERY), source=2)
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


def test_reference_level_is_that_of_a_tap_on_plastic() -> None:
    taps = [listen((SoundSource("plastic"),), blow(1.0, tick=TICKS, steps=2), seed=seed)[800:] for seed in range(10)]
    levels = [np.sqrt(np.square(tap, dtype=np.float64).mean()) for tap in taps]
    np.testing.assert_allclose(REFERENCE_RMS, levels, rtol=0.03)


def test_loud_blows_are_clipped_to_full_scale() -> None:
    signal = listen((SoundSource("metal"),), blow(1000.0))
    assert np.abs(signal).max() == 1.0


def test_resting_force_is_the_baseline() -> None:
    sound = ContactSound(microphone=QUIET)
    sound.reset(np.random.default_rng(0), (SoundSource("wood"),), resting=np.array([0.0]))
    assert sound.step(np.full((TICKS, 1), 2.0)).any()
    sound.reset(np.random.default_rng(0), (SoundSource("wood"),))
    assert not sound.step(np.full((TICKS, 1), 2.0)).any()


TONES = (300.0, 550.0, 1050.0, 2000.0)


def test_gain_makes_a_source_louder() -> None:
    soft, loud = (listen((SoundSource("plastic", gain=gain),), blow(0.5)) for gain in (1.0, 4.0))
    np.testing.assert_allclose(loud, 4.0 * soft, rtol=1e-6, atol=1e-8)


def test_chimes_are_equally_loud_and_equally_long() -> None:
    tones = [listen((SoundSource("chime", frequency=tone),), blow(1.0, tick=TICKS)).astype(np.float64)[800:] for tone in TONES]
    levels = [20 * np.log10(np.abs(tone[:160]).max()) for tone in tones]
    assert max(levels) - min(levels) < 1.0
    for tone in tones:
        early, late = (np.abs(tone[start : start + 160]).max() for start in (0, 3200))
        assert 35.0 < 20 * np.log10(early / late) < 42.0  # over 0.2 s


@pytest.mark.parametrize("tone", TONES)
def test_a_chime_is_nearly_pure(tone: float) -> None:
    """In the tail, once the click of the onset is over, nothing further than 20% from the pitch comes within 20 dB of it."""
    tail = listen((SoundSource("chime", frequency=tone),), blow(1.0, tick=TICKS))[1000:]
    size = 8 * len(tail)
    spectrum = np.abs(np.fft.rfft(tail * np.hanning(2 * len(tail))[len(tail) :], size))
    frequency = np.fft.rfftfreq(size, 1 / 16_000)
    apart = np.abs(frequency - tone) > 0.2 * tone
    assert np.abs(frequency[spectrum.argmax()] - tone) < 2.0
    assert 20 * np.log10(spectrum[apart].max() / spectrum.max()) < -20.0


def test_four_tones_are_told_apart_through_the_noise() -> None:
    """The loudest frequency of one step names the tone, with the loudest noise and the least gain that are drawn."""
    noisy = MicrophoneConfig(snr_db=(10.0, 10.0))
    for button, tone in enumerate(TONES):
        sources = tuple(SoundSource("chime", frequency=each) for each in TONES)
        signal = listen(sources, blow(1.0, tick=TICKS, steps=2, sources=4, source=button), seed=button, microphone=noisy)[800:]
        peak = np.fft.rfftfreq(8 * 800, 1 / 16_000)[np.abs(np.fft.rfft(signal, 8 * 800)).argmax()]
        assert min(TONES, key=lambda each: abs(np.log(each / peak))) == tone


def test_a_virtual_strike_needs_no_physics() -> None:
    """A column that is 0 but for one tick rings as a blow of three ticks does, beside a source that rests on the table."""
    sources = (SoundSource("wood"), SoundSource("chime", frequency=600.0))
    forces = np.zeros((10 * TICKS, 2))
    forces[:, 0] = 3.0
    forces[40, 1] = 1.0
    signal = listen(sources, forces)
    np.testing.assert_array_equal(signal, listen(sources, forces * [0.0, 1.0]))
    np.testing.assert_array_equal(signal, listen(sources, blow(1.0, steps=10, sources=2, source=1)))
    assert np.abs(signal).max() > 0.02


def test_heard_names_what_was_struck_in_this_step() -> None:
    sound = ContactSound(microphone=QUIET)
    sound.reset(np.random.default_rng(0), EVERY)
    assert sound.heard == frozenset()
    forces = np.zeros((TICKS, len(EVERY)))
    forces[3, 1] = forces[9, 4] = 1.0
    sound.step(forces)
    assert sound.heard == {1, 4}
    assert sound.step(np.zeros_like(forces)).any()  # the tail still rings, but nothing was struck
    assert sound.heard == frozenset()
    sound.step(forces)
    sound.reset(np.random.default_rng(0), EVERY)
    assert sound.heard == frozenset()


@pytest.mark.parametrize("material", MATERIALS)
@pytest.mark.parametrize("snr", [-10.0, 0.0])  # so noisy that the least blow which sounds at all (QUIET_RISE) is below the noise
def test_heard_is_a_peak_above_the_noise(material: str, snr: float) -> None:
    """The threshold, measured on the signal itself: the peak that a blow has without noise, against the rms of the noise without a blow."""
    source = (SoundSource(material),)
    noise = listen(source, np.zeros((400 * TICKS, 1)), microphone=MicrophoneConfig(gain_db=0.0, snr_db=(snr, snr))).std()
    for share, expected in ((0.9, frozenset()), (1.1, frozenset({0}))):
        newtons = share * noise / np.abs(listen(source, blow(1.0))).max()
        assert newtons > QUIET_RISE
        sound = ContactSound(microphone=MicrophoneConfig(gain_db=6.0, snr_db=(snr, snr)))  # gain is applied to both
        sound.reset(np.random.default_rng(0), source, resting=np.zeros(1))
        sound.step(np.full((TICKS, 1), newtons))
        assert sound.heard == expected


def test_no_sources_is_silence() -> None:
    sound = ContactSound(microphone=QUIET)
    sound.reset(np.random.default_rng(0), ())
    assert not sound.step(np.zeros((TICKS, 0))).any()


def test_bad_input_is_named() -> None:
    with pytest.raises(HandsightError, match="metal, glass"):
        SoundSource("jelly")
    with pytest.raises(HandsightError, match="size > 0"):
        SoundSource("wood", size=0.0)
    with pytest.raises(HandsightError, match="gain > 0"):
        SoundSource("wood", gain=0.0)
    with pytest.raises(ValueError, match=r"\(25, 0\)"):
        ContactSound().step(np.zeros((25, 3)))
    with pytest.raises(ValueError, match="whole number"):
        ContactSound(step=801)
