"""`handsight bench kernels [--quick]`: what the Triton attention kernels compile to, for GPUs that are not here, and what can be counted.

    handsight bench kernels
    handsight bench kernels --targets=sm_90,gfx942

Compiles every kernel that the back end launches for every target of kernels/compile_targets.py and reads registers, spills, shared memory
and instructions from the machine code; counts instructions beside a dense kernel with the same tiles; counts the tiles that the layouts of
published policies skip; and bounds their time by arithmetic. Nothing runs on a GPU, and no row is a measurement of speed. Compiled kernels
are kept in --folder, so that an interrupted run goes on where it was. Writes launch/results/kernels.json and prints the tables in
Markdown. Exits with 1 if a kernel spills, exceeds its target or our budget for it, misses the matrix instruction, or is more than 10%
longer than the dense one.
"""

import contextlib
import importlib.util
import json
import os
import resource
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import torch
from tqdm import tqdm

from handsight.kernels.compile_targets import TARGETS, Target
from handsight.kernels.roofline import bound
from handsight.kernels.triton_tiles import tiles_for
from handsight.kernels.workloads import WORKLOADS, Workload
from handsight.launch.arguments import parse
from handsight.launch.episodes import write_json
from handsight.launch.kernels_table import table
from handsight.sensors.errors import HandsightError

RESULT: Final = Path("launch/results/kernels.json")
CHECK: Final = "handsight.kernels.compile_check"
QUICK_TARGETS: Final = ("sm_90",)
MOST_LONGER: Final = 1.10


@dataclass(frozen=True)
class KernelsArguments:
    """Arguments of `handsight bench kernels`."""

    targets: str = ",".join(target.name for target in TARGETS if target.name != "sm_89")
    """GPU architectures to compile for; sm_89 has the limits and the instructions of sm_86."""
    folder: Path = Path("outputs/bench/kernels")
    """Where compiled kernels are kept."""
    out: str = ""
    """The JSON file with the result; launch/results/kernels.json, or none after --quick."""
    quick: bool = False
    """One target, the widest and the commonest heads; no result file."""

    def __post_init__(self) -> None:
        known = [target.name for target in TARGETS]
        if unknown := [name for name in self.names if name not in known]:
            raise HandsightError(f"expected --targets among {','.join(known)}, got {','.join(unknown)}; separate them with commas")

    @property
    def names(self) -> list[str]:
        """The targets, each by name."""
        return [name.strip() for name in self.targets.split(",") if name.strip()]

    @property
    def chosen(self) -> list[Target]:
        """The targets that are compiled for."""
        wanted = [name for name in self.names if not self.quick or name in QUICK_TARGETS] or self.names[:1]
        return [target for target in TARGETS if target.name in wanted]


def main(argv: list[str]) -> int:
    """Compiles, counts, prints, writes; 1 if a check fails."""
    arguments = parse(KernelsArguments, argv, "handsight bench kernels", __doc__ or "")
    cases = list(compiled(arguments)) if can_compile() else []
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    result = {
        "command": " ".join(["handsight bench kernels", *argv]),
        "what": "compiled, never run on a GPU; tile shares and bounds are arithmetic, not measurements",
        "targets": [asdict(target) for target in arguments.chosen],
        "kernels": [row for case in cases for row in kernel_rows(case)],
        "comparisons": [comparison_row(case) for case in cases if case["comparison"]],
        "errors": [{"target": case["target"], **case["case"], "error": case["error"]} for case in cases if case["error"]],
        "tiles": [tile_row(workload) for workload in WORKLOADS],
        "bounds": [bound_row(workload, target) for workload in WORKLOADS for target in arguments.chosen],
        "cpu_minutes": (spent.ru_utime + spent.ru_stime) / 60,
        "versions": versions(),
    }
    print(table(result))
    if arguments.out or not arguments.quick:
        out = Path(arguments.out or RESULT)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_json(out, result)
    failed = failures(result)
    for line in failed:
        print(line)
    return 1 if failed else 0


def can_compile() -> bool:
    """Whether Triton is here at all; a line says so if it is not."""
    if importlib.util.find_spec("triton") is not None:
        return True
    print("without the compiled kernels: expected Triton, which needs Linux on x86-64, got none; tiles and bounds need no compiler")
    return False


