"""`handsight bench kernels`: what fails it, what its tables say, and what can be counted without a compiler."""

from typing import Any

import pytest
import torch

from handsight.kernels.compile_targets import TARGETS, target_named
from handsight.kernels.roofline import bound
from handsight.kernels.workloads import WORKLOADS, TileShares
from handsight.launch.bench_kernels import KernelsArguments, bound_row, comparison_row, failures, kernel_rows, main, tile_row
from handsight.launch.kernels_table import table
from handsight.sensors.errors import HandsightError

CODE = {
    "registers": 168,
    "spill_bytes": 0,
    "spill_instructions": 0,
    "instructions": 970,
    "virtual_instructions": 833,
    "matrix_instructions": {"HGMMA": 8},
}


def case(**change: Any) -> dict[str, Any]:
    kernel = {"name": "forward_kernel", "constants": {"BLOCK_N": 64, "BLOCK_M": 64}, "warps": 4, "stages": 3, "shared": 40960, "code": CODE}
    plain = {"width": 64, "dtype": "bfloat16", "mask": "none", "few_queries": False}
    return {"target": "sm_90", "case": plain, "kernels": [kernel | {"problems": []}], "comparison": None, "error": None} | change


def result_of(*found: dict[str, Any]) -> dict[str, Any]:
    return {
        "targets": [{"name": "sm_90"}],
        "kernels": [row for each in found for row in kernel_rows(each)],
        "comparisons": [comparison_row(each) for each in found if each["comparison"]],
        "errors": [{"target": each["target"], **each["case"], "error": each["error"]} for each in found if each["error"]],
        "tiles": [tile_row(workload) for workload in WORKLOADS],
        "bounds": [bound_row(workload, target_named("sm_90")) for workload in WORKLOADS],
        "versions": {"triton": "3.6.0"},
    }


def comparison(longer: float) -> dict[str, Any]:
    dense = {"code": CODE | {"instructions": 900}}
    return {"width": 64, "dtype": "bfloat16", "dense": dense, "layout": {"code": CODE}, "longer": longer, "longer_virtual": 1.0}


def test_what_is_right_fails_nothing() -> None:
    assert failures(result_of(case(comparison=comparison(1.05)))) == []


def test_spills_errors_and_long_kernels_fail_with_a_line_each() -> None:
    spilling = case()
    spilling["kernels"][0]["problems"] = ["expected no spilled registers, got 8 bytes and 4 instructions"]
    found = failures(result_of(spilling, case(error="OutOfResources: shared memory"), case(comparison=comparison(1.2))))
    assert [line.partition(": ")[2] for line in found] == [
        "OutOfResources: shared memory",
        "expected no spilled registers, got 8 bytes and 4 instructions",
        "expected at most 1.1 times the dense kernel's instructions, got 1.200 and 1.000 of PTX",
    ]


def test_tables_say_that_nothing_was_measured() -> None:
    text = table(result_of(case(comparison=comparison(1.05))))
    assert "| sm_90 | forward_kernel | 1 | 0 | 168 | 40 | 12 | HGMMA |" in text
    assert "| sm_90 | bfloat16 | 64 | 970 | 900 | 1.05 | 1.00 |" in text
    assert "never run on a GPU" in text
    assert text.count("arithmetic, not a measurement") == 2


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda workload: workload.name)
def test_shares_of_tiles_are_those_of_the_whole(workload: Any) -> None:
    row = tile_row(workload)
    assert row["full"] + row["partial"] + row["skipped"] == pytest.approx(1)
    assert min(row["full"], row["partial"], row["skipped"]) >= 0


def test_absent_keys_are_skipped_by_their_share_of_the_batch() -> None:
    whole, padded = (next(w for w in WORKLOADS if w.name == f"SmolVLA, training{name}") for name in ("", ", half of the batch padded"))
    assert padded.tile_shares(64, 64).skipped > whole.tile_shares(64, 64).skipped
    present = padded.present(torch.device("cpu"))
    assert present is not None
    assert present[1].all()
    assert present[0].sum() == whole.layout.num_keys - 64 - 24


def test_the_bound_is_operations_over_rate_or_bytes_over_bandwidth() -> None:
    workload, target = next(w for w in WORKLOADS if w.name.startswith("32 queries")), target_named("sm_90")
    found = bound(workload, TileShares(1.0, 0.0, 0.0), target, "forward")
    assert found.flops == found.dense_flops == 4 * 64 * 32 * 12 * 32 * 768
    assert found.bytes_moved == 2 * 64 * 32 * 12 * 2 * (32 + 768) + 4 * 32 * 12 * 32
    assert found.seconds == max(found.flops / 989.4e12, found.bytes_moved / 3.35e12) == found.memory_s
    assert bound(workload, TileShares(0.25, 0.25, 0.5), target, "backward").flops == 3.5 * found.flops / 2


def test_unknown_targets_are_refused_and_quick_takes_one() -> None:
    with pytest.raises(HandsightError, match="expected --targets among"):
        main(["--targets=sm_91"])
    assert [target.name for target in KernelsArguments(quick=True).chosen] == ["sm_90"]
    assert [target.name for target in KernelsArguments(targets="gfx942", quick=True).chosen] == ["gfx942"]
    assert len(KernelsArguments().chosen) == len(TARGETS) - 1
