"""Which OpenGL backend renders a MuJoCo frame on this machine.

`python -m qt_ros.sim.gl` prints the first of egl, osmesa and glfw that renders a lit frame, and fails when none does.
`python -m qt_ros.sim.gl --render` renders one with the backend that MUJOCO_GL names and prints what OpenGL says it is.
Each trial runs in a process of its own: MuJoCo binds its backend at import, and a broken driver may end the process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass

BACKENDS = ("egl", "osmesa", "glfw")
TRIAL_LIMIT_S = 180.0

_SCENE = """
<mujoco>
  <worldbody>
    <light pos="0 0 3" dir="0 0 -1"/>
    <geom type="plane" size="1 1 0.1" rgba="0.8 0.4 0.2 1"/>
    <geom type="sphere" pos="0 0 0.3" size="0.2" rgba="0.1 0.3 0.9 1"/>
  </worldbody>
</mujoco>
"""


@dataclass(frozen=True)
class Trial:
    """What came of rendering with one backend: `renderer` is OpenGL's name for it, `error` is empty when it worked."""

    backend: str
    renderer: str
    error: str

    @property
    def works(self) -> bool:
        return not self.error


def render_trial_frame() -> str:
    """Renders a small scene with the backend of MUJOCO_GL and returns OpenGL's name of the renderer.

    Raises RuntimeError when the frame is all of one colour, and whatever MuJoCo raises when it cannot render.
    """
    import mujoco

    model = mujoco.MjModel.from_xml_string(_SCENE)
    data = mujoco.MjData(model)
    mujoco.mj_forward(model, data)
    with mujoco.Renderer(model, height=48, width=64) as renderer:
        renderer.update_scene(data)
        frame = renderer.render()
        if frame.max() == frame.min():
            raise RuntimeError("the rendered frame is all of one colour")
        try:
            from OpenGL import GL

            return bytes(GL.glGetString(GL.GL_RENDERER) or b"unnamed").decode(errors="replace")
        except Exception:  # the name is only for people; the frame has been rendered
            return "unnamed"


def try_backend(backend: str) -> Trial:
    """Renders one frame in a child process with `backend` and reports how that went."""
    command = [sys.executable, "-m", "qt_ros.sim.gl", "--render"]
    # -m resolves the package from the child's path, so the child must see the one this module came from.
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    path = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    environment = {**os.environ, "MUJOCO_GL": backend, "PYTHONPATH": path}
    # PyOpenGL follows this one, not MUJOCO_GL, when it is set.
    environment.pop("PYOPENGL_PLATFORM", None)
    try:
        child = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=TRIAL_LIMIT_S, stdin=subprocess.DEVNULL
        )
    except subprocess.TimeoutExpired:
        return Trial(backend, "", f"no frame within {TRIAL_LIMIT_S:.0f} s")
    if child.returncode == 0:
        return Trial(backend, json.loads(child.stdout.splitlines()[-1])["renderer"], "")
    last = [line for line in child.stderr.splitlines() if line and not line.startswith((" ", "Exception ignored"))]
    return Trial(backend, "", last[-1] if last else f"the process ended with status {child.returncode}")


def find_backend() -> tuple[str | None, list[Trial]]:
    """The first backend that renders, or None, and every trial made on the way."""
    trials: list[Trial] = []
    for backend in BACKENDS:
        if backend == "glfw" and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
            trials.append(Trial(backend, "", "no display"))
            continue
        trials.append(try_backend(backend))
        if trials[-1].works:
            return backend, trials
    return None, trials


def main(arguments: list[str] | None = None) -> int:
    if "--render" in (sys.argv[1:] if arguments is None else arguments):
        print(json.dumps({"renderer": render_trial_frame()}))
        return 0
    backend, trials = find_backend()
    if backend is None:
        for trial in trials:
            print(f"{trial.backend}: {trial.error}", file=sys.stderr)
        return 1
    print(backend)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
