"""Pre- and postprocessing of the fuse policy: the same steps, in the same order, in training, rollout and on the robot.

Axes: B batch, T time.
"""

from dataclasses import dataclass, field
from typing import Any, cast

import torch
from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import EnvTransition, PolicyAction, TransitionKey
from lerobot.processor import (
    NormalizerProcessorStep,
    ObservationProcessorStep,
    PolicyProcessorPipeline,
    ProcessorStep,
    ProcessorStepRegistry,
)
from lerobot.processor.factory import make_default_policy_processor_steps, make_policy_processor_pipelines
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from torch import Tensor

from handsight.policies.fuse.configuration_fuse import FuseConfig
from handsight.policies.text import Tokenizer
from handsight.sensors.audio import int16_to_tensor
from handsight.sensors.errors import HandsightError
from handsight.sensors.pcm import PCM_SCALE
from handsight.sensors.touch import TAXELS, normalize_touch, unflatten_touch
from handsight.sensors.types import AUDIO, KEYFRAME, STATE, TASK, TOUCH, TOUCH_SHAPE

KEYFRAME_OFFSET = KEYFRAME + "_offset"
"""(B, 3) tcp position at the next keyframe relative to the tcp now [m]; made here because the state is still in metres."""

Features = dict[PipelineFeatureType, dict[str, PolicyFeature]]
Stats = dict[str, dict[str, Any]]
Pipelines = tuple[PolicyProcessorPipeline[dict[str, Any], dict[str, Any]], PolicyProcessorPipeline[PolicyAction, PolicyAction]]


@dataclass
@ProcessorStepRegistry.register(name="handsight_instruction")
class InstructionStep(ProcessorStep):
    """`task` (B strings) -> observation.language.tokens (B, L) int64 and observation.language.attention_mask (B, L) bool."""

    encoder: str = "hashed"
    buckets: int = 2048
    max_words: int = 24
    _tokenize: Tokenizer = field(init=False, repr=False)

    def __post_init__(self) -> None:
        self._tokenize = Tokenizer(self.encoder, self.buckets, self.max_words)

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        """Raises HandsightError if there is no instruction."""
        parts: dict[Any, Any] = dict(transition)  # LeRobot's TypedDict is keyed by enum members, which type checkers refuse
        instructions = (parts.get(TransitionKey.COMPLEMENTARY_DATA) or {}).get(TASK)
        if instructions is None:
            raise HandsightError("expected an instruction under 'task' in the batch, got none; pass the task as a string")
        ids, mask = self._tokenize([instructions] if isinstance(instructions, str) else list(instructions))
        observation = dict(parts.get(TransitionKey.OBSERVATION) or {})
        parts[TransitionKey.OBSERVATION] = observation | {OBS_LANGUAGE_TOKENS: ids, OBS_LANGUAGE_ATTENTION_MASK: mask}
        return cast(EnvTransition, parts)

    def get_config(self) -> dict[str, Any]:
        return {"encoder": self.encoder, "buckets": self.buckets, "max_words": self.max_words}

    def transform_features(self, features: Features) -> Features:
        return features


@dataclass
@ProcessorStepRegistry.register(name="handsight_sensors")
class SensorsStep(ObservationProcessorStep):
    """Touch (…, 1536) or (…, 2, 3, 16, 16) in kPa -> (B, …, 2, 3, 16, 16) compressed; audio int16 -> [-1, 1]; keyframe offset.

    Labels pass through unchanged. A sensor that is None stays None.
    """

    def observation(self, observation: dict[str, Any]) -> dict[str, Any]:
        """`observation` is already a copy."""
        if observation.get(TOUCH) is not None:
            observation[TOUCH] = normalize_touch(_shape_touch(torch.as_tensor(observation[TOUCH])))
        if observation.get(AUDIO) is not None:
            observation[AUDIO] = _scale_audio(torch.as_tensor(observation[AUDIO]))
        if observation.get(KEYFRAME) is not None and observation.get(STATE) is not None:
            observation[KEYFRAME_OFFSET] = _now(observation[KEYFRAME])[:, :3] - _now(observation[STATE])[:, :3]
        return observation

    def transform_features(self, features: Features) -> Features:
        return features


def _shape_touch(x: Tensor) -> Tensor:
    x = unflatten_touch(x) if x.shape[-1] == TAXELS else x
    return x if x.dim() > len(TOUCH_SHAPE) else x.unsqueeze(0)


def _scale_audio(x: Tensor) -> Tensor:
    # LeRobot's own reader widens int16 columns to int64. Live sound is rounded to the steps that a recording has: training and
    # rollout then see the same numbers.
    x = (x.clamp(-1, 1) * PCM_SCALE).round() / PCM_SCALE if x.is_floating_point() else int16_to_tensor(x.to(torch.int16))
    return x if x.dim() > 1 else x.unsqueeze(0)


def _now(x: Tensor) -> Tensor:
    """(B, n) of (B, n) or (B, T, n): histories end in the current frame."""
    return x[:, -1] if x.dim() == 3 else x


def _floored(stats: Stats | None, config: FuseConfig) -> Stats | None:
    """Statistics of state and action alone, their deviations not below the floors."""
    if stats is None:
        return None
    floors = config.std_floors
    return {
        key: {name: torch.as_tensor(value).clamp_min(floors[key]) if name == "std" else value for name, value in stats[key].items()}
        for key in floors
        if key in stats
    }


def make_fuse_pre_post_processors(config: FuseConfig, dataset_stats: Stats | None = None) -> Pipelines:
    """Rename, batch, tokenise, normalise touch and audio, move to the device, standardise state and action; and back for the action.

    LeRobot's normaliser is kept to observation.state: it would standardise every taxel and every audio sample by itself. The steps
    that LeRobot overrides by name on resuming and finetuning (device, normalizer, rename, unnormalizer) are all present.
    """
    stats = _floored(dataset_stats, config)
    steps = make_default_policy_processor_steps(config, stats)
    normalize = NormalizerProcessorStep(
        features={**(config.input_features or {}), **(config.output_features or {})},
        norm_map=config.normalization_mapping,
        stats=stats,
        normalize_observation_keys={STATE},
    )
    instruction = InstructionStep(encoder=config.text_encoder, buckets=config.text_buckets, max_words=config.max_words)
    return make_policy_processor_pipelines(
        input_steps=[steps.rename_observations, steps.add_batch_dim, instruction, SensorsStep(), steps.to_device, normalize],
        output_steps=[steps.unnormalize, steps.to_cpu],
    )
