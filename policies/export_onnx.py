"""A fuse network to ONNX: three graphs and a manifest, in the folder `onnx` of its checkpoint.

    encode    sensors, instruction -> context: the mlp head's condition, or the transformer head's keys and values
    schedule  times [, condition]  -> modulations of every flow step, computed once a chunk
    step      x, modulation [, keys and values] -> velocity dx/dt

What a graph reads of another carries the same name. A flow step is a graph of its own rather than the unrolled loop: the number of steps
stays free, and ten unrolled steps of eight layers take minutes to export.

Axes: B batch, S times, L layers, T actions, A action dimension.
"""

import importlib.util
import json
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor, nn

from handsight.policies.action_expert import ActionExpert
from handsight.policies.backbone import FlowHead
from handsight.policies.fuse.network import FuseNetwork
from handsight.policies.prefix_cache import PrefixCache
from handsight.sensors.errors import HandsightError

FOLDER: Final = "onnx"
MANIFEST: Final = "manifest.json"
GRAPHS: Final = ("encode", "schedule", "step")
QUANTIZED: Final = ("encode", "step")  # the schedule is one product a chunk, and errors in it touch every step
INT8_TOLERANCE: Final = 0.02
"""How much success int8 may cost on the seeds of its check."""
BATCH: Final = "batch"
TIMES: Final = "times"
_PACKAGES: Final = ("lerobot_policy_handsight", "torch", "onnx", "onnxscript", "onnxruntime")

Shapes = dict[str, list[int | str]]


@dataclass(frozen=True)
class Manifest:
    """What an export is, and what was measured of it."""

    fingerprint: str
    """sha256 of the weights that were exported."""
    opset: int
    """Version of ONNX's operators."""
    versions: dict[str, str]
    """Of the packages that wrote the graphs."""
    inputs: dict[str, Shapes]
    """Of each graph, by name; words are free sizes."""
    outputs: dict[str, Shapes]
    """Of each graph, by name."""
    max_difference: dict[str, float | None] = field(default_factory=dict)
    """Largest difference of an action to torch's, by kind of input and precision, and of torch's to float64's; None: not measured."""
    int8_check: dict[str, Any] | None = None
    """Success rates of fp32 and int8 on the same seeds and their paired difference, int8 minus fp32; None: not checked."""

    def write(self, folder: Path) -> None:
        """As `folder`/manifest.json."""
        (folder / MANIFEST).write_text(json.dumps(asdict(self), indent=2) + "\n")

    def require_int8_check(self) -> None:
        """Raises HandsightError unless int8 was seen to succeed as often as fp32, but for `INT8_TOLERANCE`."""
        do = "run `handsight export --int8 --env.task=...`"
        if self.int8_check is None:
            raise HandsightError(f"expected an int8 export whose success was checked on the task, got none; {do}")
        lost = -self.int8_check["difference"]["mean"]
        if lost > INT8_TOLERANCE:
            raise HandsightError(f"expected int8 to lose at most {INT8_TOLERANCE:.0%} of success, got {lost:.1%} in its check; use fp32")

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """Raises HandsightError where there is none, or one of another version."""
        try:
            return cls(**json.loads((folder / MANIFEST).read_text()))
        except (FileNotFoundError, json.JSONDecodeError, TypeError) as error:
            raise HandsightError(
                f"expected an export in {folder}, got {type(error).__name__}; write one with `handsight export --policy.path=...`"
            ) from error


def writers() -> dict[str, str]:
    """The versions of the packages that write graphs, ours among them. Raises HandsightError where one is missing."""
    require_onnx()
    return {name: version(name) for name in _PACKAGES}


def require_onnx() -> None:
    """Raises HandsightError, with the command that installs them, where the packages of the extra `export` are missing."""
    missing = [name for name in ("onnx", "onnxscript", "onnxruntime") if importlib.util.find_spec(name) is None]
    if missing:
        raise HandsightError(f"expected {', '.join(missing)}, which exports need; run: pip install 'lerobot_policy_handsight[export]'")


