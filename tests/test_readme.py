"""The README's tables are those of the result files, digit for digit."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from handsight.launch import (
    bench_attention,
    bench_compose,
    bench_describe,
    bench_envs,
    bench_fuse_step,
    bench_recipe,
    bench_runtime,
    bench_zoo,
    fuse_table,
    kernels_table,
    suite_table,
    validation,
)

TABLES: dict[str, Callable[[Any], str]] = {
    "zoo_tabletop_grasp.json": lambda result: bench_zoo.table(result["rows"]),
    "fuse.json": lambda result: fuse_table.table(result["rows"], result["summary"]),
    "describe.json": bench_describe.table,
    "compose.json": lambda result: bench_compose.table(result["rows"]),
    "fuse_step.json": lambda result: bench_fuse_step.table(result["rows"]),
    "zoo_bag_stiff.json": lambda result: bench_zoo.table(result["rows"]),
    "recipe.json": lambda result: bench_recipe.table(result["rows"]),
    "envs.json": bench_envs.table,
    "attention.json": bench_attention.summary,
    "runtime.json": lambda result: bench_runtime.table(result["rows"]),
    "kernels.json": kernels_table.summary,
    "suite.json": lambda result: suite_table.table(result["rows"]) + "\n" + validation.table(result["validation"]),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables_are_those_of_the_result_files(name: str, repository: Path) -> None:
    result = json.loads((repository / "launch/results" / name).read_text())
    missing = [line for line in TABLES[name](result).splitlines() if line not in (repository / "README.md").read_text().splitlines()]
    assert not missing, f"expected {name}'s table in README.md; copy what its command prints"
