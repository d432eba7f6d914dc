"""Compiles what the Triton back end launches for GPUs that are not there, and checks what came out.

    python -P -m handsight.kernels.compile_check sm_90 [--quick]     # a line of JSON a case; `handsight bench kernels` does it for all

Checks of every kernel: no spilled registers, shared memory and registers within the target's limits and within our budget
(`Target.least_warps`), and for 16-bit types the target's matrix instruction wherever the kernel multiplies. Checks of the forward kernel
without a mask: at most 10% more instructions than a dense attention kernel with the same tiles (kernels/dense_baseline.py). Needs a process
without TRITON_INTERPRET. Nothing runs on a GPU.

Axes: B batch, H query heads, G key-value heads, N queries, M keys, D width.
"""

import contextlib
import io
import json
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, Literal

import torch
from triton import TritonError

from handsight.kernels.compile_only import CompiledKernel, compiling_for
from handsight.kernels.compile_targets import Target, resident_warps, target_named
from handsight.kernels.dense_baseline import dense_forward
from handsight.kernels.layout import Segment, TokenLayout, blockwise_causal, causal, full
from handsight.kernels.problem import Attention
from handsight.kernels.triton_op import attend_triton
from handsight.kernels.triton_tiles import tiles_for

Mask = Literal["none", "blocks", "causal", "absent keys"]
WIDTHS: Final = (16, 32, 64, 128, 256)
ODD_WIDTHS: Final = (24, 72, 120)
TYPES: Final = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}
MOST_LONGER: Final = 1.10
"""Instructions of the layout kernel without a mask, of those of the dense kernel."""
SPLITS: Final = 8  # of few queries' keys; no constant of the kernels
WITHOUT_PRODUCTS: Final = ("rows_kernel", "combine_kernel")


@dataclass(frozen=True)
class Case:
    """One call, forward and backward, that is compiled."""

    width: int
    dtype: str
    mask: Mask
    few_queries: bool = False
    """Over many keys, so that the keys are split; forward only."""

    def __str__(self) -> str:
        return f"{self.dtype} {self.width} wide, mask: {self.mask}{', few queries' if self.few_queries else ''}"

    def layout(self) -> TokenLayout:
        """Whose tiles are all full without a mask, and full and partial ones with any."""
        segments = [Segment("one", 120), Segment("other", 136)]
        if self.few_queries:
            segments = [Segment("prefix", 1008), Segment("new", 16)]
        whole = {"none": full, "causal": causal}.get(self.mask, lambda both: blockwise_causal([[segment] for segment in both]))(segments)
        return whole.asking("new") if self.few_queries else whole

    def call(self) -> Attention:
        """The call, with tensors whose values do not matter."""
        layout, dtype = self.layout(), TYPES[self.dtype]
        q = torch.empty(1, 8, layout.num_queries, self.width, dtype=dtype, requires_grad=not self.few_queries)
        k, v = (torch.empty(1, 2, layout.num_keys, self.width, dtype=dtype, requires_grad=not self.few_queries) for _ in range(2))
        present = torch.ones(1, layout.num_keys, dtype=torch.bool) if self.mask == "absent keys" else None
        return Attention(q, k, v, layout, present, 1 / math.sqrt(self.width))


def cases(*, quick: bool = False) -> list[Case]:
    """Every case that is compiled; with `quick` the widest and the commonest heads of one type, with the mask that needs most."""
    if quick:
        return [Case(width, "bfloat16", "causal") for width in (64, 256)]
    masks: tuple[Mask, ...] = ("none", "blocks", "causal", "absent keys")
    every = [Case(width, "bfloat16", mask) for width in (*WIDTHS, *ODD_WIDTHS) for mask in masks]
    every += [Case(width, dtype, "causal") for dtype in ("float16", "float32") for width in WIDTHS]
    every += [Case(width, dtype, "causal", few_queries=True) for dtype in TYPES for width in WIDTHS]
    return every


