"""A launch_testing test: sim.launch.py twice, in two namespaces. Run by test_launch_files.py, or by `launch_test`.

CHECKPOINT names the folder of the checkpoint that both robots act by.
"""

from __future__ import annotations

import os
import unittest
from pathlib import Path
from typing import Any

import launch_testing.actions
import launch_testing.asserts
from launch.actions import GroupAction, IncludeLaunchDescription
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource

from qt_ros.nodes.demo_client import GraphClient

ROBOTS = ("robot1", "robot2")
NODES = {"policy_node", "command_node", "servo_node", "recorder_node", "sim_node"}
SHARED = {"/rosout", "/parameter_events"}  # every ROS node has these
SIM = Path(__file__).resolve().parents[2] / "launch" / "sim.launch.py"


def generate_test_description() -> LaunchDescription:
    def robot(name: str) -> GroupAction:
        arguments = {"namespace": name, "checkpoint": os.environ["CHECKPOINT"], "real_time_factor": "1.0"}
        source = PythonLaunchDescriptionSource(str(SIM))
        return GroupAction([IncludeLaunchDescription(source, launch_arguments=arguments.items())])

    return LaunchDescription([*(robot(name) for name in ROBOTS), launch_testing.actions.ReadyToTest()])


class TwoRobots(unittest.TestCase):
    def test_each_runs_its_own_episode_and_shares_no_topic(self) -> None:
        clients: dict[str, Any] = {name: GraphClient(name="tester", namespace=name) for name in ROBOTS}
        try:
            for client in clients.values():
                for node in ("servo_node", "command_node", "policy_node"):
                    client.wait(lambda c=client, n=node: c.state(n) == 3, 300.0, f"{node} to be active")
            node = next(iter(clients.values())).node
            by_robot = {
                robot: {
                    topic
                    for name, namespace in node.get_node_names_and_namespaces()
                    if name in NODES and namespace == f"/{robot}"
                    for get in (node.get_publisher_names_and_types_by_node, node.get_subscriber_names_and_types_by_node)
                    for topic, _ in get(name, namespace)
                }
                for robot in ROBOTS
            }
            for robot, topics in by_robot.items():
                self.assertIn(f"/{robot}/clock", topics)
                self.assertIn(f"/{robot}/diagnostics", topics)
                self.assertEqual({t for t in topics if not t.startswith(f"/{robot}/")}, SHARED)
            scenes = {name: client.reset_scene(2_000_000 + i) for i, (name, client) in enumerate(clients.items())}
            for name, client in clients.items():
                client.send(scenes[name].instruction, f"of-{name}", 2.0)
            for name, client in clients.items():
                self.assertEqual(client.result().episode_id, f"of-{name}")
                record = client.record(f"of-{name}", 60.0)
                self.assertEqual(record.error, "")
                self.assertEqual(Path(record.uri), Path.cwd() / "bags" / name / f"of-{name}")
        finally:
            for client in clients.values():
                client.close()


@launch_testing.post_shutdown_test()
class AfterShutdown(unittest.TestCase):
    def test_every_process_ended_well(self, proc_info: Any) -> None:
        launch_testing.asserts.assertExitCodes(proc_info)
