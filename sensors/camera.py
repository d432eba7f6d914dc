"""Camera pictures to batches, with LeRobot's arithmetic, and smaller; the random shift and light of training.

B batch, C channels, H, W pixels.
"""

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor


def image_to_batch(image: NDArray[np.uint8] | Tensor) -> Tensor:
    """(..., H, W, 3) uint8 -> (..., 3, H, W) float32 in [0, 1], contiguous.

    Bit-equal to what LeRobot's datasets and environment processor give: converted to float32, then divided by 255 (multiplying by 1/255
    differs in the last bit).
    """
    picture: Any = torch.from_numpy(np.ascontiguousarray(image)) if isinstance(image, np.ndarray) else image
    if picture.dtype != torch.uint8 or picture.ndim < 3 or picture.shape[-1] != 3:
        raise ValueError(
            f"expected uint8 pictures (..., H, W, 3), got {picture.dtype} {tuple(picture.shape)}; keep pictures as the camera gives them"
        )
    batch: Tensor = picture.movedim(-1, -3).contiguous().to(torch.float32) / 255.0
    return batch


def pool_images(x: Tensor, factor: int) -> Tensor:
    """Average-pool images (..., 3, H, W) by `factor`."""
    if factor == 1:
        return x
    pooled = F.avg_pool2d(x.flatten(0, -4), factor)
    return pooled.view(*x.shape[:-3], *pooled.shape[-3:])


def random_shift(images: Tensor, pixels: int, generator: torch.Generator | None = None) -> Tensor:
    """Each image (B, C, H, W) moved by a whole number of pixels in [-pixels, pixels], independently in both directions; the border repeats.

    Source: Yarats et al., "Image augmentation is all you need" (DrQ), 2021. Default random state if there is no `generator`.
    """
    if images.ndim != 4 or pixels < 0:
        raise ValueError(f"expected images (B, C, H, W) and pixels >= 0, got {tuple(images.shape)} and {pixels}")
    if pixels == 0:
        return images
    height, width = images.shape[-2:]
    windows = F.pad(images, (pixels,) * 4, mode="replicate").unfold(2, height, 1).unfold(3, width, 1)  # (B, C, 2p+1, 2p+1, H, W)
    device = images.device if generator is None else generator.device
    corner = torch.randint(0, 2 * pixels + 1, (2, len(images)), generator=generator, device=device).to(images.device)
    return windows[torch.arange(len(images), device=images.device), :, corner[0], corner[1]]  # (B, C, H, W)


def random_light(
    images: Tensor, brightness: float = 0.25, tint: float = 0.12, offset: float = 0.08, generator: torch.Generator | None = None
) -> Tensor:
    """Each image (B, 3, H, W) in [0, 1] under another light: a common gain, a gain and an offset for each channel; clipped to [0, 1].

    brightness, tint, offset: half widths of the uniform ranges. Without it a policy recognises training scenes by their shade.
    """
    device = images.device if generator is None else generator.device

    def symmetric(channels: int) -> Tensor:
        return 2 * torch.rand(len(images), channels, 1, 1, generator=generator, device=device).to(images.device) - 1

    gain = 1 + brightness * symmetric(1) + tint * symmetric(3)
    return torch.addcmul(offset * symmetric(3), images, gain).clamp(0, 1)
