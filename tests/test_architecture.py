"""Who may import whom, and the other rules of the layout, read from the source and not from what happens to be imported."""

import ast
import fnmatch
import functools
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Final

import pytest

ROOT: Final = Path(__file__).resolve().parents[1]
MAX_LINES: Final = 400
MAX_FUNCTION_LINES: Final = 60

# folder -> the modules of ours that it may import (a prefix allows what is below it)
MAY_IMPORT: Final = {
    "kernels": ("kernels",),
    "sensors": ("sensors",),
    "datasets_rb": ("datasets_rb", "sensors"),
    "envs": ("envs", "sensors"),
    "policies": ("policies", "kernels", "sensors", "datasets_rb.language"),
    "launch": ("launch", "kernels", "sensors", "datasets_rb", "envs", "policies"),
}
FOLDERS: Final = tuple(MAY_IMPORT)

# library -> the only files that may import it
WALLS: Final = {
    "triton": ("kernels/*",),
    "transformers": ("kernels/hf.py", "policies/*", "launch/*"),
    "mujoco": ("envs/*", "launch/peer_steps.py"),  # the second is run by a peer's own Python
    "lerobot": (
        "datasets_rb/*",
        "envs/lerobot.py",
        *(f"policies/*{kind}_*.py" for kind in ("configuration", "modeling", "processor")),
        "launch/*",
    ),
    "onnx": (),  # only through the exporter and the quantiser
    "onnxruntime": ("policies/export_onnx.py", "policies/runtime_onnx.py"),
    "wandb": ("launch/track.py",),
    "zenoh": ("launch/deploy/transport_zenoh.py",),
    "rclpy": ("launch/deploy/transport_ros2.py",),
    "ray": ("launch/cluster.py",),
}
# What an environment's process must never load: LeRobot's trainer alone takes 31 CPU-seconds to import.
HEAVY: Final = ("torch", "lerobot", "transformers", "accelerate", "datasets", "wandb")


@dataclass(frozen=True)
class Import:
    """`module` as named in the statement at `line`; `lazy` if it is inside a function or for type checkers only."""

    module: str
    line: int
    lazy: bool

    @property
    def library(self) -> str:
        return self.module.partition(".")[0]


def sources() -> list[Path]:
    return sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def modules() -> dict[str, Path]:
    return {module_of(path): path for path in sources()}


@functools.cache
def imports_of(path: Path) -> tuple[Import, ...]:
    return tuple(_walk(ast.parse(path.read_text()), lazy=False))


def _walk(node: ast.AST, *, lazy: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from (Import(alias.name, child.lineno, lazy) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"line {child.lineno}: expected absolute imports only"
            yield from (_from(child.module or "", alias.name, child.lineno, lazy) for alias in child.names)
        yield from _walk(child, lazy=lazy or isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) or _is_type_checking(child))


def _is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def _from(module: str, name: str, line: int, lazy: bool) -> Import:
    """`from handsight.envs import pool` imports a module, `from handsight.envs.pool import EnvPool` a name in one."""
    full = f"{module}.{name}"
    return Import(full if full.removeprefix("handsight.") in modules() else module, line, lazy)


def ours(path: Path, *, lazy: bool) -> set[str]:
    """The modules of ours that a file imports, without the leading `handsight.`; the bare root holds only the version."""
    entries = (entry for entry in imports_of(path) if lazy or not entry.lazy)
    return {entry.module.removeprefix("handsight.") for entry in entries if entry.module.startswith("handsight.")}


def at(path: Path, entry: Import) -> str:
    return f"{path.relative_to(ROOT)}:{entry.line} imports {entry.module}"


def test_there_is_something_to_check() -> None:
    assert {path.relative_to(ROOT).parts[0] for path in sources()} == set(FOLDERS)


def test_folders_import_only_what_the_table_allows() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in sources()
        for name in sorted(ours(path, lazy=True))
        if not any(f"{name}.".startswith(f"{allowed}.") for allowed in MAY_IMPORT[path.relative_to(ROOT).parts[0]])
    ]
    assert not wrong, "\n".join(wrong)


def test_our_modules_are_imported_by_their_full_name() -> None:
    wrong = [at(path, entry) for path in sources() for entry in imports_of(path) if entry.library in FOLDERS]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("library", WALLS)
def test_walls_around_libraries(library: str) -> None:
    wrong = [
        at(path, entry)
        for path in sources()
        for entry in imports_of(path)
        if entry.library == library and not any(fnmatch.fnmatch(str(path.relative_to(ROOT)), allowed) for allowed in WALLS[library])
    ]
    assert not wrong, "\n".join(wrong)


