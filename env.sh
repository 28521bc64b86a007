# Source this file (bash, sh or zsh) in the repository root to get a shell in which `qt-ros` and every node run:
#     . ./env.sh
# It only sets variables, so it may be sourced again at any time. From sh in another folder, set QT_ROS_ROOT first.
# It keeps what is already set: the ROS underlay, ROS_DOMAIN_ID, RMW_IMPLEMENTATION, MUJOCO_GL, HF_HUB_OFFLINE and
# Fast DDS profiles.

if [ -n "${BASH_VERSION:-}" ]; then
    QT_ROS_ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
elif [ -n "${ZSH_VERSION:-}" ]; then
    eval 'QT_ROS_ROOT=${${(%):-%x}:A:h}'
    # A pattern without a match stays as it is, as in the other shells; put back at the end.
    qt_ros_options=$(setopt | grep -x nonomatch || echo nomatch)
    setopt nonomatch
elif [ -f ./env.sh ] && [ -f ./package.xml ]; then
    QT_ROS_ROOT=$(pwd)
fi

if [ ! -x "${QT_ROS_ROOT:-}/.venv/bin/python3" ]; then
    echo "env.sh: no environment in '${QT_ROS_ROOT:-$(pwd)}'; run 'make setup' there first" >&2
    return 1 2>/dev/null || exit 1
fi
export QT_ROS_ROOT

# What was made for one ROS does not run on another: their libraries would mix.
qt_ros_made=$(cat "$QT_ROS_ROOT/.venv/ros" 2>/dev/null || true)
case "$qt_ros_made" in
    "" | "wheels ${ROS_DISTRO:-}" | "system ${ROS_DISTRO:-}") unset qt_ros_made ;;
    *)
        echo "env.sh: '$QT_ROS_ROOT' was set up for ROS from '$qt_ros_made', but ROS_DISTRO is '${ROS_DISTRO:-}' here;" \
            "run 'make setup' in this shell to make it anew, or use a shell with the same ROS as then" >&2
        unset qt_ros_made
        return 1 2>/dev/null || exit 1
        ;;
esac

# qt_ros_prepend VARIABLE FOLDER: puts the folder first in the list, once.
qt_ros_prepend() {
    [ -d "$2" ] || return 0
    eval "qt_ros_list=\":\${$1:-}:\""
    case "$qt_ros_list" in *":$2:"*) return 0 ;; esac
    eval "export $1=\"$2\${$1:+:\$$1}\""
}

qt_ros_prepend PATH "$QT_ROS_ROOT/.venv/bin"
if [ -f "$QT_ROS_ROOT/.venv/share/rclpy/package.xml" ]; then
    # ROS from wheels: their libraries, which the start-up hook of the wheels would add by re-executing Python.
    # ROS_DISTRO stays unset: it says that an installed ROS was sourced.
    for qt_ros_folder in "$QT_ROS_ROOT"/.venv/lib/python3.*/site-packages/ros_*.libs "$QT_ROS_ROOT/.venv/lib"; do
        qt_ros_prepend LD_LIBRARY_PATH "$qt_ros_folder"
    done
    qt_ros_prepend AMENT_PREFIX_PATH "$QT_ROS_ROOT/.venv"
    export _ROS_WHEELS_BOOTSTRAP_COMPLETE=1
fi

# The interfaces as colcon built them, then the source tree in front of them: edits need no rebuild.
for qt_ros_folder in "$QT_ROS_ROOT"/install/lib/python3*/site-packages "$QT_ROS_ROOT"/install/local/lib/python3*/dist-packages; do
    qt_ros_prepend PYTHONPATH "$qt_ros_folder"
done
qt_ros_prepend PYTHONPATH "$QT_ROS_ROOT"
qt_ros_prepend LD_LIBRARY_PATH "$QT_ROS_ROOT/install/lib"
qt_ros_prepend AMENT_PREFIX_PATH "$QT_ROS_ROOT/install"
qt_ros_prepend CMAKE_PREFIX_PATH "$QT_ROS_ROOT/install"

# Models come from the environment, never from the network; MuJoCo renders with what the set-up found to work.
export HF_HUB_OFFLINE="${HF_HUB_OFFLINE:-1}"
export TOKENIZERS_PARALLELISM="${TOKENIZERS_PARALLELISM:-false}"
if [ -z "${MUJOCO_GL:-}" ]; then
    MUJOCO_GL=$(cat "$QT_ROS_ROOT/.venv/mujoco_gl" 2>/dev/null || echo egl)
fi
export MUJOCO_GL

# Fast DDS with room for whole camera images; other middlewares ignore it.
export FASTRTPS_DEFAULT_PROFILES_FILE="${FASTRTPS_DEFAULT_PROFILES_FILE:-$QT_ROS_ROOT/config/fastdds.xml}"
export FASTDDS_DEFAULT_PROFILES_FILE="${FASTDDS_DEFAULT_PROFILES_FILE:-$FASTRTPS_DEFAULT_PROFILES_FILE}"

unset -f qt_ros_prepend
[ -z "${qt_ros_options:-}" ] || setopt "$qt_ros_options"
unset qt_ros_folder qt_ros_list qt_ros_options
