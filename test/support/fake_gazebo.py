"""What gazebo_node sees of Gazebo: poses and joint states on topics, controllers, and the command `gz service`.

No physics: joints are where they were last sent, entities where they were last put.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from geometry_msgs.msg import PoseStamped
from rclpy.qos import QoSProfile
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory

from qt_ros.contract.robot import load_contract
from qt_ros.sim.gazebo import ROBOT_ENTITY
from qt_ros.sim.scene import kitchen_path
from qt_ros.sim.sdf import read_sdf

OBJECTS = [model.name for model in read_sdf(kitchen_path()).models if model.free]
SCRIPT = """#!{python}
import json, os, re, sys
request = sys.argv[sys.argv.index("--req") + 1]
poses = dict()
for part in request.split("pose {{")[1:]:
    values = [float(v) for v in re.findall(r"[xyzw]: (-?[0-9.]+)", part)]
    poses[re.search(r'name: "([^"]+)"', part).group(1)] = values
path = {path!r}
with open(path + ".part", "w") as file:
    json.dump({{"service": sys.argv[sys.argv.index("-s") + 1], "poses": poses}}, file)
os.replace(path + ".part", path)
print("data: true")
"""


def install_gz(folder: Path) -> Path:
    """A program `gz` in ``folder`` that hands requests over to `FakeGazebo`; returns the file it writes them to."""
    requests = folder / "request.json"
    program = folder / "gz"
    program.write_text(SCRIPT.format(python=sys.executable, path=str(requests)))
    program.chmod(0o755)
    return requests


class FakeGazebo:
    """Lives on ``node``; publishes at 50 Hz of the wall clock for as long as ``told`` names the entity."""

    def __init__(self, node: Any, requests: Path) -> None:
        self.node, self.requests = node, requests
        contract = load_contract("mobile_manipulator")
        spec = contract.kinematics
        # As the description's initial values have it, the lift is up from the first message on.
        self.joints = {name: spec.home[name] if name in spec.carriers else 0.0 for name in spec.home}
        self.entities: dict[str, list[float]] = {
            name: [-3.0, float(i), 0.5, 0.0, 0.0, 0.0, 1.0] for i, name in enumerate((ROBOT_ENTITY, *OBJECTS))
        }
        self.told = set(self.entities)
        self.services: list[str] = []
        self._poses = {
            n: node.create_publisher(PoseStamped, f"entities/{n}/pose", QoSProfile(depth=10)) for n in self.entities
        }
        self._joints_out = node.create_publisher(JointState, "joint_states", QoSProfile(depth=10))
        for topic in ("arm_controller/joint_trajectory", "gripper_controller/joint_trajectory"):
            node.create_subscription(JointTrajectory, topic, self._on_trajectory, 1)
        node.create_timer(0.02, self._tick)

    def _on_trajectory(self, message: JointTrajectory) -> None:
        self.joints.update(zip(message.joint_names, message.points[-1].positions, strict=True))

    def _tick(self) -> None:
        if self.requests.exists():
            request = json.loads(self.requests.read_text())
            os.unlink(self.requests)
            self.services.append(request["service"])
            self.entities.update(request["poses"])
        stamp = self.node.get_clock().now().to_msg()
        for name in self.told:
            message = PoseStamped()
            message.header.stamp = stamp
            p, q = message.pose.position, message.pose.orientation
            p.x, p.y, p.z, q.x, q.y, q.z, q.w = self.entities[name]
            self._poses[name].publish(message)
        states = JointState(name=list(self.joints), position=list(self.joints.values()))
        states.header.stamp = stamp
        self._joints_out.publish(states)
