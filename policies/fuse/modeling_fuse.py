"""The fuse policy: sensor tokens and language -> trunk -> flow-matching action chunk.

Axes: B batch, T time, K noise draws, A action dimension.
"""

import copy
import math
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from safetensors.torch import load_model, save_file
from torch import Tensor

from handsight.policies.backbone import Features
from handsight.policies.chunking import ChunkQueue, HistoryRing, fit_window
from handsight.policies.ema import Ema
from handsight.policies.export_onnx import Example
from handsight.policies.flow import Field
from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.fuse.keyframe_loss import keyframe_loss
from handsight.policies.fuse.language import LanguageLosses, describe, senses
from handsight.policies.fuse.network import FuseNetwork
from handsight.policies.fuse.notes import Notes
from handsight.policies.fuse.phrases import Phrasebook
from handsight.policies.fuse.processor_fuse import KEYFRAME_OFFSET
from handsight.policies.fuse.warn import warn_of_dead_microphone, warn_of_unknown_words
from handsight.policies.regression import Regression
from handsight.policies.runtime_onnx import OnnxRuntime
from handsight.policies.text import HashedText, Tokenizer
from handsight.sensors.camera import pool_images
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Modality
from handsight.sensors.names import parse_sensors
from handsight.sensors.questions import parse_note
from handsight.sensors.types import ACTION, AUDIO, GROUNDING, STATE, TOUCH

Batch = Mapping[str, Any]

FRAME_DIMS = {STATE: 1, TOUCH: 4, AUDIO: 1}
"""Axes of one frame of each key; images, not listed, have 3."""

LANGUAGE_PARTS = ("model.language.", "model.readouts.")
"""What the language losses add to a policy that was trained without them."""


