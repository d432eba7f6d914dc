"""`handsight bench runtime [--quick]`: what a chunk of actions costs on one CPU thread, by how it is computed.

    handsight bench runtime            # writes launch/results/runtime.json
    handsight bench runtime --quick    # two rounds of small policies, no result file

Process CPU time, one thread, one observation, the ways interleaved round by round: ratios hold within a run. The fuse policy of width 384
has random weights, and so its differences say nothing of success; the two shipped policies are as trained.
"""

import copy
import platform
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

import torch
from lerobot.configs import FeatureType, PolicyFeature
from torch import Tensor

from handsight.launch.arguments import parse
from handsight.launch.checkpoints import ZOO
from handsight.launch.episodes import write_json
from handsight.launch.export import random_batch
from handsight.launch.rollout import versions
from handsight.policies.export_onnx import export_network, quantize
from handsight.policies.fuse.configuration_fuse import STRIDED, FuseConfig
from handsight.policies.fuse.modeling_fuse import FusePolicy
from handsight.policies.runtime_onnx import OnnxRuntime
from handsight.policies.runtimes import Precision
from handsight.sensors.types import ACTION, FRONT, STATE, TOUCH, WRIST

RESULT: Final = Path("launch/results/runtime.json")
SHIPPED: Final = ("tabletop_grasp", "bag_stiff")
SENSORS: Final = {FRONT: (3, 160, 160), WRIST: (3, 160, 160), STATE: (15,), TOUCH: (1536,)}  # 24 words + 2 x 100 + 8 + 8 tokens


@dataclass(frozen=True)
class RuntimeArguments:
    """Arguments of `handsight bench runtime`."""

    rounds: int = 9
    """Rounds, each of which runs every way once (the first, slow one every third round)."""
    compiled: bool = True
    """Also compile by Inductor, which takes minutes."""
    quick: bool = False
    """Two rounds, a small fuse policy, no Inductor, no result file."""


@dataclass(frozen=True)
class Way:
    """One way of computing a chunk."""

    name: str
    chunk: Callable[[], Tensor]


def main(argv: list[str]) -> int:
    """Measures and prints the table."""
    arguments = parse(RuntimeArguments, argv, "handsight bench runtime", __doc__ or "")
    torch.set_num_threads(1)
    rounds, compiled = (2, False) if arguments.quick else (arguments.rounds, arguments.compiled)
    rows: list[dict[str, Any]] = []
    for name, policy in policies(quick=arguments.quick):
        with tempfile.TemporaryDirectory() as folder:
            rows += [{"policy": name} | row for row in measure(ways(policy, Path(folder), compiled=compiled), rounds)]
        print(table([row for row in rows if row["policy"] == name]), flush=True)
    if not arguments.quick:
        command = " ".join(["handsight bench runtime", *argv])
        machine = {"processor": platform.processor() or platform.machine(), "threads": 1}
        write_json(RESULT, {"command": command, "args": asdict(arguments), "versions": versions(), "machine": machine, "rows": rows})
    return 0


def policies(*, quick: bool) -> Iterator[tuple[str, FusePolicy]]:
    """Policies in evaluation mode, by name."""
    large = transformer(width=64, layers=2) if quick else transformer(width=384, layers=8)
    millions = sum(p.numel() for p in large.model.parameters()) / 1e6
    yield f"fuse transformer, {millions:.1f} M", large
    for name in SHIPPED:
        yield f"zoo/{name}", FusePolicy.from_pretrained(ZOO / name).eval()


