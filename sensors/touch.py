"""Touch in a batch: taxel pressures on a logarithmic scale, what they say of a contact, and the dataset's flat column. Torch."""

import math
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor

from handsight.sensors.types import TOUCH_SHAPE

TAXELS: Final = math.prod(TOUCH_SHAPE)
PRESSURE_UNIT: Final = 1.0  # [kPa] below this the scale is linear, above it logarithmic
FULL_PRESSURE: Final = 100.0  # [kPa] is normalised to 1; a firm grasp peaks at 50 to 150
CONTACT_PRESSURE: Final = 0.5  # [kPa] the noise of a real taxel; a taxel above it touches something
_FULL: Final = math.log1p(FULL_PRESSURE / PRESSURE_UNIT)
CONTACT_FLOOR: Final = math.log1p(CONTACT_PRESSURE / PRESSURE_UNIT) / _FULL  # CONTACT_PRESSURE on the normalised scale
CONTACT_STATISTICS: Final = 2 * 10  # width of `contact_statistics`


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


def contact_statistics(x: Tensor) -> Tensor:
    """What a finger pad says of a contact: normalised taxels (N, 6, 16, 16) -> (N, 20), ten numbers for each of two pads.

    Natural logarithms of the force, of the firmest 16 taxels' mean over the cube root of the force (Hertz: the stiffness, whatever the
    force), of the peak over that mean, and of the roughness (mean difference from the mean of the 3 x 3 taxels around) over the force;
    centre and spread of the contact patch along columns and rows; mean shear along both over the force. Shifted and scaled, by numbers
    rounded from the squeezes of the bag tasks, to a spread near 1, without which a few per cent of stiffness drown, and clamped to [-4, 4].
    """
    pads = denormalize_touch(x).unflatten(1, (2, 3))  # (N, 2, 3, 16, 16)
    normal, shear = pads[:, :, 0].clamp(min=0), pads[:, :, 1:].mean(dim=(3, 4))
    taxels = normal.flatten(2)  # (N, 2, 256)
    force = taxels.mean(dim=2) + 0.05  # [kPa]; the floor is a tenth of what counts as contact
    firm, peak = taxels.topk(16, dim=2).values.mean(dim=2) + 0.05, taxels.amax(dim=2) + 0.05
    rough = (normal - F.avg_pool2d(normal, 3, stride=1, padding=1)).abs().mean(dim=(2, 3)) + 0.005
    weights = normal / (256 * force)[..., None, None]
    axis = torch.arange(16, device=x.device, dtype=x.dtype) - 7.5
    profiles = torch.stack([weights.sum(dim=2), weights.sum(dim=3)], dim=2)  # (N, 2, columns and rows, 16)
    centre = (profiles * axis).sum(dim=3)
    spread = ((profiles * axis.square()).sum(dim=3) - centre.square()).clamp(min=0.01).sqrt()
    found = [
        (force.log() - 3.1) / 0.6,
        (firm.log() - force.log() / 3 - 3.4) / 0.6,
        ((peak / firm).log() - 0.15) / 0.12,
        ((rough / force).log() + 1.5) / 0.5,
    ]
    pairs = [centre / 2, (spread - 2.8) / 1.2, shear / (force.unsqueeze(2) + 0.5) / 0.1]
    return torch.cat([torch.stack(found, dim=2), *pairs], dim=2).clamp(-4, 4).flatten(1)
