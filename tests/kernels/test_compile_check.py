"""What the kernels compile to, for GPUs that are not here: two quick compilations by default, every target when slow tests run.

Compiling needs a process in which Triton does not interpret, so that everything that compiles is in `compile_check`'s own process.
"""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from handsight.kernels.compile_check import cases, problems
from handsight.kernels.compile_only import CompiledKernel, compiling_for
from handsight.kernels.compile_targets import TARGETS, resident_warps, target_named
from handsight.kernels.machine_code import MachineCode, of_amd, sass_operations

HOPPER = target_named("sm_90")
GOOD = CompiledKernel(
    name="forward_kernel",
    constants={"BLOCK_D": 64},
    warps=4,
    stages=2,
    shared=40_000,
    code=MachineCode(128, 0, 0, 900, 800, {"HGMMA": 16}),
)


def run(program: str, folder: Path) -> str:
    hidden = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    child = subprocess.run(
        [sys.executable, "-P", "-c", program], env=hidden | {"TRITON_CACHE_DIR": str(folder)}, capture_output=True, text=True, check=False
    )
    assert child.returncode == 0, child.stderr
    return child.stdout


def check(target: str, folder: Path, *options: str) -> list[dict[str, Any]]:
    program = f"from handsight.kernels.compile_check import main; raise SystemExit(main({[target, *options]!r}))"
    return [json.loads(line) for line in run(program, folder).splitlines()]


QUICK = """
import json
import torch
from triton.runtime.errors import OutOfResources
from handsight.kernels.compile_check import Case, compare, problems
from handsight.kernels.compile_only import compiling_for
from handsight.kernels.compile_targets import target_named
from handsight.kernels.dense_baseline import dense_forward
from handsight.kernels.triton_op import attend_triton

hopper, case = target_named("sm_90"), Case(64, "bfloat16", "none")
with torch.no_grad(), compiling_for(hopper) as kernels:
    attend_triton(case.call(), return_lse=True)
comparison = compare(kernels[0], case, hopper)
found = {
    "names": [kernel.name for kernel in kernels],
    "problems": [problem for kernel in kernels for problem in problems(kernel, hopper, "bfloat16")],
    "longer": [comparison.longer, comparison.longer_virtual],
}
x = torch.empty(1, 1, 128, 128, dtype=torch.bfloat16)
with compiling_for(target_named("sm_80")) as kernels:
    dense_forward(x, x, x, block_n=128, block_m=64, warps=4, stages=2)
found |= {"spills": kernels[0].code.spills, "products": kernels[0].code.matrix_instructions}
try:
    with compiling_for(target_named("gfx942")):
        dense_forward(x, x, x, block_n=64, block_m=128, warps=8, stages=3)
except OutOfResources as error:
    found |= {"required": error.required, "limit": error.limit}
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Three compilations in one process."""
    found: dict[str, Any] = json.loads(run(QUICK, tmp_path_factory.mktemp("triton")))
    return found


def test_what_a_call_launches_is_compiled_and_compared_for_hopper(quick: dict[str, Any]) -> None:
    assert (quick["names"], quick["problems"]) == (["forward_kernel"], [])
    assert all(0.5 < ratio <= 1.10 for ratio in quick["longer"])


def test_spilled_registers_are_seen(quick: dict[str, Any]) -> None:
    assert quick["spills"]  # a tile of 128 x 128 sums needs more than the 255 registers of each of 128 threads
    assert quick["products"]["HMMA"] > 0


def test_shared_memory_beyond_the_target_is_refused(quick: dict[str, Any]) -> None:
    assert quick["limit"] == 64 * 1024 < quick["required"]


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("target", [target.name for target in TARGETS if target.name != "sm_89"])
def test_every_kernel_fits_every_target(target: str, tmp_path: Path) -> None:
    results = check(target, tmp_path)
    assert len(results) == len(cases())
    assert [(result["case"], result["error"]) for result in results if result["error"]] == []
    wrong = [
        (kernel["name"], result["case"], problem) for result in results for kernel in result["kernels"] for problem in kernel["problems"]
    ]
    assert wrong == []
    compared = [result["comparison"] for result in results if result["comparison"]]
    assert len(compared) == 5
    assert all(max(row["longer"], row["longer_virtual"]) <= 1.10 for row in compared), [(row["width"], row["longer"]) for row in compared]


