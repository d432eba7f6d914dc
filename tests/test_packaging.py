"""What is built from the source: complete, and found by LeRobot in an environment that has nothing else of ours."""

import os
import subprocess
import sys
import sysconfig
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import Final

import pytest

DISTRIBUTION: Final = "lerobot_policy_handsight"
FOLDERS: Final = ("kernels", "sensors", "datasets_rb", "envs", "policies", "launch")
DISCOVER: Final = """
import sys
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
import lerobot_policy_handsight, handsight
from lerobot.configs.policies import PreTrainedConfig
print(lerobot_policy_handsight.__file__, handsight.__file__, *PreTrainedConfig.get_known_choices(), sep="\\n")
"""
COMMAND: Final = """
from importlib.metadata import entry_points
(command,) = entry_points(group="console_scripts", name="handsight")
command.load()(["--version"])
"""

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path | None = None) -> str:
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    child = subprocess.run([str(word) for word in command], cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert child.returncode == 0, child.stdout + child.stderr
    return child.stdout


@pytest.fixture(scope="module")
def built(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the wheel and the sdist; hatchling is in the lock, so that nothing is downloaded."""
    out = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "-d", out, cwd=repository)
    return out


@pytest.fixture(scope="module")
def clean_python(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with the wheel installed, and all our dependencies, linked to this one's, but not the editable install."""
    root = tmp_path_factory.mktemp("clean")
    venv.create(root, with_pip=False, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", {"base": str(root)}))
    for entry in Path(sysconfig.get_path("purelib")).iterdir():
        if "handsight" not in entry.name and not (site / entry.name).exists():
            (site / entry.name).symlink_to(entry)
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(site)  # all that an installer does for a pure wheel, but for the scripts
    return root / "bin/python"


def sources(repository: Path) -> set[str]:
    """Every file that git would commit in the six folders and that is no test, as `handsight/...`."""
    listed = run("git", "ls-files", "--cached", "--others", "--exclude-standard", *FOLDERS, cwd=repository).splitlines()
    return {f"handsight/{name}" for name in listed if (repository / name).is_file()}


def test_the_wheel_holds_every_file_and_no_link(built: Path, repository: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = set(zipfile.ZipFile(wheel).namelist())
    assert wheel.name.startswith(f"{DISTRIBUTION}-"), "LeRobot compares the raw name: underscores"
    assert not sources(repository) - names
    assert {f"{DISTRIBUTION}/__init__.py", "handsight/__init__.py", "handsight/py.typed"} <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith("tests/")]


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "dist", cwd=source)
    (again,) = (tmp_path / "dist").glob("*.whl")
    (wheel,) = built.glob("*.whl")
    assert zipfile.ZipFile(again).namelist() == zipfile.ZipFile(wheel).namelist()


def test_lerobot_discovers_the_installed_wheel(clean_python: Path, tmp_path: Path) -> None:
    plugin, package, *policies = run(clean_python, "-c", DISCOVER, cwd=tmp_path).splitlines()
    assert Path(plugin).is_relative_to(clean_python.parents[1])
    assert Path(package).is_relative_to(clean_python.parents[1])
    assert "fuse" in policies


def test_the_command_works_from_the_wheel(clean_python: Path, tmp_path: Path) -> None:
    assert run(clean_python, "-c", COMMAND, cwd=tmp_path).startswith("handsight 0.")
    assert "rendering" in run(clean_python, "-m", "handsight.launch.cli", "doctor", cwd=tmp_path)
