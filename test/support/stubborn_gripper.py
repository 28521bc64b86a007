"""command_node with a gripper whose driver fails when it is to hold, run as a process: `python stubborn_gripper.py`."""

from __future__ import annotations

import sys

from qt_ros.control.shaper import Command
from qt_ros.nodes import command_node
from qt_ros.nodes.outputs import GripperTopic


class StubbornNode(command_node.CommandNode):
    """Says in the failure whether the robot had been told to stand before."""

    stands = False

    def _publish(self, command: Command) -> None:
        super()._publish(command)
        type(self).stands = not command.moving


def fail(gripper: GripperTopic, position: float) -> None:
    raise RuntimeError(f"no holding, {'after zeros' if StubbornNode.stands else 'before any zero'}")


if __name__ == "__main__":
    GripperTopic.hold = fail  # type: ignore[method-assign]
    command_node.CommandNode = StubbornNode  # type: ignore[misc]
    sys.exit(command_node.main())
