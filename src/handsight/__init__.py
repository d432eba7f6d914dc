"""handsight: finetune robot policies that see, feel, hear and follow language."""

import os
import sys

# MuJoCo chooses its OpenGL platform when it is imported, so this must come before: EGL needs no display, and llvmpipe is fastest
# with one environment per core and no threads of its own. What the user has set stays.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
    os.environ.setdefault("LP_NUM_THREADS", "0")
