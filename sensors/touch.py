"""Touch in a batch: taxel pressures on a logarithmic scale, and the dataset's flat column. Torch."""

import math
from typing import Final

import torch
from torch import Tensor

from handsight.sensors.types import TOUCH_SHAPE

TAXELS: Final = math.prod(TOUCH_SHAPE)
PRESSURE_UNIT: Final = 1.0  # [kPa] below this the scale is linear, above it logarithmic
FULL_PRESSURE: Final = 100.0  # [kPa] is normalised to 1; a firm grasp peaks at 50 to 150
CONTACT_PRESSURE: Final = 0.5  # [kPa] the noise of a real taxel; a taxel above it touches something
_FULL: Final = math.log1p(FULL_PRESSURE / PRESSURE_UNIT)
CONTACT_FLOOR: Final = math.log1p(CONTACT_PRESSURE / PRESSURE_UNIT) / _FULL  # CONTACT_PRESSURE on the normalised scale


def normalize_touch(pressure: Tensor) -> Tensor:
    """[kPa], any shape -> sign(p) log(1 + |p| / 1 kPa) / log(101): 0 without contact, 1 at 100 kPa, odd, so shear keeps its direction.

    Stiffness shows in the ratio of peak to force, which a logarithm turns into a difference; a saturating scale such as tanh(p / 60 kPa)
    hides it. No statistics of the data enter: most taxels are zero most of the time, and means and deviations of that say little.
    """
    return torch.sign(pressure) * torch.log1p(pressure.abs() / PRESSURE_UNIT) / _FULL


def denormalize_touch(touch: Tensor) -> Tensor:
    """Inverse of `normalize_touch`; [kPa]."""
    return torch.sign(touch) * torch.expm1(touch.abs() * _FULL) * PRESSURE_UNIT


def unflatten_touch(flat: Tensor) -> Tensor:
    """(..., 1536) as in datasets -> (..., 2, 3, 16, 16)."""
    if flat.shape[-1:] != (TAXELS,):
        raise ValueError(f"expected touch of shape (..., {TAXELS}), got {tuple(flat.shape)}; the dataset was recorded with other taxels")
    return flat.reshape(*flat.shape[:-1], *TOUCH_SHAPE)


def flatten_touch(touch: Tensor) -> Tensor:
    """(..., 2, 3, 16, 16) -> (..., 1536)."""
    if touch.shape[-4:] != TOUCH_SHAPE:
        raise ValueError(f"expected touch of shape (..., {', '.join(map(str, TOUCH_SHAPE))}), got {tuple(touch.shape)}")
    return touch.flatten(-4)