def compiled(arguments: KernelsArguments) -> Iterator[dict[str, Any]]:
    """Every case of every target, as kernels/compile_check.py prints them: each target in a process of its own that interprets nothing."""
    arguments.folder.mkdir(parents=True, exist_ok=True)
    hidden = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment = hidden | {"TRITON_CACHE_DIR": str((arguments.folder / "triton").absolute()), "OMP_NUM_THREADS": "1"}
    for target in arguments.chosen:
        words = [sys.executable, "-P", "-m", CHECK, target.name, *(["--quick"] if arguments.quick else [])]
        log = arguments.folder / f"{target.name}.log"
        with (
            log.open("w") as errors,
            subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=errors, text=True) as child,
        ):
            assert child.stdout is not None
            yield from map(json.loads, tqdm(child.stdout, unit="case", desc=target.name))
        if child.returncode:
            lines = log.read_text().strip().splitlines() or ["nothing"]
            raise HandsightError(f"expected {CHECK} {target.name} to end well, got {lines[-1]}; see {log}")


def kernel_rows(case: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """One flat row a kernel."""
    for kernel in case["kernels"]:
        code, constants = kernel["code"], kernel["constants"]
        yield {
            "target": case["target"],
            "kernel": kernel["name"],
            **case["case"],
            "tile": [constants.get("BLOCK_N"), constants.get("BLOCK_M")],
            "warps": kernel["warps"],
            "stages": kernel["stages"],
            "shared_bytes": kernel["shared"],
            **code,
            "problems": kernel["problems"],
        }


def comparison_row(case: dict[str, Any]) -> dict[str, Any]:
    """The forward kernel without a mask beside the dense one."""
    comparison = case["comparison"]
    row = {"target": case["target"], "width": comparison["width"], "dtype": comparison["dtype"]}
    for name in ("layout", "dense"):
        code = comparison[name]["code"]
        row |= {f"{name}_instructions": code["instructions"], f"{name}_virtual_instructions": code["virtual_instructions"]}
    return row | {"longer": comparison["longer"], "longer_virtual": comparison["longer_virtual"]}


def tile_row(workload: Workload) -> dict[str, Any]:
    """Shares of the tiles that the forward kernel visits with and without a mask, and that it skips."""
    tiles = tiles_for(workload.width, torch.bfloat16, "forward")
    shares = workload.tile_shares(tiles.block_n, tiles.block_m)
    size = {"queries": workload.layout.num_queries, "keys": workload.layout.num_keys, "width": workload.width}
    return {"workload": workload.name, **size, "tile": [tiles.block_n, tiles.block_m], **asdict(shares)}


def bound_row(workload: Workload, target: Target) -> dict[str, Any]:
    """The arithmetic bound of forward and backward on one device."""
    row: dict[str, Any] = {"workload": workload.name, "target": target.name, "product": target.product}
    for direction in ("forward", "backward"):
        tiles = tiles_for(workload.width, torch.bfloat16, "forward" if direction == "forward" else "queries", target.name)
        found = bound(workload, workload.tile_shares(tiles.block_n, tiles.block_m), target, direction)
        row[direction] = asdict(found) | {"seconds": found.seconds, "intensity": found.intensity}
    return row


def failures(result: dict[str, Any]) -> list[str]:
    """What is wrong, a line each."""
    lines = [f"{row['target']}, {row['dtype']} {row['width']} wide, {row['mask']}: {row['error']}" for row in result["errors"]]
    for row in result["kernels"]:
        lines += [
            f"{row['target']}, {row['kernel']}, {row['dtype']} {row['width']} wide, {row['mask']}: {problem}" for problem in row["problems"]
        ]
    lines += [
        f"{row['target']}, {row['dtype']} {row['width']} wide: expected at most {MOST_LONGER:g} times the dense kernel's instructions, "
        f"got {row['longer']:.3f} and {row['longer_virtual']:.3f} of PTX"
        for row in result["comparisons"]
        if max(row["longer"], row["longer_virtual"]) > MOST_LONGER
    ]
    return lines


def versions() -> dict[str, str]:
    """Of what decides the machine code."""
    found = {}
    for package in ("lerobot_policy_handsight", "torch", "triton"):
        with contextlib.suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
