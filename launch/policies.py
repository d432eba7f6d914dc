"""From `--policy.path` to something that acts: loads any LeRobot policy, says in one line why it cannot or does not fit the environment."""

import contextlib
import copy
import io
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, cast

import numpy as np
import torch
from draccus.utils import DraccusException
from lerobot.configs.policies import PreTrainedConfig
from lerobot.policies.factory import get_policy_class, make_pre_post_processors
from lerobot.policies.pretrained import PreTrainedPolicy
from lerobot.processor import PolicyProcessorPipeline, RenameObservationsProcessorStep
from lerobot.utils.import_utils import register_third_party_plugins
from numpy.typing import NDArray
from safetensors import SafetensorError

from handsight.envs.pool import Attributes, Transition
from handsight.launch.actors import Cast
from handsight.launch.checkpoints import check_files, find
from handsight.launch.observation import dataset_shape, to_batch
from handsight.policies.runtime_onnx import OnnxRuntime
from handsight.policies.weights import fingerprint
from handsight.sensors.errors import HandsightError
from handsight.sensors.grounding import Modality
from handsight.sensors.types import ACTION, LABEL_PREFIX, TOUCH

# option -> what policy types call it
_OVERRIDES: Final = {
    "n_action_steps": ("n_action_steps",),
    "num_inference_steps": ("num_inference_steps", "flow_steps", "num_steps", "num_integration_steps"),
}


@dataclass(frozen=True)
class Overrides:
    """What a rollout may change in a checkpoint's configuration; None keeps what it was trained with."""

    device: str | None = None
    n_action_steps: int | None = None
    num_inference_steps: int | None = None
    masked: str = ""
    """Names of sensors that the policy treats as missing."""


def load(path: str, overrides: Overrides, runtime: str = "torch", *, checked: bool = True) -> Cast:
    """As `load_policy`, so that every slot can have an actor of its own."""
    model = load_policy(path, overrides, runtime, checked=checked)
    config = model.policy.config
    return Cast(
        name=path,
        fingerprint=fingerprint(find(path)),
        image_size=_image_size(config),
        needs_expert=False,
        check=lambda attributes: check_fit(config, _rename_map(model.preprocessor), attributes),
        make=lambda _: (DescribingActor if getattr(config, "generation_weight", 0) > 0 else PolicyActor)(model),
        note=getattr(config, "note", ""),
    )


def load_policy(path: str, overrides: Overrides, runtime: str = "torch", *, checked: bool = True) -> "Model":
    """A checkpoint with its processors.

    Args:
        path: a checkpoint folder, a hub id or zoo/NAME.
        overrides: what to change in its configuration.
        runtime: torch, or an export of `handsight export`: onnx or onnx-int8.
        checked: refuse int8 unless its success was checked on a task.

    Raises:
        HandsightError: the checkpoint is incomplete, damaged, of an unknown type, or cannot take the overrides or the runtime.
    """
    folder = find(path)
    check_files(folder)
    with _one_line(folder):
        config = _configure(folder, overrides if runtime == "torch" else _on_cpu(overrides, runtime))
        policy = _build(config, folder)
        preprocessor, postprocessor = make_pre_post_processors(
            config, str(folder), preprocessor_overrides={"device_processor": {"device": str(config.device)}}
        )
    if runtime != "torch":
        _attach(policy, folder, runtime, checked=checked)
    return Model(policy, preprocessor, postprocessor, str(config.device))


def _on_cpu(overrides: Overrides, runtime: str) -> Overrides:
    if overrides.device not in (None, "cpu"):
        raise HandsightError(f"expected --device=cpu with --runtime={runtime}, got {overrides.device}; exports run on the CPU")
    return replace(overrides, device="cpu")


def _attach(policy: PreTrainedPolicy, folder: Path, runtime: str, *, checked: bool) -> None:
    if policy.name != "fuse":
        raise HandsightError(f"expected a fuse policy with --runtime={runtime}, got {policy.name}; use --runtime=torch")
    policy.runtime = OnnxRuntime.beside(folder, runtime, checked=checked)