def transformer(width: int, layers: int) -> FusePolicy:
    """Transformer trunk and head, 24 words and 216 sensor tokens, 50 actions, 10 flow steps, random weights; every gate is open."""
    torch.manual_seed(0)
    features = {key: PolicyFeature(FeatureType.VISUAL if len(shape) == 3 else FeatureType.STATE, shape) for key, shape in SENSORS.items()}
    config = FuseConfig(
        input_features=features,
        output_features={ACTION: PolicyFeature(FeatureType.ACTION, (7,))},
        device="cpu",
        image_encoder="patches",
        image_pool=1,
        state_history=STRIDED,
        token_width=width,
        text_width=width,
        condition_width=width,
        trunk="transformer",
        head="transformer",
        layers=layers,
        heads=6 if width % 6 == 0 else 4,
        chunk_size=50,
        flow_steps=10,
        ema_decay=0.0,
    )
    policy = FusePolicy(config).eval()
    for parameter in policy.model.parameters():
        parameter.data += 0.01 * torch.randn_like(parameter)
    return policy


def ways(policy: FusePolicy, folder: Path, *, compiled: bool) -> list[Way]:
    """From recomputing everything in every step to an exported graph; all of them give the chunk of the same noise."""
    batch = random_batch(policy, rows=1, seed=0)
    noise = torch.randn(1, policy.config.chunk_size, policy.model.action_dim, generator=torch.Generator().manual_seed(0))
    network, flow = policy.network, policy.config.flow

    def uncached() -> Tensor:
        return flow.integrate(lambda x, t: network.head(x, t, network.head.context(policy.features(batch))), noise)

    def cached() -> Tensor:
        context = network.head.context(policy.features(batch))
        return flow.integrate(lambda x, t: network.head(x, t, context), noise)

    def scheduled() -> Tensor:
        features = policy.features(batch)
        return flow.follow(once.fields(flow.schedule(like=noise), features), noise)

    once = copy.copy(network.head)
    once.modulates_once = True
    found = [Way("prefix every step", uncached), Way("cached prefix", cached), Way("+ modulations once", scheduled)]
    if compiled:
        found.append(Way("torch.compile (Inductor)", torch.compile(scheduled)))
    export_network(network, policy.network_inputs(random_batch(policy, rows=2, seed=0)), folder, fingerprint="")
    quantize(folder)
    precisions: tuple[tuple[str, Precision], ...] = (("ONNX Runtime fp32", "fp32"), ("ONNX Runtime int8", "int8"))
    for name, precision in precisions:
        found.append(Way(name, _exported(policy, OnnxRuntime(folder, precision), batch, noise)))
    return found


def _exported(policy: FusePolicy, runtime: OnnxRuntime, batch: dict[str, Any], noise: Tensor) -> Callable[[], Tensor]:
    runs = copy.copy(policy)
    runs.runtime = runtime
    return lambda: runs.predict_action_chunk(batch, noise=noise)


@torch.no_grad()
def measure(ways: list[Way], rounds: int) -> list[dict[str, Any]]:
    """CPU milliseconds a chunk of each way, and its largest difference to the first."""
    first = ways[0].chunk()
    differences = [float((way.chunk() - first).abs().max()) for way in ways]  # also warms up, and compiles
    times: dict[str, list[float]] = {way.name: [] for way in ways}
    for turn in range(rounds):
        for way in ways:
            if way is ways[0] and turn % 3:
                continue
            started = time.process_time()
            way.chunk()
            times[way.name].append(1e3 * (time.process_time() - started))
    base = median(times[ways[0].name])
    return [
        {
            "way": way.name,
            "cpu_ms_median": round(median(times[way.name]), 3),
            "cpu_ms_min": round(min(times[way.name]), 3),
            "times_the_first": round(median(times[way.name]) / base, 3),
            "max_difference": worst,
            "runs": len(times[way.name]),
        }
        for way, worst in zip(ways, differences, strict=True)
    ]


def table(rows: list[dict[str, Any]]) -> str:
    """The rows in Markdown."""
    lines = ["| policy | way | CPU ms a chunk, median | min | times the first | max difference |", "|---" * 6 + "|"]
    for row in rows:
        cells = f"{row['cpu_ms_median']:.1f} | {row['cpu_ms_min']:.1f} | {row['times_the_first']:.2f} | {row['max_difference']:.1e}"
        lines.append(f"| {row['policy']} | {row['way']} | {cells} |")
    return "\n".join(lines)
