"""The table of attention on a CPU: what is compared is the same, and what it says follows from the samples."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from handsight.launch import bench_attention
from handsight.launch.attention_peers import FLEX, LEROBOT, OURS, Case, cases, contestants, exact


def row(contestant: str, median: float) -> dict[str, Any]:
    time_ms, ratio = {"median": median, "min": median}, {"median": 4 / median, "low": 1.0, "high": 9.0}
    return {"case": "c", "direction": "forward", "contestant": contestant, "cpu_ms": time_ms, "ratio": ratio, "max_difference": 1e-7}


@pytest.mark.parametrize("case", cases(), ids=lambda case: case.name)
def test_all_contestants_compute_the_same(case: Case) -> None:
    case = Case(case.name, case.layout, 1, case.heads, case.groups, 16, case.absent)
    inputs = case.inputs(torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = exact(case, *inputs)
        for name, run in contestants(case).items():
            if name != FLEX:  # which would compile every case
                torch.testing.assert_close(run(*inputs).double(), expected, atol=1e-5, rtol=0, msg=name)


def test_contestants_take_turns_and_the_first_one_changes() -> None:
    order: list[str] = []
    calls = {name: lambda name=name: order.append(name) for name in "abc"}
    samples = bench_attention.in_turns(calls, rounds=3, sample_ms=0.0)
    assert "".join(order[-9:]) == "abcbcacab"
    assert all(len(times) == 3 and (times > 0).all() for times in samples.values())


def test_an_interval_holds_its_median_and_shrinks_to_it() -> None:
    found = bench_attention.interval(np.array([1.0, 2.0, 3.0, 4.0, 100.0]))
    assert found["low"] <= found["median"] == 3.0 <= found["high"]
    assert bench_attention.interval(np.full(5, 2.0)) == {"median": 2.0, "low": 2.0, "high": 2.0}


def test_the_table_marks_the_best_and_says_where_we_are_behind() -> None:
    ahead = bench_attention.table({"rows": [row(LEROBOT, 4.0), row(OURS, 1.0)]})
    assert "**1**" in ahead
    assert "longer" not in ahead
    assert "attend takes 100% longer than LeRobot" in bench_attention.table({"rows": [row(LEROBOT, 4.0), row(OURS, 8.0)]})


def test_a_quick_run_writes_what_it_prints(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "attention.json"
    assert bench_attention.main(["--quick", "--flex=false", f"--out={out}"]) == 0
    result = json.loads(out.read_text())
    assert len(result["rows"]) == 2 * 2 * 4  # cases, directions, contestants
    assert bench_attention.table(result) in capsys.readouterr().out
