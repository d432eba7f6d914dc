"""Exponential moving average of a model's weights, kept inside the model so that every checkpoint holds it."""

import copy
from collections.abc import Sequence
from typing import cast

import torch
from torch import Tensor, nn


def decay_at(update: int, decay: float) -> float:
    """Decay of update number `update` (from 0), warmed up so that the first averages forget the initialisation.

    min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage(num_updates).
    """
    return min(decay, (1 + update) / (10 + update))


class Ema(nn.Module):
    """Averaged copy of a model: average <- d average + (1 - d) live, after each optimiser step.

    Frozen parameters (a pretrained encoder) are shared with the live model, not copied.
    """

    updates: Tensor

    def __init__(self, model: nn.Module, decay: float) -> None:
        super().__init__()
        self.decay = decay
        frozen = {id(p): p for p in model.parameters() if not p.requires_grad}
        self.module = copy.deepcopy(model, memo=cast(dict[int, object], frozen))
        self._trained = [name for name, p in model.named_parameters() if p.requires_grad]
        for p in self.module.parameters():
            p.requires_grad_(False)
        self.module.eval()
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def train(self, mode: bool = True) -> "Ema":
        """The average is only ever evaluated."""
        return super().train(False)

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Average in the live weights of `model`."""
        live, average = dict(model.named_parameters()), dict(self.module.named_parameters())
        weight = 1 - decay_at(int(self.updates), self.decay)
        torch._foreach_lerp_([average[n] for n in self._trained], [live[n].detach() for n in self._trained], weight)
        for mine, theirs in zip(self.module.buffers(), model.buffers(), strict=True):
            mine.copy_(theirs)
        self.updates += 1

    @torch.no_grad()
    def restart(self, model: nn.Module, names: Sequence[str] | None = None) -> None:
        """Make the average equal to the live weights: of all that is `model`'s, forgetting the past, or of the names given."""
        live = model.state_dict()
        self.module.load_state_dict(live if names is None else {name: live[name] for name in names}, strict=False)
        if names is None:
            self.updates.zero_()
