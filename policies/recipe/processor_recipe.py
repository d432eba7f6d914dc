"""Pre- and postprocessing that fuse_act, fuse_diffusion and fuse_smolvla share: the host's pipelines, and our steps in them."""

from dataclasses import dataclass
from typing import Any, cast

from lerobot.configs import PipelineFeatureType, PolicyFeature
from lerobot.lerobot_types import EnvTransition, TransitionKey
from lerobot.processor import DeviceProcessorStep, NormalizerProcessorStep, ProcessorStep, ProcessorStepRegistry

from handsight.policies.fuse.processor_fuse import Pipelines, SensorsStep, Stats
from handsight.policies.recipe.options import OURS, SensorOptions
from handsight.policies.recipe.sensing import WORDS
from handsight.policies.text import hash_instructions
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import LABEL_PREFIX, TASK

Features = dict[PipelineFeatureType, dict[str, PolicyFeature]]


@dataclass
@ProcessorStepRegistry.register(name="handsight_words")
class WordsStep(ProcessorStep):
    """`task` (B strings) -> observation.words (B, L) int64, hashed; what the host's own tokenizer makes of the task stands beside it."""

    buckets: int = 2048
    max_words: int = 24

    def __call__(self, transition: EnvTransition) -> EnvTransition:
        """Raises HandsightError if there is no instruction."""
        parts: dict[Any, Any] = dict(transition)  # LeRobot's TypedDict is keyed by enum members, which type checkers refuse
        task = (parts.get(TransitionKey.COMPLEMENTARY_DATA) or {}).get(TASK)
        if task is None:
            raise HandsightError("expected an instruction under 'task' in the batch, got none; pass the task as a string, '' for none")
        ids = hash_instructions([task] if isinstance(task, str) else list(task), self.buckets, self.max_words)
        parts[TransitionKey.OBSERVATION] = dict(parts.get(TransitionKey.OBSERVATION) or {}) | {WORDS: ids}
        return cast(EnvTransition, parts)

    def get_config(self) -> dict[str, Any]:
        return {"buckets": self.buckets, "max_words": self.max_words}

    def transform_features(self, features: Features) -> Features:
        return features


def hosts(key: str) -> bool:
    """Whether an observation or an action is the host's to normalise."""
    return key not in OURS.values() and not key.startswith(LABEL_PREFIX)


def hosts_stats(stats: Stats | None) -> Stats | None:
    """Statistics of what is the host's: a checkpoint need not hold those of every taxel."""
    return None if stats is None else {key: value for key, value in stats.items() if hosts(key)}


def with_our_steps(pipelines: Pipelines, config: SensorOptions) -> Pipelines:
    """The host's pipelines with our steps before the move to the device, and its normaliser kept to what is the host's.

    LeRobot's normaliser would standardise every taxel and every audio sample by itself.
    """
    preprocessor, postprocessor = pipelines
    steps: list[ProcessorStep] = []
    for step in preprocessor.steps:
        if isinstance(step, DeviceProcessorStep):
            steps += [WordsStep(config.text_buckets, config.max_words), SensorsStep()]
        if isinstance(step, NormalizerProcessorStep):
            step.normalize_observation_keys = set(filter(hosts, config.input_features or {}))
        steps.append(step)
    preprocessor.steps = steps
    return preprocessor, postprocessor