@contextlib.contextmanager
def _one_line(folder: Path) -> Iterator[None]:
    """What LeRobot raises for a bad checkpoint, as one line; and nothing of what it prints while loading."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    except (ValueError, TypeError, KeyError, OSError, RuntimeError, ImportError, SafetensorError, DraccusException) as error:
        reason = " ".join(str(error).split())[:400]
        raise HandsightError(
            f"expected a checkpoint that LeRobot can load in {folder}, got {type(error).__name__}: {reason}; "
            "check that it was saved by a policy type and a version that are installed here"
        ) from error


def _configure(folder: Path, overrides: Overrides) -> PreTrainedConfig:
    import lerobot.policies  # noqa: F401  registers the built-in policy types

    register_third_party_plugins()
    import lerobot_policy_handsight  # noqa: F401  ours, also from a source tree without installed metadata

    config = PreTrainedConfig.from_pretrained(folder)
    device = overrides.device or ("cuda" if torch.cuda.is_available() else "cpu")
    known = {field.name for field in fields(config)}
    wanted: dict[str, Any] = {"device": device, "pretrained_path": folder}
    for option, names in _OVERRIDES.items():
        if (value := getattr(overrides, option)) is None:
            continue
        if not (name := next(filter(known.__contains__, names), "")):
            raise HandsightError(f"expected an option that the policy type {config.type} has, got --{option}; leave it out")
        wanted[name] = value
    if overrides.masked:
        if "masked" not in known:
            raise HandsightError(f"expected a policy that can do without sensors, got {config.type}; use --sensors.zero instead")
        wanted["masked"] = overrides.masked
    return replace(config, **wanted)


def _build(config: PreTrainedConfig, folder: Path) -> PreTrainedPolicy:
    policy_class = get_policy_class(config.type)
    if not config.use_peft:
        return policy_class.from_pretrained(folder, config=config, strict=True)
    from peft import PeftConfig, PeftModel

    adapter = PeftConfig.from_pretrained(str(folder))
    base = policy_class.from_pretrained(adapter.base_model_name_or_path, config=config, strict=True)
    return cast(PreTrainedPolicy, PeftModel.from_pretrained(base, str(folder), config=adapter))


def _image_size(config: PreTrainedConfig) -> int | None:
    """Side of the square images that the policy declares [px]."""
    sizes = {feature.shape[-1] for feature in config.image_features.values()}
    return int(sizes.pop()) if len(sizes) == 1 else None


def _rename_map(preprocessor: PolicyProcessorPipeline[Any, Any]) -> dict[str, str]:
    """How the checkpoint renames what the environment calls its sensors."""
    steps = [step for step in preprocessor.steps if isinstance(step, RenameObservationsProcessorStep)]
    return {old: new for step in steps for old, new in step.rename_map.items()}


def check_fit(config: PreTrainedConfig, renamed: dict[str, str], attributes: Attributes) -> None:
    """Raises HandsightError unless the environment delivers every sensor that the policy declares, in its shape, and takes its action."""
    offered = {renamed.get(key, key): dataset_shape(key, shape) for key, shape in attributes.observation_shapes.items()}
    for key, feature in (config.input_features or {}).items():
        shape = (int(np.prod(feature.shape)),) if key == TOUCH else tuple(feature.shape)
        if key.startswith(LABEL_PREFIX) or not key.startswith("observation."):
            continue  # only training has these
        if key not in offered:
            raise HandsightError(
                f"expected an environment with {key} {shape}, which the policy declares, got one with {', '.join(sorted(offered))}; "
                "choose an --env.task with that sensor, or a policy trained on what this one has"
            )
        if offered[key] != shape:
            remedy = f"try --env.image_size={shape[-1]}" if key in config.image_features else "choose the task it was trained on"
            raise HandsightError(f"expected {key} {shape}, which the policy declares, got {offered[key]} from the environment; {remedy}")
    action = (config.output_features or {}).get(ACTION)
    if action is not None and tuple(action.shape) != attributes.action_low.shape:
        got = attributes.action_low.shape
        raise HandsightError(f"expected an environment with actions {tuple(action.shape)}, got {got}; choose the task it was trained on")


@dataclass(frozen=True)
class Model:
    """A policy with its processing, as loaded; shared by the actors, never run itself."""

    policy: PreTrainedPolicy
    preprocessor: PolicyProcessorPipeline[dict[str, Any], dict[str, Any]]
    postprocessor: PolicyProcessorPipeline[torch.Tensor, torch.Tensor]
    device: str

    def twin(self) -> "Model":
        """A copy whose queues, ensembles and caches are its own and whose weights are shared."""
        weights: dict[int, Any] = {id(parameter): parameter for parameter in self.policy.parameters()}
        # one deepcopy for all three: some post-processors hold on to a step of the pre-processor
        parts = copy.deepcopy((self.policy, self.preprocessor, self.postprocessor), weights)
        return Model(*parts, self.device)


class RandomStream:
    """The generators that LeRobot's policies draw from (torch, NumPy), seeded by the episode and undisturbed by other slots."""

    def __init__(self, seed: int, device: str) -> None:
        word = int(np.random.SeedSequence([seed, 2]).generate_state(1, np.uint32)[0])
        self._cuda = torch.device(device) if device.startswith("cuda") else None
        self._state: dict[str, Any] = {
            "torch": torch.Generator().manual_seed(word).get_state(),
            "numpy": np.random.RandomState(word).get_state(),
            "cuda": torch.Generator(self._cuda).manual_seed(word).get_state() if self._cuda else None,
        }

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """Draws inside come from this stream; outside, the global generators continue as if nothing had happened."""
        outer = self._capture()
        self._restore(self._state)
        try:
            yield
        finally:
            self._state = self._capture()
            self._restore(outer)

    def _capture(self) -> dict[str, Any]:
        return {
            "torch": torch.get_rng_state(),
            "numpy": np.random.get_state(),  # noqa: NPY002  LeRobot's TD-MPC draws from it
            "cuda": torch.cuda.get_rng_state(self._cuda) if self._cuda else None,
        }

    def _restore(self, state: dict[str, Any]) -> None:
        torch.set_rng_state(state["torch"])
        np.random.set_state(state["numpy"])  # noqa: NPY002
        if self._cuda:
            torch.cuda.set_rng_state(state["cuda"], self._cuda)


