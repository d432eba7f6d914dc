"""Does this machine render? Really tried, in a process of its own, because a broken OpenGL library may crash instead of raising.

`python -m handsight.launch.gl` prints the answer and exits with 0 or 1.
"""

import functools
import os
import subprocess
import sys
from dataclasses import dataclass
from typing import Final

from handsight.sensors.errors import HandsightError

# libopengl0: MuJoCo's EGL module calls glGetError through PyOpenGL; tried on a bare Debian 12, where the other two were not enough.
_APT_PACKAGES: Final = {"egl": "libegl1 libgl1-mesa-dri libopengl0", "osmesa": "libosmesa6"}
_TIMEOUT: Final = 120.0  # seconds; the first frame takes about one, a hanging driver for ever

# As text, not as a function: what is tried here is the import, too, and MuJoCo stays behind the wall of envs/.
_PROBE: Final = """
import mujoco
model = mujoco.MjModel.from_xml_string("<mujoco><worldbody><light pos='0 0 2'/><geom size='.2'/></worldbody></mujoco>")
data = mujoco.MjData(model)
mujoco.mj_forward(model, data)
renderer = mujoco.Renderer(model, 32, 32)
try:
    renderer.update_scene(data)
    assert renderer.render().any(), "the frame is black"
    from OpenGL import GL
    print("renders on", GL.glGetString(GL.GL_RENDERER).decode())
finally:
    renderer.close()
"""


@dataclass(frozen=True)
class GlState:
    """Whether a frame was rendered, and the renderer's name or the last line of what went wrong."""

    works: bool
    detail: str


@functools.cache
def probe_gl() -> GlState:
    """Renders one small frame in a child process (about a second; the answer is kept for this process)."""
    environment = {**os.environ, "PYTHONSAFEPATH": "1"}  # MUJOCO_GL has the default that importing handsight sets
    try:
        child = subprocess.run(
            [sys.executable, "-c", _PROBE], capture_output=True, text=True, timeout=_TIMEOUT, env=environment, check=False
        )
    except subprocess.TimeoutExpired:
        return GlState(False, f"no frame within {_TIMEOUT:.0f} s")
    if child.returncode == 0:
        return GlState(True, child.stdout.strip().splitlines()[-1])
    if child.returncode < 0:
        return GlState(False, f"the renderer crashed with signal {-child.returncode}")
    # Python prints the error's own line last; what destructors complain about afterwards is indented or starts with "Exception ignored".
    lines = child.stderr.partition("Exception ignored")[0].strip().splitlines()
    return GlState(False, lines[-1] if lines else f"exit code {child.returncode}")


def fix_gl() -> str:
    """The one command that makes rendering work."""
    packages = _APT_PACKAGES.get(_backend())
    if packages is None:
        return "export MUJOCO_GL=egl"
    sudo = "" if hasattr(os, "geteuid") and os.geteuid() == 0 else "sudo "
    return f"{sudo}apt-get update && {sudo}apt-get install -y {packages}"


def require_gl() -> None:
    """Raises before work is lost if this machine cannot render.

    Raises:
        HandsightError: with the one command that installs what is missing.
    """
    state = probe_gl()
    if not state.works:
        raise HandsightError(f"expected OpenGL rendering (MUJOCO_GL={_backend()}), got: {state.detail}; run: {fix_gl()}")


def _backend() -> str:
    return os.environ.get("MUJOCO_GL") or "glfw"  # MuJoCo's own default, which needs a display


if __name__ == "__main__":
    answer = probe_gl()
    print(answer.detail if answer.works else f"cannot render: {answer.detail}; run: {fix_gl()}")
    sys.exit(not answer.works)
