"""`handsight bench gpu [--out=gpu.json]`: the Triton attention kernels on a GPU: are they right, and how long do they take.

    handsight bench gpu                                          # on a machine with a CUDA device
    TRITON_INTERPRET=1 handsight bench gpu --device=cpu          # a dry run on tiny shapes: everything but the clock of a GPU

First values and gradients against float64 at the layouts of published policies, in float32, float16 and bfloat16; an error may be at most
twice that of PyTorch's own attention in the same type. Then times beside FlexAttention, PyTorch's attention with a dense mask and, where
the package flash_attn is installed and has the mask, FlashAttention: in turns, between CUDA events, medians with quartiles. One JSON file
with the device, its driver and the versions. Exits with 1 if a value is wrong.
"""

import math
import platform
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import torch
from torch import Tensor
from tqdm import tqdm

from handsight.kernels.attention import Backend, attend, choose
from handsight.kernels.layout import Segment, TokenLayout
from handsight.kernels.problem import Attention
from handsight.kernels.workloads import WORKLOADS, Workload
from handsight.launch.arguments import parse
from handsight.launch.episodes import write_json
from handsight.launch.gpu_timing import OURS, call_of, compare, contenders
from handsight.sensors.errors import HandsightError

TYPES: Final = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
SLACK: Final = {"float32": 1e-5, "float16": 1e-3, "bfloat16": 1e-2}
"""What an error may be in any case, of the largest value: a few roundings of the type."""
DRY_TYPES: Final = ("float32", "float16")  # Triton's interpreter computes wrongly in bfloat16
PARTS: Final = ("out", "lse", "dq", "dk", "dv")


@dataclass(frozen=True)
class GpuArguments:
    """Arguments of `handsight bench gpu`."""

    out: Path = Path("gpu.json")
    """The JSON file with the result."""
    device: str = "cuda"
    """cuda, or cpu for a dry run on tiny shapes in Triton's interpreter."""
    rounds: int = 50
    """How often everything is timed, in turns."""

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise HandsightError(f"expected --rounds of at least 1, got {self.rounds}")


def main(argv: list[str]) -> int:
    """Checks, times, prints, writes; 1 if a value is wrong."""
    arguments = parse(GpuArguments, argv, "handsight bench gpu", __doc__ or "")
    device = usable_device(arguments.device)
    dry = device.type != "cuda"
    workloads = [tiny(workload) for workload in WORKLOADS] if dry else list(WORKLOADS)
    types = DRY_TYPES if dry else tuple(TYPES)
    cases = [(workload, dtype) for workload in workloads for dtype in types]
    result: dict[str, Any] = {
        "command": " ".join(["handsight bench gpu", *argv]),
        "dry_run": dry,
        "device": describe(device),
        "correctness": [correctness(workload, dtype, device) for workload, dtype in tqdm(cases, unit="case", desc="values")],
        "timings": list(timings(workloads, device, arguments.rounds)),
        "versions": {"python": platform.python_version()}
        | {name: version(name) for name in ("lerobot_policy_handsight", "torch", "triton")},
    }
    write_json(arguments.out, result)
    print(table(result))
    print(f"written: {arguments.out}")
    return 0 if all(row["right"] for row in result["correctness"]) else 1


def usable_device(name: str) -> torch.device:
    """The device, if the kernels can run on it.

    Raises:
        HandsightError: they cannot; what is needed, and what can be checked all the same.
    """
    if name == "cuda" and not torch.cuda.is_available():
        raise HandsightError(
            "expected a CUDA device, got none; without one, `handsight bench kernels` checks what the kernels compile to and "
            "`TRITON_INTERPRET=1 handsight bench gpu --device=cpu` their values"
        )
    device, workload = torch.device(name), tiny(WORKLOADS[0])
    try:
        choose(_call(workload, "float32", device), "triton")
    except ValueError as error:
        raise HandsightError(str(error)) from error
    return device