def export_network(network: FuseNetwork, example: "Example", folder: Path, fingerprint: str) -> Manifest:
    """Write the graphs and their manifest into `folder`.

    Args:
        network: in evaluation mode.
        example: preprocessed inputs of two or more rows, which only give shapes.
        folder: is made.
        fingerprint: of the weights, by which a later change of them is noticed.

    Raises:
        HandsightError: a missing package, or an instruction encoder that is not ours.
    """
    require_onnx()
    if network.text.__class__.__name__ != "HashedText":
        raise HandsightError("expected text_encoder=hashed, got a transformers model; its own exporter (optimum) writes its graph")
    folder.mkdir(parents=True, exist_ok=True)
    inputs: dict[str, Shapes] = {}
    outputs: dict[str, Shapes] = {}
    opset = 0
    for name, graph in _graphs(network.eval(), example).items():
        opset, inputs[name], outputs[name] = graph.write(folder / f"{name}.onnx")
    manifest = Manifest(fingerprint, opset, writers(), inputs, outputs)
    manifest.write(folder)
    return manifest


def quantize(folder: Path) -> None:
    """Write NAME.int8.onnx beside the graphs: products with 8-bit weights, one scale a column, activations quantised as they come.

    `reduce_range` keeps weights in 7 bits: without VNNI the products of two 8-bit factors saturate in pairs of 16-bit sums.
    """
    require_onnx()
    from onnxruntime.quantization import QuantType, quantize_dynamic

    for name in QUANTIZED:
        quantize_dynamic(
            folder / f"{name}.onnx",
            folder / f"{name}.int8.onnx",
            op_types_to_quantize=["MatMul", "Gemm"],
            per_channel=True,
            reduce_range=True,
            weight_type=QuantType.QInt8,
        )


@dataclass(frozen=True)
class Example:
    """What `FusePolicy` gives its network."""

    inputs: Mapping[str, Tensor]  # by sensor name, (B, ...)
    ids: Tensor  # (B, L) int64
    mask: Tensor  # (B, L) bool
    present: Tensor  # (B, S) bool, in the order of `inputs`