def test_environments_load_nothing_heavy() -> None:
    """Follows imports at module level from every file of envs/ but the LeRobot plug; lazy ones inside functions are free."""
    waiting = [path for path in sources() if path.is_relative_to(ROOT / "envs") and path != ROOT / "envs/lerobot.py"]
    seen: set[Path] = set()
    wrong: list[str] = []
    while waiting:
        path = waiting.pop()
        if path in seen:
            continue
        seen.add(path)
        wrong += [at(path, entry) for entry in imports_of(path) if entry.library in HEAVY and not entry.lazy]
        waiting += [modules()[name] for name in ours(path, lazy=False) if name in modules()]
    assert not wrong, "\n".join(wrong)


def test_there_are_no_import_cycles() -> None:
    graph = {name: ours(path, lazy=False) & set(modules()) for name, path in modules().items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def test_the_import_root_holds_one_relative_link_a_folder_and_nothing_else() -> None:
    package = ROOT / "src/handsight"
    found = {path.name: path for path in package.iterdir() if path.name != "__pycache__"}
    assert set(found) == {"__init__.py", "py.typed", *FOLDERS}
    for folder in FOLDERS:
        assert found[folder].is_symlink(), folder
        assert str(found[folder].readlink()) == f"../../{folder}"


def test_folders_are_namespace_packages_and_packages_below_them_are_not() -> None:
    for folder in (*FOLDERS, "tests"):
        assert not (ROOT / folder / "__init__.py").exists(), f"{folder}/__init__.py would shadow packages of the same name"
    assert not list((ROOT / "tests").rglob("__init__.py")), "tests are files, not packages: draccus installs a package called tests"
    below = {path.parent for path in sources() if path.parent.parent != ROOT}
    missing = [str(folder.relative_to(ROOT)) for folder in below if not (folder / "__init__.py").exists()]
    assert not missing, f"expected __init__.py in {missing}"


def test_no_file_is_too_long() -> None:
    files = [*sources(), *(ROOT / "tests").rglob("*.py")]
    long = {str(path.relative_to(ROOT)): lines for path in files if (lines := len(path.read_text().splitlines())) > MAX_LINES}
    assert not long, f"expected at most {MAX_LINES} lines, one concept a file; split {long}"


def test_no_function_is_too_long() -> None:
    long = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name} has {length} lines"
        for path in sources()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        if (length := (node.end_lineno or node.lineno) - node.lineno + 1) > MAX_FUNCTION_LINES
    ]
    assert not long, "\n".join(long)


def test_every_folder_has_a_short_readme() -> None:
    for folder in FOLDERS:
        lines = (ROOT / folder / "README.md").read_text().splitlines()
        assert 3 <= len(lines) <= 40, f"{folder}/README.md has {len(lines)} lines, expected 3 to 40"


def test_readmes_name_only_files_that_exist() -> None:
    named = {
        name
        for readme in (ROOT / "README.md", *(ROOT / folder / "README.md" for folder in FOLDERS))
        for name in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", readme.read_text())
        if name.partition("/")[0] in (*FOLDERS, "tests", "src")
    }
    missing = sorted(name for name in named if not (ROOT / name).exists())
    assert not missing, f"READMEs name files that do not exist: {missing}"


def test_the_lock_is_hash_pinned_and_names_no_index_or_path() -> None:
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    entries = [line for line in lines if line and not line.startswith((" ", "#"))]
    assert len(entries) > 100
    assert all("==" in line and line.endswith("\\") for line in entries), "expected name==version followed by hashes"
    assert not [line for line in lines if "://" in line or "index" in line or "file:" in line or "/home" in line or "/root" in line]


@pytest.mark.parametrize("safe_path", [True, False], ids=["-c with PYTHONSAFEPATH", "a script, as commands are"])
def test_transformers_works_from_the_repository_root(safe_path: bool, tmp_path: Path) -> None:
    """Our kernels/ must not pass for the package of that name that transformers looks for."""
    program = "from transformers.utils.import_utils import is_kernels_available; print(is_kernels_available())"
    script = tmp_path / "uses_transformers.py"
    script.write_text(program)
    words = ["-c", program] if safe_path else [str(script)]
    environment = {"PATH": "", "HOME": str(tmp_path)} | ({"PYTHONSAFEPATH": "1"} if safe_path else {})
    child = subprocess.run([sys.executable, *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert (child.returncode, child.stdout.strip()) == (0, "False"), child.stderr