def tiny(workload: Workload) -> Workload:
    """The same layout with a sixteenth of the tokens, two batch elements, and small heads."""

    def shorter(segments: tuple[Segment, ...]) -> tuple[Segment, ...]:
        return tuple(Segment(segment.name, math.ceil(segment.length / 16)) for segment in segments)

    layout = TokenLayout(shorter(workload.layout.queries), shorter(workload.layout.keys), workload.layout.visible)
    absent = tuple(slice(span.start // 16, span.stop // 16) for span in workload.absent)
    return replace(workload, layout=layout, batch=2, heads=2, groups=1, width=16, absent=absent)


def correctness(workload: Workload, dtype: str, device: torch.device) -> dict[str, Any]:
    """Largest errors of ours and of PyTorch's attention in this type, of the largest exact value."""
    call = _call(replace(workload, batch=2), dtype, device)
    doubled = [x.detach().double().requires_grad_() for x in (call.q, call.k, call.v)]
    exact = _values(replace(call, q=doubled[0], k=doubled[1], v=doubled[2]), "sdpa")
    errors = {OURS: _errors(_values(call, "triton"), exact), "sdpa": _errors(_values(call, "sdpa"), exact)}
    right = all(errors[OURS][part] <= 2 * errors["sdpa"][part] + SLACK[dtype] for part in PARTS)  # NaN is not
    return {"workload": workload.name, "dtype": dtype, "errors": errors, "right": right}


def timings(workloads: list[Workload], device: torch.device, rounds: int) -> Iterator[dict[str, Any]]:
    """One row a workload and direction, in the 16-bit type that policies are trained in."""
    dtype = "float16" if device.type != "cuda" else "bfloat16"
    for workload in tqdm(workloads, unit="workload", desc="times"):
        call = _call(workload, dtype, device)
        plain = replace(call, q=call.q.detach(), k=call.k.detach(), v=call.v.detach())
        for direction, timed_call in (("forward", plain), ("forward and backward", call)):
            found = compare(timed_call, contenders(timed_call), rounds, backward=timed_call is call)
            row = {name: timing if isinstance(timing, str) else asdict(timing) for name, timing in found.items()}
            yield {"workload": workload.name, "dtype": dtype, "direction": direction, "contenders": row}


def describe(device: torch.device) -> dict[str, Any]:
    """Name, capability and driver of the device."""
    if device.type != "cuda":
        return {"name": platform.processor() or platform.machine(), "interpreted": True}
    properties = torch.cuda.get_device_properties(device)
    found = {"name": properties.name, "capability": list(torch.cuda.get_device_capability(device)), "memory_bytes": properties.total_memory}
    return found | {"multiprocessors": properties.multi_processor_count, "cuda": torch.version.cuda, "driver": _driver()}


def _driver() -> str:
    if shutil.which("nvidia-smi") is None:
        return "unknown"
    asked = subprocess.run(
        ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"], capture_output=True, text=True, check=False
    )
    return (asked.stdout.strip().splitlines() or ["unknown"])[0]


def table(result: dict[str, Any]) -> str:
    """The result in Markdown."""
    heads = ("workload", "type", *PARTS, "right")
    lines = [
        "Errors of the largest value, in brackets those of PyTorch's attention in the same type:",
        "",
        _line(heads),
        "|---" * len(heads) + "|",
    ]
    for row in result["correctness"]:
        ours, theirs = row["errors"][OURS], row["errors"]["sdpa"]
        cells = [f"{ours[part]:.1e} ({theirs[part]:.1e})" for part in PARTS]
        lines.append(_line((row["workload"], row["dtype"], *cells, "yes" if row["right"] else "NO")))
    names = list(dict.fromkeys(name for row in result["timings"] for name in row["contenders"]))
    heads = ("workload", "direction", *names)
    what = "CPU time of a dry run, which says nothing of a GPU" if result["dry_run"] else f"on {result['device']['name']}"
    lines += ["", f"Median ms of a call [quartiles], {what}:", "", _line(heads), "|---" * len(heads) + "|"]
    for row in result["timings"]:
        lines.append(_line((row["workload"], row["direction"], *(_cell(row["contenders"].get(name)) for name in names))))
    return "\n".join(lines)


def _line(cells: tuple[str, ...]) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(timing: dict[str, float] | str | None) -> str:
    if not isinstance(timing, dict):
        return timing or ""
    return f"{timing['median_ms']:.3f} [{timing['lower_quartile_ms']:.3f}, {timing['upper_quartile_ms']:.3f}]"


def _call(workload: Workload, dtype: str, device: torch.device) -> Attention:
    shape = (workload.batch, workload.heads, workload.groups, workload.width)
    return call_of(shape, workload.layout, workload.present(device), TYPES[dtype], device)


def _values(call: Attention, backend: Backend) -> dict[str, Tensor]:
    """Output, log-sum-exp, and the gradients of a loss that uses both."""
    out, lse = attend(call.q, call.k, call.v, call.layout, present=call.present, scale=call.scale, backend=backend, return_lse=True)
    weights = torch.linspace(-1, 1, out.numel(), device=out.device, dtype=torch.float64).view_as(out).to(out.dtype)
    loss = (weights * out).sum() + lse.square().sum().to(out.dtype)
    gradients = torch.autograd.grad(loss, [call.q, call.k, call.v])
    return dict(zip(PARTS, (out.detach(), lse.detach(), *gradients), strict=True))


def _errors(values: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    return {part: float((values[part].double() - exact[part]).abs().max() / exact[part].abs().max()) for part in PARTS}
