"""What a launch refuses before it starts anything: names that nobody declared, a missing checkpoint, hidden settings.

Plain functions without ROS. `launch` itself accepts any ``name:=value`` and drops what nobody asks for, so that
`enable_moton:=false` would start a robot that moves.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from qt_ros.contract.interfaces import needs_servo
from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import load_yaml
from qt_ros.nodes.launch_arguments import BY_ARGUMENT, NODES

SERVO = "qt_ros_servo"
"""Launch configuration with the decision about the argument ``servo``: true or false."""
# What `launch` and `launch_ros` keep among the arguments, and what `ros2 launch` sets from its own options.
OF_LAUNCH = frozenset(
    ("launch-prefix", "launch-prefix-filter", "emulate_tty", "sigterm_timeout", "sigkill_timeout", "ros_namespace")
    + ("ros_remaps", "ros_params", "global_params", SERVO)
)
OVERRULED = {*BY_ARGUMENT, "use_sim_time"}  # what no parameter file may set; the latter is every node's
DRY_RUN = "enable_motion"  # the argument whose typing error would move the robot


class ArgumentError(ValueError):
    """The launch arguments are refused; the message says what to give instead."""


def refuse_undeclared(given: Iterable[str], declared: Sequence[str], alone: bool) -> None:
    """ArgumentError for a name among ``given`` that is not declared.

    ``alone``: the launch file was started by itself, so that every argument is meant for it. Included in another one it
    sees that one's arguments too; then only what is nearly `enable_motion` is refused.
    """
    unknown = sorted(set(given) - set(declared) - OF_LAUNCH)
    if not alone:
        unknown = [name for name in unknown if _nearly_dry_run(name)]
    if not unknown:
        return
    near = difflib.get_close_matches(unknown[0], declared, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise ArgumentError(
        f"unknown launch argument {', '.join(unknown)}{hint}; nothing was started. Known: {', '.join(declared)}"
    )


def _nearly_dry_run(name: str) -> bool:
    """A typing error; `enable_motion_a` and `enable_motion1` may be the including file's, for one of several robots."""
    several = re.fullmatch(rf"{DRY_RUN}(_.+|\d+)", name)
    return not several and bool(difflib.get_close_matches(name, [DRY_RUN], cutoff=0.9))


def named_on_command_line(path: str, command_line: Sequence[str]) -> bool:
    """Whether a command line names the launch file ``path`` itself: by package and name, or by its path."""
    file = Path(path)
    for before, word in zip(("", *command_line), command_line):
        if Path(word).name != file.name or ":=" in word:
            continue
        if before == "qt_ros" or (Path(word).exists() and Path(word).samefile(file)):
            return True
    return False


def refuse_missing_checkpoint(policy: str, checkpoint: str) -> None:
    """ArgumentError where policy_node is wanted and nobody said by which checkpoint it decides."""
    if policy == "true" and not checkpoint:
        raise ArgumentError(
            "no checkpoint: give checkpoint:=FOLDER, or policy:=false for a robot that is driven by hand "
            "(qt-ros record, teleop_node); nothing was started"
        )


def refuse_hidden_settings(params: str) -> None:
    """ArgumentError where a parameter file sets what a launch argument sets: the argument would overrule it unseen.

    Only blocks of our nodes and of all nodes count. ConfigError where the file cannot be read.
    """
    ours = {name for names in NODES.values() for name in names} | {"*", "**"}
    for node, values in _blocks(load_yaml(Path(params))):
        hidden = sorted(set(values) & OVERRULED) if node in ours else []
        if hidden:
            raise ArgumentError(
                f"{params}: {node} sets {', '.join(hidden)}, which launch arguments overrule; take it out and give the "
                f"launch argument instead (such as {DRY_RUN}:=false); nothing was started"
            )


def _blocks(document: Mapping[Any, Any], node: str = "") -> Iterator[tuple[str, Mapping[Any, Any]]]:
    """(last word of the node's name, its parameters) of a ROS parameter file, nested namespaces included."""
    for key, value in document.items():
        if not isinstance(value, Mapping):
            continue
        if key == "ros__parameters":
            yield node, value
        else:
            yield from _blocks(value, str(key).rpartition("/")[2])


def decided_servo(servo: str, robot: str) -> str:
    """The argument ``servo`` with ``auto`` decided by the contract: true where servo_node follows the arm."""
    if servo != "auto":
        return servo
    return "true" if needs_servo(load_contract(robot)) else "false"