class FusePolicy(PreTrainedPolicy):
    """LeRobot policy. Training mode uses the live weights `model`, evaluation mode their average `ema.module`; checkpoints hold both.

    Which of the two is used is looked up at each call, nothing is swapped, so a state dict means the same in both modes.
    """

    config_class = FuseConfig
    name = "fuse"
    config: FuseConfig

    def __init__(self, config: FuseConfig, **kwargs: Any) -> None:
        """`kwargs`: LeRobot passes dataset statistics and metadata, which the processors use and the model does not need."""
        super().__init__(config)
        config.validate_features()
        self.model = FuseNetwork(config)
        if config.trains == "language":
            for name, parameter in self.model.named_parameters():
                parameter.requires_grad_(f"model.{name}".startswith(LANGUAGE_PARTS))
        self.ema = Ema(self.model, config.ema_decay) if config.ema_decay > 0 else None
        self.language_losses = LanguageLosses(config.language, self._phrasebook()) if config.language.any else None
        self.notes = Notes(note, self.tokenizer()) if (note := parse_note(config.note)) else None
        self._masked = parse_sensors(config.masked).keys
        self.runtime: OnnxRuntime | None = None
        """What predicts in place of the network, if anything does."""
        self.init_rtc_processor()
        self.reset()

    def tokenizer(self) -> Tokenizer:
        """Instructions to what the text encoder reads."""
        return Tokenizer(self.config.text_encoder, self.config.text_buckets, self.config.max_words)

    def _phrasebook(self) -> Phrasebook:
        config = self.config
        windows = (1 - config.touch_history[0], 1 - config.audio_history[0])
        return Phrasebook(self.tokenizer(), windows, senses(tuple(config.sensor_keys)), respects_validity=not config.upstream_compat)

    # -- training

    def forward(self, batch: Batch, reduction: str = "mean", generator: torch.Generator | None = None) -> tuple[Tensor, dict[str, float]]:
        """Loss () or, with reduction "none", (B,), and its parts as scalars. `batch` is a preprocessed batch and is not changed.

        The language losses compare rows of a batch: with reduction "none" each row has their mean.
        """
        network = self._network()
        total, metrics = batch[ACTION].new_zeros(len(batch[ACTION])), dict[str, float]()
        if self.config.trains == "all":
            total, metrics = self._imitation_loss(network, batch, generator)
        if self.language_losses is not None:
            language, more = self._language_loss(self.language_losses, network, batch, generator)
            total, metrics = total + language, metrics | more
        return (total if reduction == "none" else total.mean()), metrics

    def _imitation_loss(self, network: FuseNetwork, batch: Batch, generator: torch.Generator | None) -> tuple[Tensor, dict[str, float]]:
        """Actions and, if it has a weight, the next keyframe: (B,)."""
        features, metrics = self.features(self._noted(batch, generator), generator), dict[str, float]()
        losses = {self.config.action_head: self._action_loss(network, features, batch, generator)}
        if self.config.keyframe_weight > 0 and KEYFRAME_OFFSET in batch:
            out = network.keyframe(features.condition)
            losses["keyframe"], metrics["keyframe_cm"] = keyframe_loss(out, batch, self.config.kind_weight)
        metrics |= {f"loss/{name}": loss.mean().item() for name, loss in losses.items()}
        weights = {self.config.action_head: 1.0, "keyframe": self.config.keyframe_weight}
        total: Tensor = torch.stack([weights[name] * loss for name, loss in losses.items()]).sum(dim=0)
        return total, metrics

    def _noted(self, batch: Batch, generator: torch.Generator | None) -> Batch:
        """The batch with notes in its instructions, if the policy takes any."""
        if self.notes is None:
            return batch
        ids, mask = self.notes.add(batch[OBS_LANGUAGE_TOKENS], _labels(batch), generator)
        return {**batch, OBS_LANGUAGE_TOKENS: ids, OBS_LANGUAGE_ATTENTION_MASK: mask}

    def features(self, batch: Batch, generator: torch.Generator | None = None) -> Features:
        """Encode the observation: what the flow head, the auxiliary losses and later language losses read."""
        ids, mask = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]
        features: Features = self._network()(self._inputs(batch), ids, mask, generator)
        return features

    def _ready(self) -> None:
        """Evaluation mode; entering it walks over all modules, a tenth of a control step."""
        if self.training:
            self.eval()

    def _network(self) -> FuseNetwork:
        if self.training or self.ema is None:
            return self.model
        module = self.ema.module
        assert isinstance(module, FuseNetwork)
        return module

    def _action_loss(self, network: FuseNetwork, features: Features, batch: Batch, generator: torch.Generator | None) -> Tensor:
        objective = self.config.objective
        draws = 1 if isinstance(objective, Regression) else self.config.flow_draws  # without noise all draws are the same
        pair = objective.pair(batch[ACTION].repeat_interleave(draws, dim=0), generator)
        predicted = objective.output(network.head(pair.x, pair.t, network.head.context(features, draws)))
        error: Tensor = (predicted - pair.target).square().mean(dim=-1)  # (B * K, chunk)
        error = error.view(-1, draws, error.shape[-1]).mean(dim=1)  # (B, chunk)
        pad = batch.get(ACTION + "_is_pad")
        if pad is None:
            return error.mean(dim=1)
        # Steps after the end of the episode repeat its last action: they teach nothing. The first step is never padding.
        return (error * ~pad).sum(dim=1) / (~pad).sum(dim=1)

    def _language_loss(
        self, losses: LanguageLosses, network: FuseNetwork, batch: Batch, generator: torch.Generator | None
    ) -> tuple[Tensor, dict[str, float]]:
        labels = _labels(batch)
        ids, mask, inputs = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK], self._inputs(batch)
        if self.config.language_share < 1:
            rows = losses.phrasebook.rows(labels, math.ceil(self.config.language_share * len(labels)), generator)
            labels, ids, mask = labels[rows], ids[rows], mask[rows]
            inputs = {name: x if x is None else x[rows] for name, x in inputs.items()}
        total, metrics = losses(network, inputs, labels, (ids, mask), generator)
        return total, metrics

    @torch.no_grad()
    def update(self) -> None:
        """LeRobot calls this after every optimiser step."""
        if self.ema is not None:
            self.ema.update(self.model)

    def get_optim_params(self) -> list[dict[str, Any]]:
        """Matrices decay, vectors do not; fused AdamW where the device has it (3.6 against 23 ms a step on a CPU)."""
        params = [p for p in self.model.parameters() if p.requires_grad]
        fused = torch.device(self.config.device or "cpu").type in ("cpu", "cuda")
        return [
            {"params": [p for p in params if p.dim() >= 2], "fused": fused},
            {"params": [p for p in params if p.dim() < 2], "weight_decay": 0.0, "fused": fused},
        ]

    # -- inference

    def reset(self) -> None:
        """Forget the episode. New objects, because rollouts share the modules between shallow copies of a policy."""
        self._queue = ChunkQueue(self.config.n_action_steps)
        self._ring = HistoryRing({key: self.config.history_of(key) for key in self.config.sensor_keys.values()})

    def observe(self, batch: Batch) -> None:
        """Append one preprocessed frame (B, ...) to the history. `select_action` does it by itself."""
        self._ring.push(batch)

    @property
    def looks(self) -> bool:
        """Whether the next `select_action` needs the cameras: between two chunks it keeps the history of the other sensors alone."""
        return len(self._queue) == 0 or self.config.image_history != (0,)

    @torch.no_grad()
    def select_action(self, batch: Batch, **kwargs: Any) -> Tensor:
        """The next standardised action (B, A). Call it at every step: it keeps the history and predicts when its chunk is used up."""
        self.observe(batch)
        if len(self._queue) == 0:
            self._queue.push(self.predict_action_chunk(batch, **kwargs))
        return self._queue.pop()

    @torch.no_grad()
    def predict_action_chunk(
        self,
        batch: Batch,
        noise: Tensor | None = None,
        inference_delay: int | None = None,
        prev_chunk_left_over: Tensor | None = None,
        execution_horizon: int | None = None,
    ) -> Tensor:
        """Standardised chunk (B, chunk, A).

        `batch` holds windows (B, T, ...) or single frames; frames are completed by what `observe` has seen. `noise` (B, chunk, A) fixes
        the sample. The last three arguments are real-time chunking's (Black et al. 2025): steps that will be executed meanwhile, the
        unexecuted rest of the previous chunk, and how far to keep to it.
        """
        self._ready()
        batch, flow = self.complete(batch), self.config.objective
        warn_of_unknown_words(self._network().text, batch[OBS_LANGUAGE_TOKENS])
        if AUDIO in self.config.sensor_keys.values() and AUDIO not in self._masked:
            warn_of_dead_microphone(self._read(AUDIO, batch))
        if noise is None:
            ids = batch[OBS_LANGUAGE_TOKENS]
            shape = (ids.shape[0], self.config.chunk_size, self.model.action_dim)
            noise = flow.source(shape, like=torch.empty(0, device=ids.device))
        times = flow.schedule(like=noise)
        fields = self._fields(times, batch)
        if self.rtc_processor is not None and prev_chunk_left_over is not None:
            if self.runtime is not None:
                raise HandsightError(
                    "expected runtime=torch for real-time chunking, whose guidance needs gradients, got an exported policy"
                )
            guide = partial(self._guided, delay=inference_delay, rest=prev_chunk_left_over, horizon=execution_horizon)
            fields = [guide(field, time) for field, time in zip(fields, times.tolist(), strict=True)]
        return flow.follow(fields, noise)

    @torch.no_grad()
    def describe(self, batch: Batch, combination: Modality, *, constrained: bool = True, about: str = "") -> list[str]:
        """What a combination of senses says of the thing it has met, a sentence a row; `batch` as for `predict_action_chunk`.

        Whether the senses have met anything is not asked. `about` asks for this attribute, for a short answer. Raises
        HandsightError for a policy without a decoder, for a combination with a sense that is missing, or one that does not reveal `about`.
        """
        self._ready()
        return describe(self._network(), self._inputs(self.complete(batch)), combination, constrained=constrained, about=about)

    @property
    def network(self) -> FuseNetwork:
        """What predicts: the averaged weights, where there are any."""
        self._ready()
        return self._network()

    def network_inputs(self, batch: Batch) -> Example:
        """What the network gets of a preprocessed batch with every sensor, masked ones too: what an export is traced with."""
        batch = self.complete(batch)
        inputs = {name: x for name, key in self.config.sensor_keys.items() if (x := self._read(key, batch)) is not None}
        ids, mask = batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK]
        return Example(inputs, ids, mask, torch.ones(ids.shape[0], len(inputs), dtype=torch.bool))

    def _fields(self, times: Tensor, batch: Batch) -> list[Field]:
        if self.runtime is None:
            return self._network().head.fields(times, self.features(batch))
        return self.runtime.fields(times, self._inputs(batch), batch[OBS_LANGUAGE_TOKENS], batch[OBS_LANGUAGE_ATTENTION_MASK])

    def _guided(self, field: Field, time: float, *, delay: int | None, rest: Tensor, horizon: int | None) -> Field:
        """Pull towards the previous chunk. LeRobot's time runs from data to noise: time and velocity change sign."""
        processor = self.rtc_processor
        assert processor is not None

        def guided(x: Tensor) -> Tensor:
            out: Tensor = processor.denoise_step(
                x_t=x,
                prev_chunk_left_over=rest,
                inference_delay=delay or 0,
                time=1 - time,
                original_denoise_step_partial=lambda y: -field(y),
                execution_horizon=horizon,
            )
            return -out

        return guided

    def supports_rtc(self) -> bool:
        """`predict_action_chunk` takes the arguments of real-time chunking, which needs a flow to guide."""
        return self.config.action_head == "flow"

    def init_rtc_processor(self) -> None:
        """LeRobot's rollout sets `config.rtc_config` and calls this."""
        rtc = self.config.rtc_config
        self.rtc_processor = RTCProcessor(rtc) if rtc is not None and rtc.enabled else None

    # -- batches

    def complete(self, batch: Batch) -> dict[str, Any]:
        """The batch with the histories that `observe` has seen in place of single frames."""
        windows = self._ring.windows()
        return {**batch, **{key: window for key, window in windows.items() if self._is_frame(key, batch.get(key))}}

    @staticmethod
    def _is_frame(key: str, x: Tensor | None) -> bool:
        return x is not None and x.dim() == 1 + FRAME_DIMS.get(key, 3)

    def _inputs(self, batch: Batch) -> dict[str, Tensor | None]:
        return {name: None if key in self._masked else self._read(key, batch) for name, key in self.config.sensor_keys.items()}

    def _read(self, key: str, batch: Batch) -> Tensor | None:
        """The window (B, T, ...) of one sensor; images lose T if there is no history. None: missing in this batch."""
        if key not in batch:
            raise HandsightError(f"expected {key} in the batch, got {', '.join(sorted(batch))}; pass None to run without that sensor")
        x: Tensor | None = batch[key]
        if x is None:
            return None
        x = self._window(key, x)
        if key in FRAME_DIMS:
            return x
        x = x.squeeze(1) if x.shape[1] == 1 else x
        return x if self._is_pooled(key, x) else pool_images(x, self.config.image_pool)

    def _is_pooled(self, key: str, x: Tensor) -> bool:
        """Whether these images come from a cache that pooled them (`FuseConfig.pooled_cache`); a camera's never do."""
        assert self.config.input_features is not None
        return self.config.pooled_cache and x.shape[-1] * self.config.image_pool == self.config.input_features[key].shape[-1]

    def _window(self, key: str, x: Tensor) -> Tensor:
        union = tuple(self.config.observation_delta_indices or (0,))
        return fit_window(key, x, FRAME_DIMS.get(key, 3), self.config.history_of(key), union)

    # -- checkpoints

    @classmethod
    def from_pretrained(cls, pretrained_name_or_path: str | Path, **kwargs: Any) -> "FusePolicy":
        """As LeRobot's, with the runtime that the configuration asks for.

        Raises HandsightError where there is no such export of these weights.
        """
        policy: FusePolicy = super().from_pretrained(pretrained_name_or_path, **kwargs)
        if policy.config.runtime != "torch":
            policy.runtime = OnnxRuntime.beside(Path(pretrained_name_or_path), policy.config.runtime)
        return policy

    @classmethod
    def _load_as_safetensor(cls, model: "FusePolicy", model_file: str, map_location: str, strict: bool) -> "FusePolicy":
        """As LeRobot's, but the language heads of a finetuning start anew where the checkpoint has none, and so does a missing average."""
        try:
            missing, _ = load_model(model, model_file, strict=False, device=map_location)
        except RuntimeError as error:  # torch's way to report shapes that differ
            first = str(error).strip().splitlines()[1].strip()
            raise HandsightError(f"expected weights of this configuration in {model_file}, got another: {first}") from error
        wrong = [key for key in missing if not key.startswith(("ema.", *LANGUAGE_PARTS)) and not key.endswith("text.known")]
        if wrong:
            raise HandsightError(
                f"expected weights for {wrong[0]} (and {len(wrong) - 1} more) in {model_file}; it is of another configuration"
            )
        if missing and model.ema is not None:
            model.ema.restart(model.model, [key.removeprefix("ema.module.") for key in missing if key.startswith("ema.module.")])
        return model

    def remember(self, meanings: Tensor) -> None:
        """As `HashedText.remember`, also in checkpoints."""
        self.config.meanings = len(meanings)
        for network in (self.model, self.network):
            assert isinstance(network.text, HashedText), "launch/remember.py asks"
            network.text.remember(meanings)

    def export_ema(self, folder: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write a checkpoint of the averaged weights alone, in `dtype`. `from_pretrained` loads it; a finetuning averages on from them."""
        folder.mkdir(parents=True, exist_ok=True)
        network = self.model if self.ema is None else self.ema.module
        state = {f"model.{name}": _stored(value, dtype) for name, value in network.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
        whole = copy.copy(self.config)
        whole.trains, whole.pretrained_path = "all", None
        whole._save_pretrained(folder)


def export_checkpoint(policy: FusePolicy, source: Path, folder: Path, dtype: torch.dtype = torch.float16) -> None:
    """Slim copy of the checkpoint `source` that `policy` was loaded from: averaged weights, configuration and processors."""
    policy.export_ema(folder, dtype)
    for file in sorted(source.glob("policy_*processor*")):
        shutil.copy2(file, folder / file.name)


def _stored(value: Tensor, dtype: torch.dtype) -> Tensor:
    return (value.to(dtype) if value.is_floating_point() else value).contiguous().clone()


def _labels(batch: Batch) -> Tensor:
    """Grounding labels of now, (B, 10)."""
    if GROUNDING not in batch:
        raise HandsightError(
            f"expected {GROUNDING} in the dataset for the language losses, got none; record it with `handsight collect`, or set "
            "contrastive_weight and generation_weight to 0"
        )
    labels: Tensor = batch[GROUNDING]
    return labels[:, -1] if labels.dim() == 3 else labels
