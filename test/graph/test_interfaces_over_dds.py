"""The package's own messages travel between two nodes over real DDS."""

from __future__ import annotations

import numpy as np
import pytest

rclpy = pytest.importorskip("rclpy")


def test_a_policy_action_arrives_with_every_field_unchanged(ros_context: object) -> None:
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.qos import QoSProfile

    from qt_ros.msg import PolicyAction

    latched = QoSProfile(depth=1, durability=rclpy.qos.DurabilityPolicy.TRANSIENT_LOCAL)
    node = rclpy.create_node("infra_test", context=ros_context)
    executor = SingleThreadedExecutor(context=ros_context)
    executor.add_node(node)
    sent = PolicyAction(episode_id="e1", instruction="pick the red cube", step=7, names=["dx", "dy"])
    sent.header.frame_id = "base_link"
    sent.values = np.array([0.01, -0.05])
    sent.bins = np.array([153, 0], dtype=np.uint16)
    sent.q = [0.5, 0.25]
    future = rclpy.task.Future()
    node.create_subscription(PolicyAction, "policy_action", future.set_result, latched)
    node.create_publisher(PolicyAction, "policy_action", latched).publish(sent)
    executor.spin_until_future_complete(future, timeout_sec=30.0)
    assert future.done(), "no message within 30 s"
    assert future.result() == sent
    node.destroy_node()
