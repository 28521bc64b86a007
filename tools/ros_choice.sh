# Which ROS 2 the set-up uses, and starting over when that has changed. Sourced by bootstrap.sh.
# shellcheck shell=bash

# find_ros: sets ROS to 'system' when a sourced ROS 2 is usable, else to 'wheels'.
find_ros() {
    ROS=wheels
    [[ -n "${ROS_DISTRO:-}" ]] || return 0
    if [[ "$ROS_DISTRO" < "jazzy" ]]; then
        echo "setup: the sourced ROS 2 is '$ROS_DISTRO'; qt_ros needs Jazzy or newer. Source that, or unset ROS_DISTRO" >&2
        return 1
    fi
    local python=${PYTHON:-python3}
    if "$python" -c 'import rclpy' 2>/dev/null; then
        ROS=system
        PYTHON=$python
    else
        say "ROS_DISTRO is '$ROS_DISTRO' but '$python' cannot import rclpy: using the wheels instead"
    fi
}

# made_for: what .venv was made for, as `remember_ros` wrote it: 'wheels DISTRO' or 'system DISTRO', DISTRO being the
# ROS_DISTRO of that time, maybe empty. Nothing when there is no .venv. An older .venv is told by what lies in it.
made_for() {
    if [[ -f $VENV/ros ]]; then
        cat "$VENV/ros"
    elif [[ -f $VENV/share/rclpy/package.xml ]]; then
        echo "wheels ${ROS_DISTRO:-}"
    elif [[ -f $VENV/pyvenv.cfg ]]; then
        echo "system ${ROS_DISTRO:-}"
    fi
}

# forget_other_ros: libraries and interfaces of two ROS installations must not mix. What was made for another one goes.
forget_other_ros() {
    local was now="$ROS ${ROS_DISTRO:-}"
    was=$(made_for)
    [[ -n $was && $was != "$now" ]] || return 0
    # ROS_DISTRO says nothing where the wheels are used anyway.
    [[ $was != wheels\ * || $ROS != wheels ]] || return 0
    say "this checkout was set up for ROS from '$was', now it is '$now': .venv, build and install are made anew"
    rm -rf "$VENV" "$ROOT/build" "$ROOT/install"
}

# remember_ros: for the next run and for env.sh.
remember_ros() { printf '%s\n' "$ROS ${ROS_DISTRO:-}" >"$VENV/ros"; }
