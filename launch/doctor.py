"""`handsight doctor`: what is installed, what renders, what is missing and the one command that fixes it."""

import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from packaging.requirements import Requirement

from handsight.launch.arguments import parse
from handsight.launch.gl import fix_gl, probe_gl

DISTRIBUTION: Final = "lerobot_policy_handsight"
INSTALL: Final = "make setup"
_DISK_NEEDED: Final = 2.0  # GB: a small dataset, its decoded cache and one training run
_TORCH_TIMEOUT: Final = 120.0  # seconds

# What LeRobot's commands do at start-up; a plugin that fails to import is only logged there and missing later.
_DISCOVER: Final = """
from lerobot.utils.import_utils import register_third_party_plugins
register_third_party_plugins()
import sys
from lerobot.configs.policies import PreTrainedConfig
ours = sorted(n for n, c in PreTrainedConfig.get_known_choices().items() if c.__module__.startswith("handsight."))
assert "lerobot_policy_handsight" in sys.modules and ours, "LeRobot did not load the plugin"
print("policy types", ", ".join(ours))
"""
_GPU: Final = """
import torch
names = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
assert names, "torch sees no device: driver and torch do not match"
print(", ".join(names))
"""


@dataclass(frozen=True)
class DoctorArgs:
    """Arguments of `handsight doctor`."""

    path: Path = Path()
    """The folder that will be written to; its free space is checked."""
    deep: bool = False
    """Also let LeRobot import the plugin, as lerobot-train does (about 20 CPU seconds)."""


@dataclass(frozen=True)
class Check:
    """One line: `fix` is the command to run if not `ok`; what is not `essential` is reported, but does not fail."""

    name: str
    ok: bool
    detail: str
    fix: str = ""
    essential: bool = True

    def __str__(self) -> str:
        mark = "ok" if self.ok else "missing" if self.essential else "none"
        return f"{mark:<8} {self.name:<10} {self.detail}" + (f"  ->  {self.fix}" if self.fix and not self.ok else "")


def main(argv: list[str]) -> int:
    """Prints one line a check; 1 if something essential is missing."""
    arguments = parse(DoctorArgs, argv, "handsight doctor", __doc__ or "")
    missing = 0
    for check in examine(arguments):
        print(check, flush=True)
        missing += check.essential and not check.ok
    return 1 if missing else 0


def examine(arguments: DoctorArgs) -> Iterator[Check]:
    """Every check, cheapest first, each as soon as it is known."""
    checks: tuple[Callable[[], Check], ...] = (check_python, check_packages, check_triton, check_video, check_wandb, check_gpu, check_gl)
    yield check_disk(arguments.path)
    yield from (check() for check in checks)
    yield check_plugin(deep=arguments.deep)


def check_python() -> Check:
    """The running interpreter."""
    return Check("python", sys.version_info[:2] in ((3, 12), (3, 13)), f"{platform.python_version()} at {sys.executable}", INSTALL)


def check_packages() -> Check:
    """Every dependency that applies to this platform, against its bounds."""
    try:
        wanted = [Requirement(line) for line in metadata.requires(DISTRIBUTION) or ()]
    except metadata.PackageNotFoundError:
        return Check("packages", False, f"{DISTRIBUTION} is not installed", INSTALL)
    wanted = [need for need in wanted if need.marker is None or need.marker.evaluate({"extra": ""})]
    problems = [problem for need in wanted if (problem := _problem(need))]
    found = ", ".join(f"{need.name} {_version(need.name)}" for need in wanted)
    return Check("packages", not problems, "; ".join(problems) or found, INSTALL)


def check_triton() -> Check:
    """Triton compiles the GPU kernels; the CPU path needs none."""
    version = _version("triton")
    return Check("triton", version is not None, version or "not installed (CUDA kernels will not be used)", INSTALL, essential=False)


def check_video() -> Check:
    """PyAV brings its own FFmpeg; dataset and rollout videos need two of its encoders."""
    if find_spec("av") is None:
        return Check("video", False, "PyAV is not installed", INSTALL)
    import av

    lacking = sorted({"libsvtav1", "libx264"} - av.codecs_available)
    ffmpeg = "ffmpeg command found" if shutil.which("ffmpeg") else "no ffmpeg command (not needed)"
    return Check("video", not lacking, f"PyAV {av.__version__}, " + (f"lacks {', '.join(lacking)}" if lacking else ffmpeg), INSTALL)


def check_wandb() -> Check:
    """Where tracked runs would go."""
    mode = os.environ.get("WANDB_MODE")
    return Check("wandb", True, f"WANDB_MODE={mode}" if mode else "online if logged in; WANDB_MODE=offline keeps runs on disk")


def check_disk(path: Path) -> Check:
    """Free space where results go."""
    folder = next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())
    free = shutil.disk_usage(folder).free / 1e9
    return Check("disk", free >= _DISK_NEEDED, f"{free:.1f} GB free at {folder}", f"free at least {_DISK_NEEDED:.0f} GB or choose --path")


def check_gpu() -> Check:
    """torch is only imported (seconds) if there is a device."""
    if not any(Path(device).exists() for device in ("/dev/nvidiactl", "/dev/kfd")):
        return Check("gpu", False, "no CUDA device; everything runs on the CPU", essential=False)
    ok, detail = _try(_GPU)
    return Check("gpu", ok, detail, "install the driver that this torch needs, see `nvidia-smi`", essential=False)


def check_gl() -> Check:
    """Renders a frame."""
    state = probe_gl()
    return Check("rendering", state.works, state.detail, fix_gl())


def check_plugin(*, deep: bool) -> Check:
    """LeRobot goes through the installed distributions and compares raw names."""
    names = [distribution.metadata["Name"] for distribution in metadata.distributions()]
    if DISTRIBUTION not in names or find_spec(DISTRIBUTION) is None:
        return Check("lerobot", False, f"no installed distribution is named {DISTRIBUTION}", INSTALL)
    if not deep:
        return Check("lerobot", True, f"{_version('lerobot')} will find {DISTRIBUTION} (--deep lets it)")
    ok, detail = _try(_DISCOVER)
    return Check("lerobot", ok, detail, INSTALL)


def _problem(need: Requirement) -> str:
    found = _version(need.name)
    if found is None:
        return f"{need.name} is not installed"
    return "" if need.specifier.contains(found, prereleases=True) else f"expected {need.name}{need.specifier}, got {found}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _try(program: str) -> tuple[bool, str]:
    environment = {**os.environ, "PYTHONSAFEPATH": "1", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-c", program]
    try:
        child = subprocess.run(command, capture_output=True, text=True, timeout=_TORCH_TIMEOUT, env=environment, check=False)
    except subprocess.TimeoutExpired:
        return False, f"no answer within {_TORCH_TIMEOUT:.0f} s"
    lines = (child.stdout if child.returncode == 0 else child.stderr).strip().splitlines()
    return child.returncode == 0, lines[-1] if lines else f"exit code {child.returncode}"