@dataclass(frozen=True)
class _Graph:
    """A module with example arguments, and names for what goes in and out."""

    module: nn.Module
    arguments: tuple[Any, ...]
    inputs: list[str]
    outputs: list[str]
    axes: tuple[Any, ...]  # as `arguments`, each {axis: dimension}

    def write(self, path: Path) -> tuple[int, Shapes, Shapes]:
        """The operators' version, and the shapes of inputs and outputs by name."""
        with torch.no_grad(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the exporter's, of its own parts that grow old
            program = torch.onnx.export(
                self.module.eval(),
                self.arguments,
                dynamo=True,
                input_names=self.inputs,
                output_names=self.outputs,
                dynamic_shapes=self.axes,
                verbose=False,
            )
        assert program is not None
        graph = program.model.graph
        program.save(path)
        return program.model.opset_imports[""], _shapes(graph.inputs), _shapes(graph.outputs)


def _shapes(values: Any) -> Shapes:
    return {value.name: [size if isinstance(size, int) else str(size.value) for size in value.shape] for value in values}


class _Parts(nn.Module):
    """A network in three parts; `context` names what `encode` returns, `scheduled` and `stepped` which of it the other two read."""

    context: tuple[str, ...]
    scheduled: tuple[str, ...]
    stepped: tuple[str, ...]

    def __init__(self, network: FuseNetwork) -> None:
        super().__init__()
        self.network = network

    def encode(self, inputs: dict[str, Tensor], ids: Tensor, mask: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        """The context."""
        raise NotImplementedError

    def schedule(self, times: Tensor, *context: Tensor) -> Tensor:
        """Times (S,) -> modulations (S, ...)."""
        raise NotImplementedError

    def step(self, x: Tensor, modulation: Tensor, *context: Tensor) -> Tensor:
        """x (B, T, A), a row of the modulations -> velocity (B, T, A)."""
        raise NotImplementedError


class _MlpParts(_Parts):
    """The mlp head: the observation enters by the modulations."""

    context = scheduled = ("condition",)
    stepped = ()

    def __init__(self, network: FuseNetwork, head: FlowHead) -> None:
        super().__init__(network)
        self.head = head

    def encode(self, inputs: dict[str, Tensor], ids: Tensor, mask: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        return (self.network.encode(inputs, ids, mask, present).condition,)

    def schedule(self, times: Tensor, *context: Tensor) -> Tensor:
        return self.head.modulations(times, *context)

    def step(self, x: Tensor, modulation: Tensor, *context: Tensor) -> Tensor:
        return self.head.at(x, modulation)


class _ExpertParts(_Parts):
    """The transformer head: time enters by the modulations, the observation by keys and values."""

    scheduled = ()

    def __init__(self, network: FuseNetwork, head: ActionExpert) -> None:
        super().__init__(network)
        self.head = head
        layers = range(len(head.blocks))
        self.context = self.stepped = ("seen", *(f"key_{i}" for i in layers), *(f"value_{i}" for i in layers))

    def encode(self, inputs: dict[str, Tensor], ids: Tensor, mask: Tensor, present: Tensor) -> tuple[Tensor, ...]:
        cache = self.head.context(self.network.encode(inputs, ids, mask, present))
        return cache.present, *cache.keys, *cache.values

    def schedule(self, times: Tensor, *context: Tensor) -> Tensor:
        return self.head.modulations(times)

    def step(self, x: Tensor, modulation: Tensor, *context: Tensor) -> Tensor:
        present, *layers = context
        middle = len(layers) // 2
        return self.head.at(x, modulation.unsqueeze(0), PrefixCache(tuple(layers[:middle]), tuple(layers[middle:]), present))


class _Part(nn.Module):
    """One method of a module as a module, which is what the exporter takes."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, *arguments: Any) -> Any:
        return getattr(self.module, self.name)(*arguments)


def _graphs(network: FuseNetwork, example: Example) -> dict[str, _Graph]:
    head = network.head
    parts = _MlpParts(network, head) if isinstance(head, FlowHead) else _ExpertParts(network, head)
    batch, times = {0: torch.export.Dim(BATCH, min=1, max=1024)}, {0: torch.export.Dim(TIMES, min=1, max=1024)}
    observation = (dict(example.inputs), example.ids, example.mask, example.present)
    sensors = list(example.inputs)
    chunk = torch.zeros(len(example.ids), network.chunk_size, network.action_dim)
    with torch.no_grad():
        context = dict(zip(parts.context, parts.encode(*observation), strict=True))
        scheduled, stepped = ([context[name] for name in names] for names in (parts.scheduled, parts.stepped))
        grid = torch.linspace(0, 0.75, 4)
        modulations = parts.schedule(grid, *scheduled)
        # Run before it is traced: masks are kept for later calls, and must not be kept as the tracer's fake tensors.
        parts.step(chunk, modulations[0], *stepped)
    row = batch if parts.scheduled else {}  # what is made of the context has a row for each of its rows
    return {
        "encode": _Graph(
            _Part(parts, "encode"),
            observation,
            [*sensors, "ids", "mask", "present"],
            list(parts.context),
            ((dict.fromkeys(sensors, batch), batch, batch, batch),),
        ),
        "schedule": _Graph(
            _Part(parts, "schedule"),
            (grid, *scheduled),
            [TIMES, *parts.scheduled],
            ["modulations"],
            ((times, *(batch for _ in scheduled)),),
        ),
        "step": _Graph(
            _Part(parts, "step"),
            (chunk, modulations[0], *stepped),
            ["x", "modulation", *parts.stepped],
            ["velocity"],
            ((batch, row, *(batch for _ in stepped)),),
        ),
    }
