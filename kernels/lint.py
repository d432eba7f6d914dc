"""Reads Triton kernels for what Triton's interpreter accepts and a GPU does not: three rules over the syntax tree.

    dot     tl.dot whose tile may be under 16 a side. A GPU's compiler refuses it. Every tile dimension of a kernel that multiplies must be
            asserted: tl.static_assert(BLOCK_N >= 16).
    load    tl.load with a mask and no `other`. What is masked is undefined on a GPU and 0 in the interpreter.
    bf16    arithmetic on a value that may be bfloat16. The interpreter computes on its bits. Convert first: .to(tl.float32).
            kernels/lint_types.py follows the values.

Names are resolved over all the sources at once, so that a kernel may call helpers of another file.
"""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from handsight.kernels.lint_syntax import Kernel, bound_arguments, bundles_in, called, calls, kernels_in, tl_name
from handsight.kernels.lint_types import half_arithmetic

LEAST_DOT: Final = 16
_SHAPED: Final = {"zeros": 0, "full": 0, "broadcast_to": 1, "reshape": 1}  # tl function -> the argument that is a shape


@dataclass(frozen=True, order=True)
class Finding:
    """One place that breaks a rule."""

    file: str
    line: int
    rule: str
    message: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line} [{self.rule}] {self.message}"


def lint_files(files: list[Path]) -> list[Finding]:
    """`lint` over files."""
    return lint({str(file): file.read_text() for file in files})


def lint(sources: Mapping[str, str]) -> list[Finding]:
    """Every finding in the jitted functions of the sources (file name -> text), sorted.

    Raises:
        ValueError: two jitted functions of one name, so that a call cannot be followed.
    """
    kernels = kernels_in(sources)
    findings = [*_small_dots(kernels), *_open_loads(kernels), *_half_arithmetic(kernels, bundles_in(sources))]
    return sorted(findings)


def _open_loads(kernels: Mapping[str, Kernel]) -> Iterator[Finding]:
    for kernel in kernels.values():
        for call in calls(kernel.tree):
            if tl_name(call) != "load":
                continue
            given = {keyword.arg for keyword in call.keywords} | set(("pointer", "mask", "other")[: len(call.args)])
            if "mask" in given and "other" not in given:
                yield Finding(kernel.file, call.lineno, "load", "expected other= beside mask=: what is masked is undefined on a GPU")


def _small_dots(kernels: Mapping[str, Kernel]) -> Iterator[Finding]:
    """Of every kernel that multiplies and that no other one calls: the tile dimensions that nothing asserts to be 16 or more."""
    dots, dimensions, asserted = _dots(kernels), _dimensions(kernels), _asserted(kernels)
    inner = {name for kernel in kernels.values() for name in (called(call) for call in calls(kernel.tree)) if name in kernels}
    for name in sorted(dots):
        kernel = kernels[name]
        for line, size in _literal_dimensions(kernel.tree):
            if size < LEAST_DOT:
                yield Finding(kernel.file, line, "dot", f"expected tiles of at least {LEAST_DOT} a side where tl.dot is used, got {size}")
        for dimension in [] if name in inner else sorted(dimensions[name] - asserted[name]):
            message = f"expected tl.static_assert({dimension} >= {LEAST_DOT}) in {name}: it is a side of a tile where tl.dot is used"
            yield Finding(kernel.file, kernel.tree.lineno, "dot", message)


def _dots(kernels: Mapping[str, Kernel]) -> set[str]:
    """Kernels that call tl.dot, themselves or through others."""
    found: set[str] = set()
    while True:
        more = {
            name for name, kernel in kernels.items() if any(tl_name(call) == "dot" or called(call) in found for call in calls(kernel.tree))
        }
        if more == found:
            return found
        found = more


def _dimensions(kernels: Mapping[str, Kernel]) -> dict[str, set[str]]:
    """Of each kernel the parameters that are sides of tiles, its own or those of what it calls."""
    direct = {
        name: {side.id for side in _sides(kernel.tree) if isinstance(side, ast.Name)} & kernel.constants for name, kernel in kernels.items()
    }
    return _with_callees(kernels, direct)


def _asserted(kernels: Mapping[str, Kernel]) -> dict[str, set[str]]:
    """Of each kernel the parameters that it, or what it calls, asserts to be large enough."""
    direct: dict[str, set[str]] = {}
    for name, kernel in kernels.items():
        conditions = [call.args[0] for call in calls(kernel.tree) if tl_name(call) == "static_assert"]
        direct[name] = {parameter for condition in conditions for parameter in _lower_bounded(condition)}
    return _with_callees(kernels, direct)


def _with_callees(kernels: Mapping[str, Kernel], marked: dict[str, set[str]]) -> dict[str, set[str]]:
    """Marks a parameter that is passed on as a marked one, until nothing changes."""
    while True:
        more = {name: set(marks) for name, marks in marked.items()}
        for name, kernel in kernels.items():
            for call in calls(kernel.tree):
                callee = called(call)
                if callee in kernels:
                    passed = bound_arguments(call, kernels[callee].parameters)
                    more[name] |= {value.id for key, value in passed.items() if key in marked[callee] and isinstance(value, ast.Name)}
            more[name] &= set(kernel.parameters)
        if more == marked:
            return marked
        marked = more


def _sides(tree: ast.AST) -> Iterator[ast.expr]:
    """Every expression that is the length of an axis of a tile."""
    for call in calls(tree):
        name = tl_name(call)
        if name == "arange" and len(call.args) == 2:
            yield call.args[1]
        elif name in _SHAPED and len(call.args) > _SHAPED[name]:
            shape = call.args[_SHAPED[name]]
            yield from shape.elts if isinstance(shape, ast.List | ast.Tuple) else []


def _literal_dimensions(tree: ast.AST) -> Iterator[tuple[int, int]]:
    for side in _sides(tree):
        if isinstance(side, ast.Constant) and isinstance(side.value, int):
            yield side.lineno, side.value


def _lower_bounded(condition: ast.expr) -> Iterator[str]:
    """Names that the condition says are at least 16."""
    if isinstance(condition, ast.BoolOp) and isinstance(condition.op, ast.And):
        for part in condition.values:
            yield from _lower_bounded(part)
    if isinstance(condition, ast.Compare) and len(condition.ops) == 1 and isinstance(condition.ops[0], ast.GtE):
        name, least = condition.left, condition.comparators[0]
        if isinstance(name, ast.Name) and isinstance(least, ast.Constant) and isinstance(least.value, int) and least.value >= LEAST_DOT:
            yield name.id


def _half_arithmetic(kernels: Mapping[str, Kernel], bundles: Mapping[str, str]) -> Iterator[Finding]:
    for name, line, what in half_arithmetic(kernels, bundles):
        yield Finding(kernels[name].file, line, "bf16", f"expected .to(tl.float32) before arithmetic on what may be bfloat16, got {what}")
