"""Pictures get LeRobot's arithmetic, and shifts are shifts."""

import numpy as np
import pytest
import torch

from handsight.sensors.camera import image_to_batch, pool_images, random_shift


def picture() -> np.ndarray:
    """Every byte value, in every channel."""
    return np.random.default_rng(0).permutation(np.arange(256 * 3) % 256).astype(np.uint8).reshape(16, 16, 3)


def test_bit_equal_to_lerobot() -> None:
    from lerobot.datasets.io_utils import pil_to_chw_tensor
    from lerobot.processor.observation_processor import VanillaObservationProcessorStep
    from PIL import Image

    ours = image_to_batch(picture())
    environment = VanillaObservationProcessorStep().observation({"pixels": picture()})["observation.image"][0]
    assert torch.equal(ours, pil_to_chw_tensor(Image.fromarray(picture())))
    assert torch.equal(ours, environment)


def test_shape_type_and_range() -> None:
    batch = image_to_batch(np.stack([picture(), picture()]))
    assert batch.shape == (2, 3, 16, 16)
    assert batch.dtype == torch.float32
    assert batch.is_contiguous()
    assert (batch.min(), batch.max()) == (0, 1)
    assert torch.equal(batch[1], image_to_batch(torch.from_numpy(picture())))


def test_bad_pictures_are_named() -> None:
    for bad in (np.zeros((3, 8, 8), dtype=np.uint8), np.zeros((8, 8, 3), dtype=np.float32)):
        with pytest.raises(ValueError, match="expected uint8 pictures"):
            image_to_batch(bad)


def test_every_shift_is_a_clamped_translation() -> None:
    images = torch.rand(200, 2, 7, 5)
    shifted = random_shift(images, 2, torch.Generator().manual_seed(0))
    seen = set()
    for before, after in zip(images, shifted, strict=True):
        moves = [
            (dy, dx)
            for dy in range(-2, 3)
            for dx in range(-2, 3)
            if torch.equal(after, before[:, (torch.arange(7) + dy).clamp(0, 6)][:, :, (torch.arange(5) + dx).clamp(0, 4)])
        ]
        assert len(moves) == 1
        seen.add(moves[0])
    assert len(seen) == 25  # all of them occur


def test_shift_follows_its_generator_only() -> None:
    images = torch.rand(8, 3, 6, 6)
    torch.manual_seed(0)
    one = random_shift(images, 1, torch.Generator().manual_seed(5))
    torch.manual_seed(1)
    assert torch.equal(one, random_shift(images, 1, torch.Generator().manual_seed(5)))
    assert torch.equal(random_shift(images, 0), images)
    with pytest.raises(ValueError, match="pixels >= 0"):
        random_shift(images, -1)


def test_pool_images_averages() -> None:
    x = torch.rand(2, 5, 3, 8, 8)
    torch.testing.assert_close(pool_images(x, 2)[1, 4, 2, 3, 1], x[1, 4, 2, 6:8, 2:4].mean())
    assert pool_images(x, 1) is x
