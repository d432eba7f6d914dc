"""The touch scale is odd, monotone and invertible; the flat column is the image."""

import pytest
import torch

from handsight.sensors.touch import CONTACT_FLOOR, CONTACT_PRESSURE, denormalize_touch, flatten_touch, normalize_touch, unflatten_touch


def test_scale() -> None:
    pressure = torch.linspace(-500, 500, 2001, dtype=torch.float64)
    touch = normalize_touch(pressure)
    assert torch.all(touch.diff() > 0)
    torch.testing.assert_close(touch, -touch.flip(0))
    torch.testing.assert_close(denormalize_touch(touch), pressure)
    torch.testing.assert_close(normalize_touch(torch.tensor([0.0, 100.0, CONTACT_PRESSURE])), torch.tensor([0.0, 1.0, CONTACT_FLOOR]))


def test_flat_and_back() -> None:
    flat = torch.rand(2, 4, 1536)
    assert unflatten_touch(flat).shape == (2, 4, 2, 3, 16, 16)
    assert torch.equal(flatten_touch(unflatten_touch(flat)), flat)
    assert unflatten_touch(torch.arange(1536.0))[1, 2, 3, 4] == ((1 * 3 + 2) * 16 + 3) * 16 + 4  # row-major, as NumPy's reshape
    for call, bad in ((unflatten_touch, torch.zeros(3, 100)), (flatten_touch, torch.zeros(2, 16, 16))):
        with pytest.raises(ValueError, match="expected touch"):
            call(bad)