def test_compiling_where_triton_interprets_says_so() -> None:
    with pytest.raises(RuntimeError, match="TRITON_INTERPRET"), compiling_for(HOPPER):
        pass


@pytest.mark.parametrize(
    ("kernel", "dtype", "message"),
    [
        (replace(GOOD, code=replace(GOOD.code, spill_bytes=8)), "bfloat16", "no spilled registers"),
        (replace(GOOD, code=replace(GOOD.code, spill_instructions=1)), "bfloat16", "no spilled registers"),
        (replace(GOOD, code=replace(GOOD.code, registers=256)), "bfloat16", "registers for 128 threads"),
        (replace(GOOD, warps=16), "bfloat16", "registers for 512 threads"),
        (replace(GOOD, shared=227 * 1024 + 1), "bfloat16", "shared memory"),
        (replace(GOOD, shared=114 * 1024), "bfloat16", "expected room for 8 warps on a multiprocessor, got 4"),
        (replace(GOOD, code=replace(GOOD.code, matrix_instructions={"HMMA": 9})), "float16", "expected HGMMA"),
    ],
)
def test_problems_are_named(kernel: CompiledKernel, dtype: str, message: str) -> None:
    kernel = replace(kernel, code=replace(kernel.code, registers=129)) if kernel.warps == 16 else kernel
    assert [message in problem for problem in problems(kernel, HOPPER, dtype)] == [True]


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "resident"),
    [
        ("sm_90", 128, 0, 4, 16),  # 65536 / (128 * 128): four blocks by registers
        ("sm_90", 121, 0, 4, 16),  # registers come in eights
        ("sm_90", 255, 0, 8, 8),
        ("sm_90", 32, 75 * 1024, 4, 12),  # 228 / (75 + 1): three blocks by shared memory, of which the system takes 1 KiB each
        ("sm_90", 32, 227 * 1024, 4, 4),
        ("sm_90", 32, 227 * 1024 + 1, 4, 0),
        ("sm_86", 32, 49 * 1024, 8, 16),
        ("gfx942", 256, 0, 4, 8),  # 131072 / (256 * 4 * 64)
        ("gfx942", 128, 32 * 1024, 4, 8),  # nothing is taken there
    ],
)
def test_resident_warps_are_counted(target: str, registers: int, shared: int, warps: int, resident: int) -> None:
    assert resident_warps(target_named(target), registers=registers, shared=shared, warps=warps) == resident


def test_a_kernel_within_its_limits_has_no_problem() -> None:
    assert problems(GOOD, HOPPER, "bfloat16") == []
    without = replace(GOOD, code=replace(GOOD.code, matrix_instructions={}))
    assert problems(without, HOPPER, "float32") == []
    assert problems(replace(without, name="combine_kernel"), HOPPER, "bfloat16") == []


def test_disassembly_is_counted_without_its_padding() -> None:
    sass = """
        /*0000*/                   LDC R1, c[0x0][0x28] ;               /* 0x00000a00ff017b82 */
                                                                        /* 0x000fe20000000800 */
        /*0010*/              @!P0 STL.64 [R1+0x8], R2 ;                /* 0x0000080201007387 */
        /*0020*/             @UPT HGMMA.64x64x16.F32.BF16 R24, R4 ;     /* 0x0 */
        /*0030*/                   EXIT ;                               /* 0x0 */
        /*0040*/                   BRA 0x40;                            /* 0x0 */
        /*0050*/                   NOP;                                 /* 0x0 */
"""
    assert list(sass_operations(sass)) == ["LDC", "STL.64", "HGMMA.64", "EXIT"]


def test_amd_metadata_is_read() -> None:
    assembly = """
kernel:
\ts_load_dwordx2 s[0:1], s[2:3], 0x0
\tv_mfma_f32_32x32x8_bf16 a[0:15], v[0:1], v[2:3], a[0:15]
\tscratch_store_dword off, v1, s0
\ts_endpgm
    .private_segment_fixed_size: 16
    .vgpr_count:     300
"""
    assert of_amd(assembly) == MachineCode(300, 16, 1, 4, 0, {"v_mfma": 1})
