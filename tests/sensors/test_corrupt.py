"""Each knob does what its unit says, an ideal sensor does nothing, and the text of the knobs is read back as it was written."""

import dataclasses
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handsight.sensors import realism as knobs_module
from handsight.sensors.corrupt import FORCES, LENGTHS, channels, delay_steps, reads_at
from handsight.sensors.errors import HandsightError
from handsight.sensors.realism import IDEAL, PRESETS, ROBOT, MicrophoneConfig, Realism
from handsight.sensors.types import AUDIO, AUDIO_RATE, AUDIO_STEP, FRONT, STATE, STATE_NAMES, TOUCH, TOUCH_SHAPE, WRIST

KEYS = {"front": FRONT, "wrist": WRIST, "state": STATE, "touch": TOUCH}
SHAPES = {FRONT: (64, 64, 3), WRIST: (64, 64, 3), STATE: (len(STATE_NAMES),), TOUCH: TOUCH_SHAPE, AUDIO: (AUDIO_STEP,)}
DTYPES = {FRONT: np.uint8, WRIST: np.uint8}
REST = [index for index in range(len(STATE_NAMES)) if index not in LENGTHS + FORCES]


def stream(text: str, key: str, truths: np.ndarray, seed: int = 0) -> np.ndarray:
    """What arrives of these true readings (T, ...) in one episode."""
    channel = channels(Realism.parse(text))[key]
    channel.reset(np.random.default_rng(seed))
    return np.stack([channel.read(lambda truth=truth: truth) for truth in truths])  # type: ignore[misc]


def constant(key: str, value: float, steps: int = 1) -> np.ndarray:
    return np.full((steps, *SHAPES[key]), value, DTYPES.get(key, np.float32))


@pytest.mark.parametrize("key", SHAPES)
def test_an_ideal_sensor_passes_every_bit(key: str, rng: np.random.Generator) -> None:
    truths = rng.integers(0, 256, (7, *SHAPES[key])).astype(DTYPES.get(key, np.float32))
    arrived = stream("ideal", key, truths)
    assert arrived.dtype == truths.dtype
    assert arrived.tobytes() == truths.tobytes()


@pytest.mark.parametrize("key", SHAPES)
def test_a_robot_keeps_shape_and_type_and_repeats_itself(key: str, rng: np.random.Generator) -> None:
    truths = rng.integers(0, 2, (7, *SHAPES[key])).astype(DTYPES.get(key, np.float32))
    first, again, other = (stream("robot", key, truths, seed) for seed in (3, 3, 4))
    assert (first.shape, first.dtype) == (truths.shape, truths.dtype)
    assert first.tobytes() == again.tobytes()
    assert key == AUDIO or first.tobytes() != other.tobytes()  # the microphone's noise is not drawn here
    assert first.tobytes() != truths.tobytes()


@pytest.mark.parametrize("name", ["front", "wrist"])
@pytest.mark.parametrize("deviation", [1.0, 3.0, 10.0])
def test_camera_noise_has_its_deviation_in_grey_levels(name: str, deviation: float) -> None:
    pictures = stream(f"{name}.noise={deviation}", KEYS[name], constant(KEYS[name], 128, steps=8)).astype(float)
    assert pictures.std() == pytest.approx(np.hypot(deviation, np.sqrt(1 / 12)), rel=0.02)
    assert pictures.mean() == pytest.approx(128, abs=0.1)
    assert abs(np.corrcoef(pictures[0].ravel(), pictures[1].ravel())[0, 1]) < 0.05


@pytest.mark.parametrize(("grey", "inside"), [(0, np.less_equal), (255, np.greater_equal)])
def test_camera_noise_is_clipped_and_does_not_wrap(grey: int, inside: np.ufunc) -> None:
    picture = stream("front.noise=5", FRONT, constant(FRONT, grey))
    assert inside(picture, abs(grey - 30)).all()
    assert (picture == grey).mean() == pytest.approx(0.54, abs=0.03)  # the half that is cut off, and what rounds to it


def test_state_noise_is_metres_on_lengths_and_newtons_on_forces() -> None:
    states = stream("state.noise_m=0.002,state.noise_n=0.3", STATE, constant(STATE, 5.0, steps=4000)).astype(float)
    assert states[:, LENGTHS].std(axis=0) == pytest.approx(0.002, rel=0.05)
    assert states[:, FORCES].std(axis=0) == pytest.approx(0.3, rel=0.05)
    assert (states[:, REST] == 5.0).all()
    assert (stream("state.noise_n=0.3", STATE, constant(STATE, 0.0, steps=100))[:, FORCES] >= 0).all()


