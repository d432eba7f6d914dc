"""`handsight export`: writes a fuse checkpoint for ONNX Runtime and measures that it acts as torch does.

    handsight export --policy.path=outputs/train/tabletop_grasp --env.task=sense/tabletop_grasp
    handsight export --policy.path=zoo/bag_stiff --out=outputs/export/bag_stiff --int8 --env.task=sense/bag_stiff --episodes=200

Then `handsight rollout --policy.path=... --runtime=onnx`. With --int8 the same seeds are played in fp32 and with 8-bit weights; both
success rates go into onnx/manifest.json, and --runtime=onnx-int8 is refused unless they are within 2 points. An interrupted check is
continued by the same command.
"""

import copy
import shutil
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import torch
from lerobot.utils.constants import OBS_LANGUAGE_ATTENTION_MASK, OBS_LANGUAGE_TOKENS
from torch import Tensor

from handsight.envs.pool import DEFAULT_MAKER, EnvPool
from handsight.launch.arguments import parse
from handsight.launch.checkpoints import check_files, find
from handsight.launch.episodes import read_episodes
from handsight.launch.gl import require_gl
from handsight.launch.metrics import paired_difference, wilson
from handsight.launch.observation import to_batch
from handsight.launch.policies import Model, Overrides, load, load_policy
from handsight.launch.rollout import DEFAULT_IMAGE_SIZE, EnvArguments, PolicyArguments, RolloutArguments, rollout
from handsight.policies.export_onnx import FOLDER, MANIFEST, Manifest, export_network, quantize, writers
from handsight.policies.fuse.modeling_fuse import FRAME_DIMS, FusePolicy
from handsight.policies.runtime_onnx import OnnxRuntime
from handsight.policies.runtimes import Precision
from handsight.policies.text import PAD, HashedText
from handsight.policies.weights import fingerprint
from handsight.sensors.errors import HandsightError
from handsight.sensors.types import TOUCH, TOUCH_SHAPE

LARGEST_DIFFERENCE: Final = 1e-5  # of an action in fp32
ROUNDING: Final = 4  # as many times torch's own distance to float64, where that is more: sharp softmaxes amplify the rounding of both
ROWS: Final = (1, 3)  # batch sizes that are compared
RANDOM_BATCHES: Final = 4
_CHECKED: Final[dict[str, str]] = {"fp32": "onnx", "int8": "onnx-int8"}


@dataclass(frozen=True)
class TaskArguments:
    task: str = ""
    """The task whose observations are compared, and on which int8 is checked, such as sense/tabletop_grasp."""

    maker: str = DEFAULT_MAKER
    """MODULE:FUNCTION that makes an environment from the task."""


@dataclass(frozen=True)
class ExportArguments:
    policy: PolicyArguments = field(default_factory=PolicyArguments)
    env: TaskArguments = field(default_factory=TaskArguments)

    out: str = ""
    """Folder for a copy of the checkpoint with the export; by default the export goes into the checkpoint's own folder."""

    int8: bool = False
    """Also write 8-bit weights and check them on --env.task."""

    episodes: int = 200
    """Episodes of the check, played twice."""

    seed: int = 1000
    """Seed of the first episode."""

    workers: int = 2
    """Processes that simulate in the check."""

    checks: str = "outputs/export"
    """Where the episodes of the check are kept."""


def main(argv: list[str]) -> int:
    """Exports, measures, and prints what was measured."""
    arguments = parse(ExportArguments, argv, "handsight export", __doc__ or "")
    _check(arguments)
    torch.set_num_threads(1)
    folder = destination(arguments.policy.path, arguments.out)
    manifest = export(folder, arguments.env, arguments.seed, int8=arguments.int8)
    if arguments.int8:
        manifest = replace(manifest, int8_check=check_int8(folder, arguments))
        manifest.write(folder / FOLDER)
    print(summary(folder, manifest))
    return 0


def destination(path: str, out: str) -> Path:
    """The checkpoint folder that the export goes into: the checkpoint's own, or its copy `out`.

    Raises HandsightError for a shipped checkpoint without `out`.
    """
    source = find(path)
    check_files(source)
    if not out:
        if path.startswith("zoo/"):
            raise HandsightError(f"expected --out for a shipped checkpoint, got none; give --out=outputs/export/{source.name}")
        return source
    folder = Path(out)
    folder.mkdir(parents=True, exist_ok=True)
    for file in source.iterdir():
        if file.is_file():
            shutil.copy2(file, folder / file.name)
    return folder


