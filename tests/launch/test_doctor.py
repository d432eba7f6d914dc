"""The doctor: what is there is ok, what is taken away is missing and comes with a command."""

from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

import pytest

from handsight.launch import doctor, gl
from handsight.launch.doctor import DoctorArgs
from handsight.sensors.errors import HandsightError


@pytest.fixture(autouse=True)
def fresh_probe() -> Iterator[None]:
    gl.probe_gl.cache_clear()
    yield
    gl.probe_gl.cache_clear()


def test_this_machine_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert doctor.main([]) == 0, capsys.readouterr().out
    lines = capsys.readouterr().out.splitlines()
    assert {line.split()[1] for line in lines} == {"disk", "python", "packages", "triton", "video", "wandb", "gpu", "rendering", "lerobot"}
    assert not any(line.startswith("missing") for line in lines)


def test_a_missing_gl_driver_is_found_by_really_rendering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    monkeypatch.setenv("__EGL_VENDOR_LIBRARY_DIRS", "/nonexistent")  # what libglvnd sees without libgl1-mesa-dri
    check = doctor.check_gl()
    assert not check.ok
    assert "apt-get install -y libegl1 libgl1-mesa-dri libopengl0" in str(check)
    with pytest.raises(HandsightError, match="apt-get install -y libegl1 libgl1-mesa-dri libopengl0"):
        gl.require_gl()


def test_a_crashing_driver_does_not_take_us_along(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gl, "_PROBE", "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert gl.probe_gl() == gl.GlState(False, "the renderer crashed with signal 11")


def test_a_wrong_backend_is_told_apart_from_a_missing_library(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "nonsense")
    assert gl.fix_gl() == "export MUJOCO_GL=egl"
    monkeypatch.setenv("MUJOCO_GL", "osmesa")
    assert gl.fix_gl().endswith("libosmesa6")


def test_setup_installs_what_the_error_names(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MUJOCO_GL", "egl")
    script = (repository / "launch/setup/setup.sh").read_text()
    assert f'GL_PACKAGES="{gl.fix_gl().partition("install -y ")[2]}"' in script


def test_require_gl_is_quiet_where_it_renders() -> None:
    gl.require_gl()


def test_a_package_out_of_bounds_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "requires", lambda name: ["numpy>=99", "no-such-package>=1", "colorama; sys_platform == 'win32'"])
    check = doctor.check_packages()
    assert str(check).startswith("missing  packages   expected numpy>=99, got ")
    assert "no-such-package is not installed" in check.detail
    assert "colorama" not in check.detail
    assert str(check).endswith("->  make setup")


def test_a_full_disk_fails_the_doctor(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(doctor, "_DISK_NEEDED", 1e9)
    assert doctor.main([f"--path={tmp_path}/not/yet/there"]) == 1
    assert f"GB free at {tmp_path}" in capsys.readouterr().out


def test_a_plugin_that_is_not_installed_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "DISTRIBUTION", "lerobot_policy_nobody")
    assert not doctor.check_plugin(deep=False).ok


def test_a_plugin_that_fails_to_import_is_found_by_the_deep_check(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "_DISCOVER", "raise ImportError('no module named x')")
    assert str(doctor.check_plugin(deep=True)) == "missing  lerobot    ImportError: no module named x  ->  make setup"


@pytest.mark.slow
def test_lerobot_loads_the_plugin() -> None:
    checks = {check.name: check for check in doctor.examine(DoctorArgs(deep=True))}
    assert checks["lerobot"].ok, checks["lerobot"]
    assert "fuse" in checks["lerobot"].detail