def compile_case(case: Case, target: Target) -> list[CompiledKernel]:
    """The kernels of one call that this process has not compiled before.

    Raises:
        TritonError: a kernel does not compile, or needs more shared memory than a block has.
    """
    call = case.call()
    with compiling_for(target) as kernels:
        out, lse = attend_triton(call, return_lse=True, splits=SPLITS if case.few_queries else 1)
        if out.requires_grad:
            assert lse is not None
            torch.autograd.grad([out, lse], [call.q, call.k, call.v], [torch.empty_like(out), torch.empty_like(lse)])
    return kernels


def problems(kernel: CompiledKernel, target: Target, dtype: str) -> list[str]:
    """What is wrong with a compiled kernel, a line each."""
    code, threads = kernel.code, kernel.warps * target.warp_size
    found = []
    if code.spills:
        found.append(f"expected no spilled registers, got {code.spill_bytes} bytes and {code.spill_instructions} instructions")
    if code.registers > target.registers_per_thread or code.registers * threads > target.registers_per_multiprocessor:
        found.append(f"expected registers for {threads} threads, got {code.registers} a thread")
    if kernel.shared > target.shared_per_block:
        found.append(f"expected at most {target.shared_per_block} bytes of shared memory, got {kernel.shared}")
    resident = resident_warps(target, registers=code.registers, shared=kernel.shared, warps=kernel.warps)
    if 0 < resident < target.least_warps:  # where none fits, a line above says why
        found.append(f"expected room for {target.least_warps} warps on a multiprocessor, got {resident}")
    wanted = target.matrix_instruction
    if dtype != "float32" and kernel.name not in WITHOUT_PRODUCTS and not code.matrix_instructions.get(wanted):
        found.append(f"expected {wanted} instructions, got {code.matrix_instructions or 'none'}")
    return found


@dataclass(frozen=True)
class Comparison:
    """The forward kernel without a mask beside the dense one, with the same tiles."""

    width: int
    dtype: str
    dense: CompiledKernel
    layout: CompiledKernel

    @property
    def longer(self) -> float:
        """Machine instructions, of the dense kernel's."""
        return self.layout.code.instructions / self.dense.code.instructions

    @property
    def longer_virtual(self) -> float:
        """PTX instructions, of the dense kernel's; 1 where there is no PTX."""
        virtual = self.dense.code.virtual_instructions
        return self.layout.code.virtual_instructions / virtual if virtual else 1.0


def compare(layout_kernel: CompiledKernel, case: Case, target: Target) -> Comparison:
    """Compiles the dense kernel for the same call, whose width is a power of two.

    Both take ragged queries; neither masks keys, which fill whole tiles.
    """
    call, tiles = case.call(), tiles_for(case.width, TYPES[case.dtype], "forward", target.name)
    with compiling_for(target) as kernels:
        dense_forward(call.q, call.k, call.v, block_n=tiles.block_n, block_m=tiles.block_m, warps=tiles.num_warps, stages=tiles.num_stages)
    [dense] = kernels
    return Comparison(case.width, case.dtype, dense, layout_kernel)


def results(target: Target, *, quick: bool = False) -> Iterator[dict[str, Any]]:
    """One dictionary a case: its kernels with their problems, the comparison, or why it did not compile."""
    for case in cases(quick=quick):
        result: dict[str, Any] = {"target": target.name, "case": asdict(case), "kernels": [], "comparison": None, "error": None}
        try:
            kernels = compile_case(case, target)
            forward = [kernel for kernel in kernels if kernel.name == "forward_kernel"]
            if case.mask == "none" and case.width in WIDTHS and not case.few_queries and forward:
                comparison = compare(forward[0], case, target)
                result["comparison"] = asdict(comparison) | {"longer": comparison.longer, "longer_virtual": comparison.longer_virtual}
        except TritonError as error:
            result["error"] = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
            kernels = []
        result["kernels"] = [asdict(kernel) | {"problems": problems(kernel, target, case.dtype)} for kernel in kernels]
        yield result


def main(argv: list[str]) -> int:
    """Prints the results of one target, a line each."""
    name, *options = argv
    # Triton prints a kernel's whole text when its assembler fails: it must not end up between the lines.
    with contextlib.redirect_stdout(io.StringIO()):
        for result in results(target_named(name), quick="--quick" in options):
            print(json.dumps(result), file=sys.__stdout__, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