def export(folder: Path, env: TaskArguments, seed: int = 1000, *, int8: bool = False) -> Manifest:
    """Write `folder`/onnx and how far its actions are from torch's, on random inputs and on observations of `env` if it names a task.

    Raises:
        HandsightError: not a fuse checkpoint, or fp32 differs by more than 1e-5.
    """
    model = load_policy(str(folder), Overrides(device="cpu"))
    policy = model.policy
    if not isinstance(policy, FusePolicy):
        raise HandsightError(f"expected a fuse checkpoint, got one of type {policy.name}; only these are exported")
    target = folder / FOLDER
    comparison = Comparison(model)
    example = policy.network_inputs(random_batch(policy, rows=2, seed=0))
    manifest = export_network(policy.network, example, target, fingerprint(folder))
    if int8:
        quantize(target)
    found: dict[str, float | None] = dict.fromkeys(f"{kind} {name}" for kind in ("random", "observed") for name in ("rounding", "fp32"))
    precisions: tuple[Precision, ...] = ("fp32", "int8") if int8 else ("fp32",)
    for precision in precisions:
        runtime = OnnxRuntime(target, precision)
        batches = (random_batch(policy, rows, seed) for rows in ROWS for seed in range(RANDOM_BATCHES))
        found["random rounding"], found[f"random {precision}"] = comparison.largest(runtime, batches)
        if env.task:
            found["observed rounding"], found[f"observed {precision}"] = comparison.largest(runtime, observed(model, env, seed))
    manifest = replace(manifest, max_difference=found)
    manifest.write(target)
    require_close(found, target)
    return manifest


def require_close(found: Mapping[str, float | None], target: Path) -> None:
    """Raises HandsightError where fp32's measured distance to torch, of random inputs or observed ones, is not small; NaN is not."""
    for kind in ("random", "observed"):
        allowed = max(LARGEST_DIFFERENCE, ROUNDING * (found.get(f"{kind} rounding") or 0.0))
        if not (got := found.get(f"{kind} fp32") or 0.0) <= allowed:
            raise HandsightError(f"expected {kind} actions within {allowed:.1e} of torch's, got {got:.1e}; do not use {target}")


def export_once(path: str) -> None:
    """Exports a checkpoint of one's own into its own folder unless it has an export of these weights, written by the packages of today.

    Raises HandsightError as `export`.
    """
    folder = destination(path, "")
    target = folder / FOLDER
    if (target / MANIFEST).is_file():
        manifest = Manifest.read(target)
        if manifest.fingerprint == fingerprint(folder) and manifest.versions == writers():
            return
    export(folder, TaskArguments())


def random_batch(policy: FusePolicy, rows: int, seed: int) -> dict[str, Any]:
    """A preprocessed batch of noise in each sensor's range, with its history; a second row's sensors are broken and give zeros."""
    generator = torch.Generator().manual_seed(seed)
    config, batch = policy.config, dict[str, Any]()
    for key in config.sensor_keys.values():
        shape = TOUCH_SHAPE if key == TOUCH else tuple(config.input_features[key].shape)
        steps = (len(config.history_of(key)),) if key in FRAME_DIMS or config.history_of(key) != (0,) else ()
        batch[key] = torch.rand(rows, *steps, *shape, generator=generator)
        if key == TOUCH:  # half of the frames touch nothing; compressed pressures above 0.5 are rare
            batch[key] *= 0.5 * (torch.rand(rows, *steps, 1, 1, 1, 1, generator=generator) < 0.5)
        batch[key][1:2] = 0
    words = torch.randint(1, config.text_buckets, (rows, config.max_words), generator=generator)
    text = policy.network.text
    if isinstance(text, HashedText):  # all others are dropped: every other word, and so the first, is one that it knows
        known = text.known.nonzero().flatten()
        known = known[known != PAD]
        words[:, ::2] = known[torch.randint(len(known), words[:, ::2].shape, generator=generator)]
    mask = torch.arange(config.max_words) < torch.randint(1, config.max_words + 1, (rows, 1), generator=generator)
    return batch | {OBS_LANGUAGE_TOKENS: words * mask, OBS_LANGUAGE_ATTENTION_MASK: mask}


