import numpy as np
import pytest

from handsight.datasets_rb.schema import RecordingSpec, features, require_same
from handsight.datasets_rb.statistics import QUANTILES, column_statistics, image_statistics
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import AUDIO, FRONT, STATE, TOUCH, WRIST, Sensor


def test_features_follow_the_sensors() -> None:
    everything = features(128, Sensor.ALL, use_videos=True)
    assert everything[FRONT] == {"dtype": "video", "shape": (128, 128, 3), "names": ["height", "width", "channels"]}
    assert (everything[TOUCH]["shape"], everything[AUDIO]["dtype"]) == ((1536,), "int16")
    few = features(84, Sensor.FRONT | Sensor.STATE, use_videos=False)
    assert few[FRONT]["dtype"] == "image"
    assert not {WRIST, TOUCH, AUDIO} & set(few)
    for name, feature in everything.items():
        assert feature["names"] is None or name in (FRONT, WRIST) or len(feature["names"]) == feature["shape"][0]


@pytest.mark.parametrize("wrong", [{"sensors": Sensor.CAMERAS}, {"images": "gif"}, {"image_size": 15}, {"image_size": 8}])
def test_refuses_what_cannot_be_recorded(wrong: dict[str, object]) -> None:
    with pytest.raises(HandsightError, match="expected"):
        RecordingSpec("fake/good", **wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("other", "named"),
    [
        (RecordingSpec("fake/other"), r"--env\.task=fake/good"),
        (RecordingSpec("fake/good", image_size=84), "--image_size=128"),
        (RecordingSpec("fake/good", sensors=Sensor.STATE), "--sensors="),
        (RecordingSpec("fake/good", images="png"), "--images=video"),
        (RecordingSpec("fake/good", noise=False), "--noise=True"),
    ],
)
def test_names_the_argument_that_differs(other: RecordingSpec, named: str) -> None:
    with pytest.raises(HandsightError, match=named):
        require_same(other, RecordingSpec("fake/good").to_json(), "DIR")
    require_same(other, other.to_json(), "DIR")


def test_image_statistics_are_those_of_the_pixels(rng: np.random.Generator) -> None:
    images = rng.integers(3, 250, (1, 16, 16, 3), dtype=np.uint8)
    statistics = image_statistics(images)
    pixels = images.reshape(-1, 3) / 255
    for name, expected in {"min": pixels.min(0), "max": pixels.max(0), "mean": pixels.mean(0), "std": pixels.std(0)}.items():
        assert statistics[name].shape == (3, 1, 1)
        np.testing.assert_allclose(statistics[name].ravel(), expected, atol=1e-12)
    for name, q in QUANTILES.items():
        np.testing.assert_allclose(statistics[name].ravel(), np.quantile(pixels, q, axis=0, method="inverted_cdf"), atol=1e-12)


def test_touch_and_audio_have_one_statistic_each(rng: np.random.Generator) -> None:
    touch = rng.exponential(size=(9, 1536)).astype(np.float32)
    statistics = column_statistics(TOUCH, touch)
    assert all(value.shape == (1,) for value in statistics.values())
    np.testing.assert_allclose(statistics["mean"], touch.mean(dtype=np.float64))
    assert statistics["count"] == 9
    state = rng.normal(size=(9, 15))
    np.testing.assert_allclose(column_statistics(STATE, state)["std"], state.std(axis=0))
