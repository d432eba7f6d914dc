"""What fuse_act, fuse_diffusion and fuse_smolvla add to LeRobot's policies around their forward passes.

Axes: B batch, T time.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

import torch
from huggingface_hub import hf_hub_download
from safetensors.torch import load_model
from torch import Tensor

from handsight.policies.chunking import HistoryRing, fit_window
from handsight.policies.fuse.language import LanguageLosses, describe, senses
from handsight.policies.fuse.phrases import Phrasebook
from handsight.policies.recipe.adapter import IMAGES, Extra, SensorAdapter
from handsight.policies.recipe.options import OURS, frame_dims
from handsight.policies.recipe.slot import Slot
from handsight.policies.text import PAD, Tokenizer
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Modality
from handsight.sensors.names import parse_sensors
from handsight.sensors.types import GROUNDING, LABEL_PREFIX, STATE

WORDS = "observation.words"
"""Hashed words of the instruction in a preprocessed batch, (B, L) int64, beside whatever the host's own tokenizer makes of it."""

Batch = Mapping[str, Any]


class Sensing:
    """Stands before the host's policy class among the bases: completes histories, encodes, and fills the slot while the host computes."""

    host_time_axis: ClassVar[bool] = False
    """Whether the host's observations keep their time axis in a batch of windows."""
    config: Any
    adapter: SensorAdapter
    slot: Slot
    language_losses: LanguageLosses | None

    def finish(self, config: Any) -> None:
        """The last step of construction: the language losses, and the weights of `config.host`."""
        self.language_losses = LanguageLosses(config.language, self._phrasebook()) if config.language.any else None
        if config.host:
            load_host(self, config.host)
            config.host = ""  # from here on checkpoints hold its weights; loading one must not need the host again

    # -- the host's methods

    def forward(self, batch: Batch, **kwargs: Any) -> tuple[Tensor, dict[str, float]]:
        """The host's loss, with its metrics, on a preprocessed batch of windows; the batch is not changed."""
        with self.slot.filled(self.extra(batch)), self.slot.watched() as images:
            loss, metrics = super().forward(self.host_batch(batch), **kwargs)  # type: ignore[misc] # the host's
        metrics = {"loss/action": loss.mean().item(), **(metrics or {})}
        if self.language_losses is not None:
            language, more = self._language_loss(self.language_losses, batch, images)
            loss, metrics = loss + language, metrics | more
        return loss, metrics

    @torch.no_grad()
    def select_action(self, batch: Batch, **kwargs: Any) -> Tensor:
        """The next action (B, A) of a preprocessed frame. Call it at every step: it keeps the history."""
        self.observe(batch)
        action: Tensor = super().select_action(dict(batch), **kwargs)  # type: ignore[misc] # the host's
        return action

    @torch.no_grad()
    def predict_action_chunk(self, batch: Batch, **kwargs: Any) -> Tensor:
        """The host's chunk (B, chunk, A). `batch` holds windows, or frames, which are completed by what `observe` has seen."""
        self.eval()  # type: ignore[attr-defined] # the host's
        batch = self._complete(batch)
        with self.slot.filled(self.extra(batch)):
            chunk: Tensor = super().predict_action_chunk(self.host_batch(batch), **kwargs)  # type: ignore[misc] # the host's
        return chunk

    @torch.no_grad()
    def describe(self, batch: Batch, combination: Modality, *, constrained: bool = True) -> list[str]:
        """One sentence a row about the thing that the sensors of a combination have met (see fuse/language.py).

        `batch` is as for `predict_action_chunk`.
        """
        self.eval()  # type: ignore[attr-defined] # the host's
        batch = self._complete(batch)
        with self.slot.filled(self.extra(batch)), self.slot.watched() as images:
            if self.config.image_features:
                self.look(self.host_batch(batch))
        inputs = self._grounding_inputs(batch, images)
        return describe(self.adapter, inputs, combination, constrained=constrained)

    def look(self, batch: dict[str, Any]) -> None:
        """Run the host's image encoder alone, on a batch of `host_batch`."""
        raise NotImplementedError

    def reset(self) -> None:
        """Forget the episode."""
        super().reset()  # type: ignore[misc] # the host's
        self._ring = HistoryRing({key: self.config.history_of(key) for key in self.config.input_features or {}})

    def observe(self, batch: Batch) -> None:
        """Append one preprocessed frame (B, ...) to the history. `select_action` does it by itself."""
        self._ring.push(batch)

    def get_optim_params(self) -> list[dict[str, Any]]:
        """The host's groups, and one with a learning rate of its own for what the host does not have."""
        ours = {name: p for name, p in self.named_parameters() if is_ours(name)}  # type: ignore[attr-defined] # the host's
        known = {id(p) for p in ours.values()}
        groups = _groups(super().get_optim_params())  # type: ignore[misc] # the host's
        hosts = [group | {"params": [p for p in group["params"] if id(p) not in known]} for group in groups]
        return [*hosts, {"params": list(ours.values()), "lr": self.config.adapter_lr}]

    # -- language

    def _phrasebook(self) -> Phrasebook:
        config = self.config
        tokenizer = Tokenizer("hashed", config.text_buckets, config.max_words)
        windows = (1 - config.touch_history[0], 1 - config.audio_history[0])
        available = senses(tuple(group.name for group in self.adapter.sensors.groups))
        return Phrasebook(tokenizer, windows, available, respects_validity=not config.upstream_compat)

    def _language_loss(self, losses: LanguageLosses, batch: Batch, images: list[Tensor]) -> tuple[Tensor, dict[str, float]]:
        if GROUNDING not in batch:
            raise HandsightError(
                f"expected {GROUNDING} in the dataset for the language losses, got none; record it with `handsight collect`, or set "
                "contrastive_weight and generation_weight to 0"
            )
        labels, ids = batch[GROUNDING], batch[WORDS]
        labels = labels[:, -1] if labels.dim() == 3 else labels
        loss: tuple[Tensor, dict[str, float]] = losses(self.adapter, self._grounding_inputs(batch, images), labels, (ids, ids != PAD))
        return loss

    def _grounding_inputs(self, batch: Batch, images: list[Tensor]) -> dict[str, Tensor | None]:
        """What language is about: our sensors' windows, the host's state now, and its image features."""
        known = {**self.sensor_inputs(batch), IMAGES: torch.cat(images, dim=1) if images else None}
        if batch.get(STATE) is not None:
            known["state"] = self._window(STATE, batch[STATE])[:, -1:]
        return {group.name: known.get(group.name) for group in self.adapter.sensors.groups}

    # -- batches

    def extra(self, batch: Batch) -> Extra:
        """What the host is given of a preprocessed batch of windows."""
        extra: Extra = self.adapter(self.sensor_inputs(batch), batch[WORDS])
        return extra

    def sensor_inputs(self, batch: Batch) -> dict[str, Tensor | None]:
        """The windows of the sensors that the adapter encodes, by name; None: missing."""
        return {name: self._input(key, batch) for name, key in self.config.our_keys.items()}

    def _input(self, key: str, batch: Batch) -> Tensor | None:
        if key not in batch:
            raise HandsightError(f"expected {key} in the batch, got {', '.join(sorted(batch))}; pass None to run without that sensor")
        x: Tensor | None = batch[key]
        return None if x is None or key in parse_sensors(self.config.masked).keys else self._window(key, x)

    def _window(self, key: str, x: Tensor) -> Tensor:
        union = tuple(self.config.observation_delta_indices or (0,))
        return fit_window(key, x, frame_dims(key), self.config.history_of(key), union)

    def host_batch(self, batch: Batch) -> dict[str, Any]:
        """What the host reads: no sensors of ours, no labels, and its observations in the shape that it expects."""
        keys = [key for key in batch if key not in (*OURS.values(), WORDS) and not key.startswith(LABEL_PREFIX)]
        features = self.config.input_features or {}
        return {key: self._host_window(key, batch[key]) if key in features else batch[key] for key in keys}

    def _host_window(self, key: str, x: Tensor) -> Tensor:
        window = self._window(key, x)
        return window if self.host_time_axis else window[:, -1]

    def _complete(self, batch: Batch) -> dict[str, Any]:
        windows = self._ring.windows()
        frames = [key for key in windows if batch.get(key) is not None and batch[key].dim() == 1 + frame_dims(key)]
        return {**batch, **{key: windows[key] for key in frames}}


def is_ours(name: str) -> bool:
    """Whether a parameter or buffer is one that the stock policy does not have."""
    return name.startswith("adapter.") or name.rpartition(".")[2] == "extra"


def _groups(params: Iterable[Any]) -> list[dict[str, Any]]:
    """LeRobot's policies give parameters or groups of parameters."""
    params = list(params)
    return params if params and isinstance(params[0], dict) else [{"params": params}]


def load_host(policy: Any, path: str) -> None:
    """Load the weights of a stock policy's checkpoint, a folder or a hub id, into `policy`.

    Raises HandsightError unless it has every weight of the host, in its shape.
    """
    file = Path(path) / "model.safetensors" if Path(path).is_dir() else hf_hub_download(path, "model.safetensors")
    try:
        missing, _ = load_model(policy, file, strict=False)
    except RuntimeError as error:  # torch's way to report shapes that differ
        first = str(error).strip().splitlines()[1].strip()
        raise HandsightError(f"expected weights of this configuration in {path}, got another: {first}") from error
    wrong = [name for name in missing if not is_ours(name)]
    if wrong:
        raise HandsightError(f"expected weights for {wrong[0]} (and {len(wrong) - 1} more) in {path}; it is of another policy")
