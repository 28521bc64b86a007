"""The embedded simulator: the robot and the kitchen in MuJoCo, tasks, the scripted demonstrator and roll-outs."""

from __future__ import annotations

import os
import sys

# MuJoCo picks its OpenGL backend at import. Without a display the default (GLFW) cannot open a context, EGL can.
if sys.platform == "linux" and not os.environ.get("DISPLAY"):
    os.environ.setdefault("MUJOCO_GL", "egl")
# Mesa's software renderer draws in the calling thread: several simulators, or one beside a policy, share cores better.
os.environ.setdefault("LP_NUM_THREADS", "0")
