"""What a policy gets in a rollout has the bits that it got in training: dataset, collation and the trainer's division by 255."""

import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import default_collate

from handsight.launch.observation import dataset_shape, to_batch
from handsight.sensors.types import SENSOR_OF_KEY, TOUCH

sys.path.insert(0, str(Path(__file__).parents[1] / "fakes"))


@pytest.mark.parametrize("reader", ["lerobot", "cached"])
def test_rollout_and_training_batches_are_bit_equal(tmp_path: Path, reader: str) -> None:
    from fake_episodes import episode, record
    from lerobot.datasets import LeRobotDataset

    from handsight.datasets_rb.cache import CachedDataset

    root = record(tmp_path / "set", range(1), "png")  # lossless
    made = episode(0)
    if reader == "lerobot":
        dataset = LeRobotDataset("local/set", root=root, return_uint8=True)
    else:
        dataset = CachedDataset("local/set", root=root, uint8_images=True)
    for step in range(len(made.actions)):
        trained = default_collate([dataset[step]])
        for key in dataset.meta.camera_keys:  # as LeRobot's trainer does
            if trained[key].dtype == torch.uint8:
                trained[key] = trained[key].to(dtype=torch.float32) / 255.0
        played = to_batch({key: column[step] for key, column in made.observations.items()}, made.instruction)
        assert played["task"] == trained["task"]
        for key in made.observations:
            assert played[key].dtype == trained[key].dtype, key
            assert torch.equal(played[key], trained[key]), key


def test_shapes_are_those_of_the_dataset(tmp_path: Path) -> None:
    from fake_episodes import episode

    observation = {key: column[0] for key, column in episode(0).observations.items()}
    batch = to_batch(observation, "")
    for key, value in observation.items():
        assert batch[key].shape == (1, *dataset_shape(key, value.shape))
    assert batch[TOUCH].shape == (1, 1536)
    assert set(observation) == set(SENSOR_OF_KEY)
