"""MoveIt Servo's and gripper controllers' side of their interfaces, run as a process: `python third_party_servers.py`.

What they were told goes out as text on `told`, in order. Like MoveIt Servo, twists are followed only after the command
type was switched to TWIST. (Its time-out of 0.1 s is left out: how late a message is depends on the machine.)
"""

from __future__ import annotations

import sys
from typing import Any

import rclpy
from control_msgs.action import GripperCommand, ParallelGripperCommand  # type: ignore[import-not-found]
from geometry_msgs.msg import TwistStamped
from moveit_msgs.srv import ServoCommandType  # type: ignore[import-not-found]
from rclpy.action import ActionServer, CancelResponse
from rclpy.executors import ExternalShutdownException
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile
from rclpy.task import Future
from std_msgs.msg import String


class Servers(Node):
    def __init__(self) -> None:
        super().__init__("third_party")
        self.told = self.create_publisher(
            String, "told", QoSProfile(depth=100, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        )
        self.command_type: int | None = None
        self.followed = False
        self.create_service(ServoCommandType, "servo_node/switch_command_type", self.switch)
        self.create_subscription(TwistStamped, "servo_node/delta_twist_cmds", self.twist, 10)
        ActionServer(self, GripperCommand, "gripper/gripper_cmd", self.grip)
        ActionServer(self, ParallelGripperCommand, "parallel/gripper_cmd", self.grip_parallel)
        ActionServer(self, GripperCommand, "slow/gripper_cmd", self.travel, cancel_callback=self.cancel)
        self.canceled: Future = Future()

    def say(self, text: str) -> None:
        self.told.publish(String(data=text))

    def switch(self, request: Any, response: Any) -> Any:
        self.command_type = request.command_type
        self.say(f"switch {request.command_type}")
        response.success = True
        return response

    def twist(self, message: TwistStamped) -> None:
        stamped = message.header.stamp.sec > 0
        moving = message.twist.linear.x > 0.0
        if self.command_type != ServoCommandType.Request.TWIST:
            self.say("twist ignored")
        elif moving and stamped and not self.followed:
            self.followed = True
            self.say(f"twist followed in {message.header.frame_id}")

    def grip(self, handle: Any) -> Any:
        command = handle.request.command
        self.say(f"grip {command.position:g} {command.max_effort:g}")
        handle.succeed()
        return GripperCommand.Result(reached_goal=True)

    async def travel(self, handle: Any) -> Any:
        """On its way until it is canceled."""
        command = handle.request.command
        self.say(f"travel {command.position:.3f} {command.max_effort:g}")
        self.canceled = Future(executor=self.executor)
        await self.canceled
        handle.canceled()
        return GripperCommand.Result()

    def cancel(self, _: Any) -> CancelResponse:
        self.say("cancel")
        self.canceled.set_result(None)
        return CancelResponse.ACCEPT

    def grip_parallel(self, handle: Any) -> Any:
        command = handle.request.command
        self.say(f"parallel {list(command.name)} {list(command.position)} {list(command.effort)}")
        handle.succeed()
        return ParallelGripperCommand.Result(reached_goal=True)


def main() -> int:
    rclpy.init()
    try:
        rclpy.spin(Servers())
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    return 0


if __name__ == "__main__":
    sys.exit(main())