def test_taxel_noise_has_its_deviation_in_kilopascals() -> None:
    touch = stream("touch.noise_kpa=0.8", TOUCH, constant(TOUCH, 50.0, steps=40)).astype(float)
    assert touch.std() == pytest.approx(0.8, rel=0.02)
    assert np.abs(touch.mean(axis=0) - 50.0).max() < 5 * 0.8 / np.sqrt(40)  # no taxel has an offset
    idle = stream("touch.noise_kpa=0.8", TOUCH, constant(TOUCH, 0.0, steps=40))
    assert idle[:, :, 0].min() == 0.0  # a taxel cannot be pulled
    assert idle[:, :, 1:].min() < 0.0  # shear has a sign


def test_each_taxel_keeps_its_gain_for_an_episode() -> None:
    touch = stream("touch.gain=0.2", TOUCH, constant(TOUCH, 50.0, steps=3)).astype(float) / 50.0
    assert (touch == touch[0]).all()
    np.testing.assert_array_equal(touch[:, :, 1], touch[:, :, 0])
    assert 0.8 <= touch.min() < 0.81
    assert 1.19 < touch.max() <= 1.2
    assert touch[0, :, 0].std() == pytest.approx(0.2 / np.sqrt(3), rel=0.1)  # uniform
    assert (touch[0] != stream("touch.gain=0.2", TOUCH, constant(TOUCH, 50.0), seed=1)[0] / 50.0).any()


@pytest.mark.parametrize("name", KEYS)
@pytest.mark.parametrize(("delay", "steps"), [(0.0, 0), (0.001, 1), (0.02, 1), (0.05, 1), (0.051, 2), (0.15, 3), (1.0, 20)])
def test_an_impulse_arrives_after_the_delay_in_whole_steps_rounded_up(name: str, delay: float, steps: int) -> None:
    truths = constant(KEYS[name], 0, steps=40)
    truths[5] = 100
    arrived = stream(f"{name}.delay_s={delay}", KEYS[name], truths)
    assert np.flatnonzero(arrived.reshape(40, -1).any(axis=1)).tolist() == [5 + steps]
    assert delay_steps(delay) == steps


def test_the_first_reading_stands_until_the_second_arrives() -> None:
    truths = np.arange(6)[:, None] * np.ones((6, len(STATE_NAMES)), np.float32)
    assert stream("state.delay_s=0.1", STATE, truths)[:, 0].tolist() == [0, 0, 0, 1, 2, 3]


@pytest.mark.parametrize(
    ("rate", "expected"),
    [
        (20, [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]),
        (15, [0, 0, 2, 3, 4, 4, 6, 7, 8, 8]),
        (10, [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]),
        (5, [0, 0, 0, 0, 4, 4, 4, 4, 8, 8]),
        (2, [0] * 10),
    ],
)
def test_a_slow_sensor_holds_its_reading(rate: float, expected: list[int]) -> None:
    truths = np.arange(10)[:, None] * np.ones((10, len(STATE_NAMES)), np.float32)
    assert stream(f"state.rate_hz={rate}", STATE, truths)[:, 0].tolist() == expected
    noisy = stream(f"state.rate_hz={rate},state.noise_m=0.1", STATE, truths)[:, 0]
    assert len(set(noisy)) == len(set(expected))  # a held reading keeps its noise
    delayed = stream(f"state.rate_hz={rate},state.delay_s=0.05", STATE, truths)[:, 0]
    assert delayed.tolist() == [0, *expected[:-1]]


def test_a_sensor_that_holds_is_not_measured() -> None:
    channel = channels(Realism.parse("front.rate_hz=5"))[FRONT]
    channel.reset(np.random.default_rng(0))
    calls = []
    for step in range(20):
        channel.read(lambda step=step: calls.append(step) or constant(FRONT, 0)[0])  # type: ignore[misc,func-returns-value]
    assert calls == [0, 4, 8, 12, 16]


@given(st.floats(0.01, 20.0))
def test_the_number_of_readings_is_the_rate_times_the_time(rate: float) -> None:
    steps = 400
    count = sum(reads_at(step, rate) for step in range(steps))
    assert abs(count - steps * rate / 20) <= 1.0


@pytest.mark.parametrize("delay", [0.0, 1 / AUDIO_RATE, 0.0125, 0.05, 0.12])
def test_sound_is_delayed_by_samples_after_silence(delay: float, rng: np.random.Generator) -> None:
    blocks = rng.uniform(-1, 1, (6, AUDIO_STEP)).astype(np.float32)
    late = round(delay * AUDIO_RATE)
    arrived = stream(f"audio.delay_s={delay}", AUDIO, blocks).ravel()
    np.testing.assert_array_equal(arrived[late:], blocks.ravel()[: blocks.size - late])
    assert not arrived[:late].any()


def test_an_episode_starts_afresh() -> None:
    for key, channel in channels(Realism.parse("front.delay_s=0.1,state.rate_hz=1,touch.delay_s=0.1,audio.delay_s=0.1")).items():
        for value in (1, 0):
            channel.reset(np.random.default_rng(0))
            for _ in range(3):
                assert (channel.read(lambda key=key, value=value: constant(key, value)[0]) == value).all() or key == AUDIO  # type: ignore[misc]
        assert not channel.read(lambda key=key: constant(key, 0)[0]).any()  # type: ignore[misc]


