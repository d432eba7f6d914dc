"""The auxiliary loss of the next keyframe: where is the tcp then, and what happens there?

The label is read from the demonstration itself (datasets_rb/keyframe.py); no privileged state enters.
"""

from collections.abc import Mapping
from typing import Any, Final

import torch
import torch.nn.functional as F
from torch import Tensor

from handsight.policies.fuse.processor_fuse import KEYFRAME_OFFSET
from handsight.sensors.types import KEYFRAME, KeyframeKind

UNIT: Final = 0.03
"""Offsets to the next keyframe are predicted in units of this length [m]; the loss is linear beyond it."""
END_WEIGHT: Final = 0.1
"""Weight of keyframes that are the episode's end: where the arm then happens to be depends on noise that no sensor foretells."""


def keyframe_loss(out: Tensor, batch: Mapping[str, Any], kind_weight: float) -> tuple[Tensor, float]:
    """Loss (B,) of predictions out (B, 3 + kinds), and the mean distance [cm]."""
    label = batch[KEYFRAME]
    kind = (label[:, -1] if label.dim() == 3 else label)[:, 3].long()
    offset = batch[KEYFRAME_OFFSET] / UNIT
    weight = torch.where(kind == KeyframeKind.END, END_WEIGHT, 1.0)
    loss = weight * F.smooth_l1_loss(out[:, :3], offset, reduction="none").sum(dim=1)
    loss = loss + kind_weight * F.cross_entropy(out[:, 3:], kind, reduction="none")
    distance = (out[:, :3].detach() - offset).norm(dim=1).mean().item() * UNIT * 100
    return loss, distance
