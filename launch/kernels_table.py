"""The result of `handsight bench kernels` in Markdown: what was compiled, and what was counted."""

from collections.abc import Iterator
from itertools import groupby
from typing import Any, Final

from handsight.kernels.compile_targets import KIB, resident_warps, target_named

ARITHMETIC: Final = "arithmetic, not a measurement"


def table(result: dict[str, Any]) -> str:
    """Four tables, each under what it is."""
    parts = []
    if result["kernels"]:
        version = result["versions"].get("triton", "?")
        parts += [f"Compiled by Triton {version}, never run on a GPU:", _markdown(_KERNELS, _kernels(result))]
        parts += ["Forward without a mask beside a dense kernel with the same tiles, instructions:", _markdown(_LONGER, _longer(result))]
    parts += [f"Tiles of the forward kernel ({ARITHMETIC}):", _markdown(_TILES, _tiles(result))]
    parts += [f"Least time of a call ({ARITHMETIC}; 16-bit types, peak rates of data sheets):", _markdown(_BOUNDS, _bounds(result))]
    return "\n\n".join(parts)


def summary(result: dict[str, Any]) -> str:
    """What a reader wants first: a row a target of what was compiled, and a row a workload of the tiles that it skips."""
    return "\n\n".join([_markdown(_TARGETS, _targets(result)), _markdown(_TILES, _tiles(result))])


_TARGETS: Final = (
    "target",
    "kernels compiled",
    "spilling",
    "registers, at most",
    "shared KiB, at most",
    "warps resident, at least",
    "matrix instruction",
    "longer than dense",
)
_KERNELS: Final = (
    "target",
    "kernel",
    "variants",
    "spilling",
    "registers, at most",
    "shared KiB, at most",
    "warps resident, at least",
    "matrix instruction",
)
_LONGER: Final = ("target", "type", "width", "layout", "dense", "times", "PTX, times")
_TILES: Final = ("workload", "queries x keys", "tile", "full", "partial", "skipped")
_BOUNDS: Final = ("workload", "device", "forward GFLOP", "MB", "FLOP/byte", "forward us", "backward us", "of a dense mask's operations")


def _markdown(heads: tuple[str, ...], rows: Iterator[tuple[str, ...]]) -> str:
    lines = [f"| {' | '.join(heads)} |", "|---" * len(heads) + "|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def _kernels(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    def key(row: dict[str, Any]) -> tuple[str, str]:
        return row["target"], row["kernel"]

    order = [target["name"] for target in result["targets"]]
    rows = sorted(result["kernels"], key=lambda row: (order.index(row["target"]), row["kernel"]))
    for (target, kernel), group in groupby(rows, key):
        yield target, kernel, *_found(list(group))


def _targets(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name in (target["name"] for target in result["targets"]):
        rows = [row for row in result["kernels"] if row["target"] == name]
        longer = max(row["longer"] for row in result["comparisons"] if row["target"] == name) - 1
        yield name, *_found(rows), f"at most {longer:.0%}"


def _found(rows: list[dict[str, Any]]) -> tuple[str, ...]:
    """Of these kernels: how many, how many spill, the most registers and shared memory, the fewest warps resident, matrix instructions."""
    spilling = sum(row["spill_bytes"] > 0 or row["spill_instructions"] > 0 for row in rows)
    matrix = sorted({name for row in rows if row["dtype"] != "float32" for name in row["matrix_instructions"]})
    registers, shared = (max(row[name] for row in rows) for name in ("registers", "shared_bytes"))
    resident = min(_resident(row) for row in rows)
    return str(len(rows)), str(spilling), str(registers), f"{shared / KIB:.0f}", str(resident), ", ".join(matrix)


def _resident(row: dict[str, Any]) -> int:
    target = target_named(row["target"])
    return resident_warps(target, registers=row["registers"], shared=row["shared_bytes"], warps=row["warps"])


def _longer(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in result["comparisons"]:
        counts = str(row["layout_instructions"]), str(row["dense_instructions"])
        virtual = f"{row['longer_virtual']:.2f}" if row["dense_virtual_instructions"] else ""
        yield row["target"], row["dtype"], str(row["width"]), *counts, f"{row['longer']:.2f}", virtual


def _tiles(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in result["tiles"]:
        size, tile = f"{row['queries']} x {row['keys']}", "x".join(map(str, row["tile"]))
        yield row["workload"], size, tile, *(f"{row[name]:.0%}" for name in ("full", "partial", "skipped"))


def _bounds(result: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for row in result["bounds"]:
        forward, backward = row["forward"], row["backward"]
        operations = f"{forward['flops'] / 1e9:.3g}", f"{forward['bytes_moved'] / 1e6:.3g}", f"{forward['intensity']:.0f}"
        times = f"{forward['seconds'] * 1e6:.3g}", f"{backward['seconds'] * 1e6:.3g}"
        yield row["workload"], row["product"], *operations, *times, f"{forward['flops'] / forward['dense_flops']:.0%}"
