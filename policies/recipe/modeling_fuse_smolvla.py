"""LeRobot's SmolVLA with touch and sound as a further block of its prefix.

Axes: B batch, P prefix tokens, N tokens of ours, D width of the language model.
"""

from typing import Any

import torch
from lerobot.policies.smolvla.modeling_smolvla import SmolVLAPolicy, VLAFlowMatching
from torch import Tensor
from transformers import DynamicCache

from handsight.policies.recipe.adapter import SensorAdapter
from handsight.policies.recipe.configuration_fuse_smolvla import FuseSmolVlaConfig
from handsight.policies.recipe.sensing import Batch, Sensing
from handsight.policies.recipe.slot import Slot


class SensedFlowMatching(VLAFlowMatching):
    """SmolVLA's model whose prefix ends with the slot's tokens.

    They form a block: they see the whole prefix and each other, the actions see them, and the host's own prefix does not. Absent ones
    are masked as padding, which also keeps them out of the positions.
    """

    slot: Slot

    def embed_prefix(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor, Tensor]:
        """Embeddings (B, P + N, D), padding masks (B, P + N), and (B, P + N) True where a block begins."""
        embeddings, present, begins = super().embed_prefix(*args, **kwargs)
        extra = self.slot.extra
        if extra is None:
            return embeddings, present, begins
        ours = torch.zeros_like(extra.present)
        ours[:, 0] = True
        embeddings = torch.cat([embeddings, extra.tokens.to(embeddings.dtype)], dim=1)
        return embeddings, torch.cat([present, extra.present], dim=1), torch.cat([begins, ours], dim=1)

    def denoise_step(self, prefix_pad_masks: Tensor, past_key_values: Any, x_t: Tensor, timestep: Tensor) -> Tensor:
        """Velocity of one step, on the prefix's cache."""
        cache = None if past_key_values is None else PrefixCache(past_key_values)
        velocity: Tensor = super().denoise_step(prefix_pad_masks, cache, x_t, timestep)
        return velocity


class PrefixCache(DynamicCache):
    """A view of `cache` that `crop(length)` shortens to a length, as SmolVLA calls it.

    LeRobot 0.6.1 is written for transformers before 5.6; later ones take the number of tokens to remove, negative, and raise otherwise.
    """

    layers: list[Any]

    def __init__(self, cache: DynamicCache) -> None:
        super().__init__()
        self.layers = cache.layers

    def crop(self, length: int) -> None:
        """Shorten every layer to `length` tokens."""
        for layer in self.layers:
            if layer.get_seq_length() > length:
                layer.crop(length - layer.get_seq_length())


class FuseSmolVlaPolicy(Sensing, SmolVLAPolicy):
    """SmolVLA that also feels and hears."""

    config_class = FuseSmolVlaConfig
    name = "fuse_smolvla"

    def __init__(self, config: FuseSmolVlaConfig, **kwargs: Any) -> None:
        """`kwargs`: LeRobot passes dataset statistics and metadata, which the processors use and the model does not need."""
        super().__init__(config, **kwargs)
        width = self.model.vlm_with_expert.config.text_config.hidden_size
        self.adapter = SensorAdapter(config, width, image_width=width)
        self.slot = Slot()
        self.slot.watch(self.model.vlm_with_expert.get_vlm_model().connector)
        # The host builds its model itself, and to build the subclass as well would take its memory twice; it only adds the slot.
        self.model.__class__ = SensedFlowMatching
        self.model.slot = self.slot
        self.finish(config)

    def _get_action_chunk(self, batch: Batch, noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        # Where both of the host's ways to act meet: its select_action does not pass through predict_action_chunk.
        batch = self._complete(batch)
        with self.slot.filled(self.extra(batch)):
            chunk: Tensor = super()._get_action_chunk(self.host_batch(batch), noise, **kwargs)
        return chunk

    @torch.no_grad()
    def predict_action_chunk(self, batch: Batch, noise: Tensor | None = None, **kwargs: Any) -> Tensor:
        """The host's chunk (B, chunk, A). `batch` holds windows, or frames, which are completed by what `observe` has seen."""
        chunk: Tensor = SmolVLAPolicy.predict_action_chunk(self, dict(batch), noise, **kwargs)
        return chunk

    def look(self, batch: dict[str, Any]) -> None:
        """Run the image encoder alone."""
        for images in self.prepare_images(batch)[0]:
            self.model.vlm_with_expert.embed_image(images)

    def _get_default_peft_targets(self) -> dict[str, Any]:
        """SmolVLA's; the adapter, which no checkpoint of SmolVLA has, is trained and saved whole."""
        targets: dict[str, Any] = super()._get_default_peft_targets()
        return targets | {"modules_to_save": [*targets.get("modules_to_save", []), "adapter"]}
