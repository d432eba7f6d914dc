"""`handsight bench runtime`: its table, and that every way computes the same chunk."""

from pathlib import Path

import pytest

from handsight.launch.bench_runtime import measure, table, transformer, ways

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


@pytest.mark.slow
def test_every_way_computes_the_same_chunk(tmp_path: Path) -> None:
    rows = measure(ways(transformer(width=32, layers=2), tmp_path, compiled=False), rounds=1)
    assert rows[0]["max_difference"] == 0
    assert all(row["max_difference"] < 1e-5 for row in rows if "int8" not in row["way"])
    assert all(row["cpu_ms_min"] <= row["cpu_ms_median"] for row in rows)
    assert len(table([row | {"policy": "small"} for row in rows]).splitlines()) == 2 + len(rows)