class PolicyActor:
    """A LeRobot policy in one slot, always run on a batch of one: what it does cannot depend on the other slots."""

    def __init__(self, model: Model) -> None:
        self._model = model.twin()

    @property
    def looks(self) -> bool:
        """Policies that do not say so always need pictures: LeRobot's own take every frame."""
        return bool(getattr(self._model.policy, "looks", True))

    def reset(self, seed: int) -> None:
        self._random = RandomStream(seed, self._model.device)
        self._model.policy.reset()
        self._model.preprocessor.reset()
        self._model.postprocessor.reset()

    def act(self, transition: Transition) -> NDArray[np.float32]:
        with torch.inference_mode(), self._random.active():
            batch = self._model.preprocessor(to_batch(transition.observation, transition.task))
            action = self._model.postprocessor(self._model.policy.select_action(batch))
        return action.squeeze(0).to("cpu", torch.float32).numpy()


class DescribingActor(PolicyActor):
    """A policy that also says what it has met."""

    @property
    def windows(self) -> tuple[int, int]:
        """Control steps that its touch and audio reach back over, now included."""
        config: Any = self._model.policy.config
        return 1 - config.touch_history[0], 1 - config.audio_history[0]

    def describe(self, transition: Transition, combination: Modality, about: str = "") -> str:
        """A sentence about what a combination has met, or about an attribute of it, after `act` on this transition."""
        policy: Any = self._model.policy
        with torch.inference_mode(), self._random.active():
            batch = self._model.preprocessor(to_batch(transition.observation, transition.task))
            sentence: str = policy.describe(batch, combination, about=about)[0]
        return sentence
