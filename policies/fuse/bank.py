"""Memory of earlier batches for the contrastive loss, so that a small batch still sees many negatives.

Cross-batch memory (Wang et al. 2020, arXiv 1912.06798): embeddings change slowly during training, old ones still serve as negatives.
Axes: B batch, C combinations, E embedding, K capacity.
"""

import torch
from torch import Tensor, nn

from handsight.policies.fuse.losses import BankEntries, normalize


class MemoryBank(nn.Module):
    """The last `capacity` rows of sensor and text embeddings, first in, first out. Not saved: a resumed run fills it again.

    Raises:
        ValueError: a capacity below 1.
    """

    sensors: Tensor
    texts: Tensor
    text_ids: Tensor
    valid: Tensor

    def __init__(self, capacity: int, combinations: int, width: int) -> None:
        super().__init__()
        if capacity < 1:
            raise ValueError(f"expected a capacity of at least 1, got {capacity}; use no bank instead")
        self.capacity = capacity
        self._next = 0
        # Empty places are not valid, so that a bank is usable from the first batch on.
        self.register_buffer("sensors", torch.zeros(capacity, width), persistent=False)
        self.register_buffer("texts", torch.zeros(combinations, capacity, width), persistent=False)
        self.register_buffer("text_ids", torch.zeros(combinations, capacity, dtype=torch.int64), persistent=False)
        self.register_buffer("valid", torch.zeros(combinations, capacity, dtype=torch.bool), persistent=False)

    def entries(self) -> BankEntries:
        """A copy of all places; `backward` of the loss still needs it after the next `push`."""
        return BankEntries(self.sensors.clone(), self.texts.clone(), self.text_ids.clone(), self.valid.clone())

    @torch.no_grad()
    def push(self, sensor_embeddings: Tensor, text_embeddings: Tensor, text_ids: Tensor, valid: Tensor) -> None:
        """Remember a batch, in place of the oldest rows: (B, E), (C, B, E), (C, B), (C, B); of a larger batch its last `capacity` rows."""
        kept = min(self.capacity, len(sensor_embeddings))
        places = (self._next + torch.arange(kept, device=self.sensors.device)) % self.capacity
        self.sensors[places] = normalize(sensor_embeddings[-kept:]).to(self.sensors.dtype)
        self.texts[:, places] = normalize(text_embeddings[:, -kept:]).to(self.texts.dtype)
        self.text_ids[:, places] = text_ids[:, -kept:]
        self.valid[:, places] = valid[:, -kept:]
        self._next = (self._next + kept) % self.capacity