class Comparison:
    """Chunks of a runtime, of torch and of torch in float64 for the same observation and noise, in the units of actions."""

    def __init__(self, model: Model) -> None:
        assert isinstance(model.policy, FusePolicy)
        self._policy, self._actions = copy.deepcopy(model.policy), model.postprocessor
        self._exact = copy.deepcopy(model.policy).double()

    def largest(self, runtime: OnnxRuntime, batches: Iterable[dict[str, Any]]) -> tuple[float, float]:
        """Over all preprocessed batches: torch's largest distance to float64, and the runtime's to torch."""
        found = [self._distances(runtime, batch, seed) for seed, batch in enumerate(batches)]
        rounding, distance = np.max(found, axis=0)  # NaN if any is, which max() may pass over
        return float(rounding), float(distance)

    def _distances(self, runtime: OnnxRuntime, batch: dict[str, Any], seed: int) -> tuple[float, float]:
        policy = self._policy
        shape = (len(batch[OBS_LANGUAGE_TOKENS]), policy.config.chunk_size, policy.model.action_dim)
        noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "expected sound")  # random_batch() breaks sensors on purpose
            policy.runtime = runtime
            exported = self._actions(policy.predict_action_chunk(batch, noise=noise))
            policy.runtime = None
            chunk = self._actions(policy.predict_action_chunk(batch, noise=noise))
            exact = self._actions(self._exact.predict_action_chunk(_double(batch), noise=noise.double()))
        return float((chunk - exact).abs().max()), float((exported - chunk).abs().max())


def _double(batch: dict[str, Any]) -> dict[str, Any]:
    return {key: x.double() if isinstance(x, Tensor) and x.is_floating_point() else x for key, x in batch.items()}


def observed(model: Model, env: TaskArguments, seed: int, episodes: int = 4, steps: int = 20) -> Iterator[dict[str, Any]]:
    """Preprocessed observations with their histories, of the first steps of episodes that torch plays."""
    require_gl()
    model = model.twin()
    policy = model.policy
    assert isinstance(policy, FusePolicy)
    sizes = {feature.shape[-1] for feature in policy.config.image_features.values()} or {DEFAULT_IMAGE_SIZE}
    with EnvPool(env.task, 1, 0, maker=env.maker, image_size=int(sizes.pop())) as pool:
        for episode in range(episodes):
            policy.reset()
            pool.reset(0, seed + episode)
            (transition,) = pool.receive()
            for _ in range(steps):
                batch = model.preprocessor(to_batch(transition.observation, transition.task))
                action = model.postprocessor(policy.select_action(batch))
                yield policy.complete(batch)
                if transition.terminated or transition.truncated:
                    break
                pool.step(0, action.squeeze(0).numpy())
                (transition,) = pool.receive()


def check_int8(folder: Path, arguments: ExportArguments) -> dict[str, Any]:
    """Success of fp32 and int8 on the same seeds, with intervals, and their paired difference."""
    require_gl()
    seeds = range(arguments.seed, arguments.seed + arguments.episodes)
    record: dict[str, Any] = {"task": arguments.env.task, "seeds": [seeds.start, seeds.stop]}
    success: dict[str, list[bool]] = {}
    for precision, runtime in _CHECKED.items():
        played = RolloutArguments(
            policy=PolicyArguments(str(folder)),
            env=EnvArguments(arguments.env.task, maker=arguments.env.maker),
            episodes=arguments.episodes,
            seed=arguments.seed,
            workers=arguments.workers,
            videos=0,
            runtime=runtime,
        )
        kept = Path(arguments.checks) / f"{fingerprint(folder)[:12]}_{arguments.env.task.replace('/', '_')}_{precision}"
        rollout(played, kept, load(str(folder), Overrides(), runtime, checked=False))
        outcomes = {result.seed: result.success for result in read_episodes(kept)}
        success[precision] = [outcomes[seed] for seed in seeds]
        record[precision] = asdict(wilson(success[precision]))
    return record | {"difference": asdict(paired_difference(success["int8"], success["fp32"], np.random.default_rng(0)))}


def summary(folder: Path, manifest: Manifest) -> str:
    """What the terminal shows at the end."""
    lines = [
        f"{folder / FOLDER}: ONNX operators {manifest.opset}, largest difference of an action to torch's, and of torch's to float64's:"
    ]
    for name, value in manifest.max_difference.items():
        lines.append(f"  {name:<14} " + ("not measured; give --env.task" if value is None else f"{value:.1e}"))
    if manifest.int8_check is not None:
        for precision in _CHECKED:
            rate = manifest.int8_check[precision]
            lines.append(f"  success {precision} {rate['mean']:6.1%}   [{rate['low']:.1%}, {rate['high']:.1%}]   {rate['n']} episodes")
        change = manifest.int8_check["difference"]
        lines.append(f"  int8 minus fp32 {change['mean']:+.1%} [{change['low']:+.1%}, {change['high']:+.1%}]")
    return "\n".join(lines)


def _check(arguments: ExportArguments) -> None:
    if not arguments.policy.path:
        raise HandsightError("expected --policy.path, got none; give a checkpoint folder, a hub id or zoo/NAME")
    if arguments.int8 and not arguments.env.task:
        raise HandsightError("expected --env.task with --int8, got none; 8-bit weights are only used after a check on a task")
    if arguments.episodes < 1:
        raise HandsightError(f"expected --episodes of at least 1, got {arguments.episodes}")
