"""`handsight bench gpu` without a GPU: its dry run in Triton's interpreter, its verdicts, its table, and what it says without a device."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from handsight.kernels.layout import Segment, causal
from handsight.kernels.workloads import WORKLOADS
from handsight.launch import bench_gpu
from handsight.launch.bench_gpu import correctness, main, table, tiny
from handsight.launch.gpu_timing import OURS, Timing, call_of, compare, contenders, timing_of
from handsight.sensors.errors import HandsightError

CPU = torch.device("cpu")


def test_a_dry_run_checks_and_times_every_workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    few = [workload for workload in WORKLOADS if "padded" in workload.name]  # partial and full tiles, causal segments, absent keys
    monkeypatch.setattr(bench_gpu, "WORKLOADS", few)
    out = tmp_path / "gpu.json"
    assert main(["--device=cpu", "--rounds=1", f"--out={out}"]) == 0
    result = json.loads(out.read_text())
    assert result["dry_run"]
    assert [(row["dtype"], row["right"]) for row in result["correctness"]] == [("float32", True), ("float16", True)]
    assert [row["direction"] for row in result["timings"]] == ["forward", "forward and backward"]
    assert all(row["contenders"][OURS]["median_ms"] > 0 for row in result["timings"])
    assert isinstance(result["timings"][0]["contenders"]["FlexAttention"], dict)
    assert "FlexAttention" in result["timings"][1]["contenders"]["FlexAttention"]  # it has no backward on a CPU, and says so
    assert "which says nothing of a GPU" in capsys.readouterr().out


def test_a_wrong_kernel_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    right = bench_gpu._values

    def wrong(call: Any, backend: Any) -> Any:
        values = right(call, "sdpa")
        return values if call.q.dtype == torch.float64 or backend == "sdpa" else {**values, "dk": 1.01 * values["dk"]}

    workload = tiny(WORKLOADS[0])
    monkeypatch.setattr(bench_gpu, "_values", wrong)
    row = correctness(workload, "float32", CPU)
    assert not row["right"]
    assert row["errors"][OURS]["dk"] == pytest.approx(0.01, rel=1e-3)


def test_without_a_device_one_line_says_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(HandsightError, match=r"expected a CUDA device, got none; .*bench kernels.*--device=cpu"):
        main([])


def test_tiny_workloads_keep_their_tables() -> None:
    for workload in WORKLOADS:
        small = tiny(workload)
        assert small.layout.visible == workload.layout.visible
        assert small.layout.num_keys < 70
        present = small.present(CPU)
        assert (present is None) == (not workload.absent)


def test_quartiles_and_failures_of_contenders() -> None:
    assert timing_of([0.001, 0.002, 0.003]) == Timing(2.0, 1.5, 2.5)
    call = call_of((1, 2, 1, 16), causal([Segment("text", 4)]), None, torch.float32, CPU)

    def refuses() -> torch.Tensor:
        raise NotImplementedError("not this shape\nand more")

    found = compare(call, {"one": lambda: call.q, "other": refuses}, rounds=3, backward=False)
    assert isinstance(found["one"], Timing)
    assert found["other"] == "NotImplementedError: not this shape"


def test_contenders_agree() -> None:
    workload = replace(tiny(WORKLOADS[0]), batch=1)
    call = call_of((1, 2, 1, 16), workload.layout, None, torch.float32, CPU)
    with torch.no_grad():
        outs = [run() for run in contenders(replace(call, q=call.q.detach(), k=call.k.detach(), v=call.v.detach())).values()]
    for out in outs[1:]:
        torch.testing.assert_close(out, outs[0], atol=1e-5, rtol=1e-5)


def test_the_table_marks_wrong_values() -> None:
    errors = dict.fromkeys(bench_gpu.PARTS, 0.5)
    row = {"workload": "w", "dtype": "float32", "errors": {OURS: errors, "sdpa": errors}, "right": False}
    timing = {"median_ms": 1.0, "lower_quartile_ms": 0.9, "upper_quartile_ms": 1.2}
    times = [{"workload": "w", "direction": "forward", "contenders": {OURS: timing, "FlashAttention": "RuntimeError: no"}}]
    text = table({"correctness": [row], "timings": times, "dry_run": False, "device": {"name": "some GPU"}})
    assert "| NO |" in text
    assert "| w | forward | 1.000 [0.900, 1.200] | RuntimeError: no |" in text
    assert "on some GPU" in text