def test_readings_are_not_shared_with_the_caller() -> None:
    channel = channels(Realism.parse("touch.delay_s=0.05"))[TOUCH]
    channel.reset(np.random.default_rng(0))
    channel.read(lambda: constant(TOUCH, 1.0)[0])[:] = 7.0
    assert (channel.read(lambda: constant(TOUCH, 2.0)[0]) == 1.0).all()


def test_the_table_lists_every_knob_with_its_values() -> None:
    def cell(name: str, preset: Realism) -> float | tuple[float, ...]:
        return preset.knobs()[name]  # type: ignore[return-value]

    rows = re.findall(r"^\| (\w+[\w., ]*) \| .* \| (\S+) \| (\S+) \|$", knobs_module.__doc__ or "", re.MULTILINE)
    table = {name: values for names, *values in rows for name in names.split(", ") if name != "knob"}
    assert set(table) == set(IDEAL.knobs())
    for name, texts in table.items():
        for text, preset in zip(texts, (IDEAL, ROBOT), strict=True):
            numbers = tuple(float(number) for number in text.split(":"))
            assert cell(name, preset) == (numbers if len(numbers) > 1 else numbers[0]), name


def test_every_knob_can_be_set_by_its_name_and_changes_only_itself() -> None:
    for name, usual in IDEAL.knobs().items():
        text = "3:4" if isinstance(usual, tuple) else "0.5"
        changed = Realism.parse(f"{name}={text}").knobs()
        assert {other for other in changed if changed[other] != IDEAL.knobs()[other]} == {name}
        assert changed[name] == ((3.0, 4.0) if isinstance(usual, tuple) else 0.5)


def test_parse_starts_from_a_preset() -> None:
    assert Realism.parse("ideal") == IDEAL == Realism()
    assert Realism.parse("robot") == ROBOT
    changed = Realism.parse("robot, touch.noise_kpa=1.0,touch.gain=0.1,audio.snr_db=none,actuator_delay_s=0")
    assert changed.touch == dataclasses.replace(ROBOT.touch, noise_kpa=1.0, gain=0.1)
    assert changed.audio == MicrophoneConfig(delay_s=ROBOT.audio.delay_s, snr_db=None)
    assert (changed.front, changed.actuator_delay_s) == (ROBOT.front, 0.0)
    assert Realism.parse("audio.snr_db=20").audio.snr_db == (20.0, 20.0)


@given(
    st.sampled_from(sorted(PRESETS)),
    st.dictionaries(st.sampled_from([name for name in IDEAL.knobs() if name != "audio.snr_db"]), st.floats(0.01, 1.0), max_size=4),
    st.sampled_from([None, (10.0, 30.0), (5.0, 5.0)]),
)
def test_the_text_is_read_back(preset: str, changes: dict[str, float], snr: tuple[float, float] | None) -> None:
    made = PRESETS[preset].replace({**changes, "audio.snr_db": snr})
    assert Realism.parse(str(made)) == made
    assert str(Realism.parse(str(made))) == str(made)


def test_presets_are_written_by_name() -> None:
    assert {name: str(preset) for name, preset in PRESETS.items()} == {name: name for name in PRESETS}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected --env.realism to start with ideal or robot or a knob, got ''"),
        ("robt", "did you mean robot?"),
        ("robot,touch.noise=1", "got 'touch.noise=1'; did you mean touch.noise_kpa?"),
        ("robot,touch.gain", "got 'touch.gain'; did you mean touch.gain=NUMBER?"),
        ("robot,ideal", "got 'ideal'"),
        ("touch.gain=lots", "expected touch.gain=NUMBER in --env.realism, got 'touch.gain=lots'"),
        ("touch.gain=1:2", "expected touch.gain=NUMBER"),
        ("touch.gain=none", "expected touch.gain=NUMBER"),
        ("audio.snr_db=1:2:3", "expected audio.snr_db=LOW:HIGH or none"),
        ("audio.snr_db=30:10", "two finite numbers, the lower first, got 30.0:10.0"),
        ("audio.snr_db=nan:1", "two finite numbers"),
        ("front.rate_hz=21", "at least 0.01 and at most 20, got 21.0"),
        ("front.rate_hz=0", "at least 0.01"),
        ("front.noise=-1", "expected front.noise of --env.realism to be a finite number of at least 0 and at most 255, got -1.0"),
        ("state.noise_m=inf", "finite number of at least 0, got inf"),
        ("actuator_delay_s=3", "at most 2, got 3.0"),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(text: str, message: str) -> None:
    with pytest.raises(HandsightError) as refusal:
        Realism.parse(text)
    assert message in str(refusal.value)
    assert "\n" not in str(refusal.value)
