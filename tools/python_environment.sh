# Makes .venv and installs into it. Sourced by bootstrap.sh, which says what ROS, PYTHON, VENV and the rest are.
# shellcheck shell=bash

pip_install() {
    local name=$1
    shift
    logged "$name" env -u PYTHONPATH -u LD_LIBRARY_PATH "$VENV/bin/python3" -m pip install --disable-pip-version-check \
        --no-input --prefer-binary "$@"
}

# install_torch: PyTorch with CUDA where there is an NVIDIA GPU, else the CPU build, which is ten times smaller.
install_torch() {
    local pinned
    pinned=$(sed -n 's/^torch==\([0-9.]*\).*/\1/p' "$TOOLS/requirements-python.txt")
    if "$VENV/bin/python3" -c "import importlib.metadata as m; raise SystemExit(m.version('torch').split('+')[0] != '$pinned')" \
        2>/dev/null; then
        return 0
    fi
    if command -v nvidia-smi >/dev/null && nvidia-smi -L 2>/dev/null | grep -q GPU; then
        say "installing PyTorch $pinned for CUDA"
        pip_install torch "torch==$pinned"
    elif say "installing PyTorch $pinned for CPU" && pip_install torch --no-deps "torch==$pinned+cpu" 2>/dev/null; then
        :
    else
        say "pip finds no CPU build of PyTorch $pinned; installing the default one, which is large" \
            "(PIP_EXTRA_INDEX_URL can name an index with CPU builds)"
        pip_install torch "torch==$pinned"
    fi
}

# install_from_wheels: ROS 2 and everything else. With a lock file for this Python nothing has to be resolved.
install_from_wheels() {
    local version lock
    version=$("$VENV/bin/python3" -c 'import sys; print(f"{sys.version_info.major}{sys.version_info.minor}")')
    lock=$TOOLS/requirements-lock-py$version.txt
    install_torch
    if [[ -f $lock ]]; then
        say "installing $(grep -c == "$lock") wheels (2 to 4 minutes)"
        pip_install wheels --no-deps -r "$lock"
    else
        say "installing wheels for Python ${version/3/3.} without a lock file (several minutes)"
        pip_install wheels -r "$TOOLS/requirements-ros.txt" -r "$TOOLS/requirements-build.txt" \
            -r "$TOOLS/requirements-python.txt" -r "$TOOLS/requirements-test.txt"
    fi
    logged repair "$VENV/bin/python3" "$TOOLS/repair_wheels.py"
}

# from_system MODULE NAME PACKAGE: what the sourced ROS must import by itself.
from_system() { "$PYTHON" -c "import $1" 2>/dev/null || install_packages "$2" "$3"; }

# install_beside_ros: only what the sourced ROS does not bring. NumPy, and OpenCV and Pinocchio that are compiled against
# it, stay those of the system, as its message modules and cv_bridge need; pip chooses versions of the rest that fit.
install_beside_ros() {
    local kept=$LOGS/requirements-kept.txt wanted=$LOGS/requirements-wanted.txt
    mkdir -p "$LOGS"
    from_system numpy "NumPy" python3-numpy
    from_system cv2 "OpenCV" python3-opencv
    from_system pinocchio "Pinocchio" "ros-$ROS_DISTRO-pinocchio"
    "$PYTHON" -c 'import numpy; print(f"numpy=={numpy.__version__}")' >"$kept"
    grep -v -E '^(numpy|torch|opencv-python-headless|pin)==' "$TOOLS/requirements-python.txt" >"$wanted"
    command -v colcon >/dev/null || cat "$TOOLS/requirements-build.txt" >>"$wanted"
    install_torch
    say "installing what the sourced ROS 2 ($ROS_DISTRO) does not bring (several minutes)"
    pip_install wheels -c "$kept" -r "$wanted" -r "$TOOLS/requirements-test.txt"
}

# link_workspace: makes the checkout and its built interfaces importable with .venv/bin/python alone, without env.sh.
link_workspace() {
    local packages
    packages=$("$VENV/bin/python3" -c 'import sysconfig; print(sysconfig.get_paths()["purelib"])')
    printf '%s\n' "$ROOT" "$ROOT/install/lib/$(basename "$(dirname "$packages")")/site-packages" \
        >"$packages/qt_ros_workspace.pth"
    # The wheels' start-up hook adds every folder of this form to the library path.
    [[ $ROS == system ]] || ln -sfn "$ROOT/install/lib" "$packages/ros_qt_ros.libs"
    cat >"$VENV/bin/qt-ros" <<EOF
#!$VENV/bin/python3
"""The command qt-ros of this checkout."""
from qt_ros.cli.main import main

if __name__ == "__main__":  # worker processes import this file
    raise SystemExit(main())
EOF
    chmod +x "$VENV/bin/qt-ros"
    touch "$VENV/COLCON_IGNORE"
}

make_environment() {
    local options=()
    [[ $ROS == system ]] && options+=(--system-site-packages)
    if ! "$VENV/bin/python3" -c '' 2>/dev/null; then
        say "making .venv with $("$PYTHON" --version)"
        rm -rf "$VENV"
        logged venv env -u PYTHONPATH "$PYTHON" -m venv "${options[@]}" "$VENV"
    fi
    if [[ $ROS == system ]]; then install_beside_ros; else install_from_wheels; fi
    link_workspace
}

# choose_renderer: writes the MuJoCo GL backend that renders here to .venv/mujoco_gl, which env.sh reads.
choose_renderer() {
    local backend
    backend=$(env -u PYTHONPATH "$VENV/bin/python3" -m qt_ros.sim.gl 2>>"$LOGS/renderer.log") || backend=
    if [[ -z $backend ]] && ! have_library libOSMesa.so; then
        # EGL is there but does not render: Mesa's off-screen library needs no driver at all.
        install_packages "OpenGL library that renders without a display" libosmesa6 || return 1
        backend=$(env -u PYTHONPATH "$VENV/bin/python3" -m qt_ros.sim.gl 2>>"$LOGS/renderer.log") || backend=
    fi
    if [[ -z $backend ]]; then
        echo "setup: neither EGL nor OSMesa renders a frame; see log/setup/renderer.log and run 'qt-ros doctor'" >&2
        return 1
    fi
    say "MuJoCo renders with $backend"
    printf '%s\n' "$backend" >"$VENV/mujoco_gl"
}
