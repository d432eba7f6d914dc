"""From an environment's observation to what a policy's preprocessor gets: the same bits as from LeRobot's dataset and trainer."""

from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from handsight.sensors.camera import image_to_batch
from handsight.sensors.pcm import float_to_int16
from handsight.sensors.types import AUDIO, TASK, TOUCH, Observation

IMAGE_PREFIX: Final = "observation.images."


def dataset_shape(key: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    """The shape that a sensor with this observation shape has in a dataset and in a policy's `input_features`."""
    if key.startswith(IMAGE_PREFIX):
        height, width, channels = shape
        return channels, height, width
    return (int(np.prod(shape)),) if key == TOUCH else shape


def to_batch(observation: Observation, task: str) -> dict[str, Any]:
    """One environment step as a batch of one: images (1, 3, H, W) float32 in [0, 1], touch (1, 1536), audio (1, 800) int64, task [str].

    Images follow the trainer's arithmetic: uint8 -> float32, then / 255.
    """
    batch: dict[str, Any] = {key: _to_tensor(key, value).unsqueeze(0) for key, value in observation.items()}
    return batch | {TASK: [task]}


def _to_tensor(key: str, value: NDArray[Any]) -> torch.Tensor:
    if key.startswith(IMAGE_PREFIX):
        return image_to_batch(value)  # (3, H, W)
    if key == AUDIO:
        return torch.from_numpy(float_to_int16(value)).to(torch.int64)  # as LeRobot returns every integer column
    return torch.from_numpy(np.ascontiguousarray(value).reshape(dataset_shape(key, value.shape)))
