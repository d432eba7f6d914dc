"""Configuration: round trip, histories, features, and one-line errors."""

from collections.abc import Callable
from pathlib import Path

import draccus
import pytest
from lerobot.configs import FeatureType, PolicyFeature, PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_policy_config

from handsight.policies.flow import TimeSampler
from handsight.policies.fuse.configuration_fuse import STRIDED, FuseConfig
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.sensors.errors import HandsightError
from handsight.sensors.names import parse_sensors
from handsight.sensors.types import AUDIO, FRONT, KEYFRAME, STATE, TOUCH, Sensor

Make = Callable[..., FuseConfig]


def test_lerobot_finds_the_type_by_name() -> None:
    assert isinstance(make_policy_config("fuse", device="cpu"), FuseConfig)
    assert get_policy_class("fuse") is FusePolicy
    assert FuseConfig(device="cpu").type == "fuse"
    assert FuseConfig(device="cpu").push_to_hub is False


def test_round_trip(make_config: Make, tmp_path: Path) -> None:
    config = make_config(sensors="front,touch", state_history=STRIDED, time_sampler=TimeSampler.BETA, sensor_dropout={"touch": 0.3})
    config._save_pretrained(tmp_path)
    assert PreTrainedConfig.from_pretrained(tmp_path) == config


def test_command_line() -> None:
    args = ["--sensors=front,state", "--state_history=[-5,-2,0]", "--time_sampler=uniform", "--hidden_state=[10,11]", "--device=cpu"]
    config = draccus.parse(FuseConfig, args=args)
    assert config.state_history == (-5, -2, 0)
    assert config.hidden_state == (10, 11)
    assert config.flow.time_sampler is TimeSampler.UNIFORM


def test_histories(make_config: Make) -> None:
    config = make_config(sensors="front,state,touch", state_history=(-3, 0))
    assert config.history_of(FRONT) == (0,)
    assert config.history_of(STATE) == (-3, 0)
    assert config.history_of(TOUCH) == STRIDED
    assert config.history_of(KEYFRAME) == (0,)
    assert config.observation_delta_indices == [-40, -30, -20, -15, -10, -5, -3, -2, 0]
    assert make_config(sensors="cameras,state").observation_delta_indices is None
    assert len(make_config().history_of(AUDIO)) == 20
    assert config.action_delta_indices == list(range(16))


def test_features_are_filtered(make_config: Make) -> None:
    config = make_config(sensors="front,touch")
    config.validate_features()
    assert list(config.input_features or {}) == [FRONT, TOUCH]
    assert config.sensor_keys == {"front": FRONT, "touch": TOUCH}
    assert parse_sensors("all") == Sensor.ALL
    assert parse_sensors("") == Sensor(0)


@pytest.mark.parametrize(
    ("key", "shape", "message"),
    [
        ("observation.images.top", (3, 64, 64), "expected sensors out of"),
        (FRONT, (3, 64, 60), "expected observation.images.front of shape"),
        (TOUCH, (32,), "expected observation.touch of shape"),
        (AUDIO, (1600,), "expected observation.audio of shape"),
        (STATE, (3, 5), "expected observation.state of shape"),
    ],
)
def test_unknown_sensors_and_shapes_are_refused(make_config: Make, key: str, shape: tuple[int, ...], message: str) -> None:
    config = make_config(input_features={key: PolicyFeature(FeatureType.STATE, shape)})
    with pytest.raises(HandsightError, match=message):
        config.validate_features()


@pytest.mark.parametrize(
    "setting",
    [
        {"sensors": "sonar"},
        {"masked": "front,nose"},
        {"state_history": (-1,)},
        {"touch_history": (0, -1)},
        {"audio_history": (-5, 0)},
        {"image_history": (-1, 0)},
        {"trunk": "lstm"},
        {"image_encoder": "patches"},
        {"n_action_steps": 17},
    ],
)
def test_bad_settings_are_refused_at_construction(make_config: Make, setting: dict[str, object]) -> None:
    with pytest.raises(HandsightError, match=r"^expected"):
        make_config(**setting)


def test_no_sensor_or_action_is_refused(make_config: Make) -> None:
    with pytest.raises(HandsightError, match="at least one of the sensors"):
        make_config(sensors="front", input_features={STATE: PolicyFeature(FeatureType.STATE, (15,))}).validate_features()
    with pytest.raises(HandsightError, match="'action'"):
        make_config(output_features={}).validate_features()
