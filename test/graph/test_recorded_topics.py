"""A recorder of a robot with names of its own: what is under them is in the bag, what is missing is told, dry runs are
marked."""

from __future__ import annotations

import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from trajectory_msgs.msg import JointTrajectory

from qt_ros.cli.processes import NodeGroup
from qt_ros.episodes.bag import is_complete, read_raw
from qt_ros.episodes.bag_metadata import DRY_RUN, read_metadata
from qt_ros.msg import CommandStatus, EpisodeStatus, PolicyAction
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.lifecycle import LATCHED
from qt_ros.srv import SetOutcome

WAIT = 60.0
ARM = "arm_0_joint_trajectory_controller/joint_trajectory"


class Robot(GraphClient):
    """Publishes what a robot and command_node would."""

    def __init__(self, check: Callable[[], None]) -> None:
        super().__init__(check, "robot")
        self.status = self.node.create_publisher(EpisodeStatus, "episode_status", LATCHED)
        self.service = self.node.create_client(SetOutcome, "set_outcome")
        self.commands = self.node.create_publisher(CommandStatus, "command_status", 10)

    def offer(self, kind: Any, topic: str) -> Any:
        """A publisher that the recorder listens to."""
        publisher = self.node.create_publisher(kind, topic, 10)
        self.wait_for_links([("robot", topic, "recorder_node")], WAIT)
        return publisher

    def episode(self, episode_id: str, log: Path, *messages: tuple[Any, Any], dry_run: bool | None = None) -> Path:
        """Record ``messages`` (publisher, message), and what command_node says, in one episode; its bag."""
        self.status.publish(EpisodeStatus(episode_id=episode_id, state=EpisodeStatus.STATE_RUNNING))
        self.wait(lambda: list((log / episode_id).glob("*.mcap")), WAIT, "the bag to be opened")
        for publisher, message in messages:
            publisher.publish(message)
        if dry_run is not None:
            self.commands.publish(CommandStatus(episode_id=episode_id, dry_run=dry_run))
        # A question that is answered after all of this has been taken, sooner than messages are acknowledged.
        self.call(self.service, SetOutcome.Request(episode_id=episode_id, outcome=99), WAIT, "the recorder")
        self.status.publish(
            EpisodeStatus(episode_id=episode_id, state=EpisodeStatus.STATE_ENDED, reason=EpisodeStatus.REASON_OPERATOR)
        )
        return Path(self.record(episode_id, WAIT).uri)


def running(episode_id: str, start: int, stamp: int) -> EpisodeStatus:
    """What the policy says at ``stamp`` of an episode that began at ``start`` (s)."""
    status = EpisodeStatus(episode_id=episode_id, state=EpisodeStatus.STATE_RUNNING)
    status.start.sec, status.header.stamp.sec = start, stamp
    return status


def recorded(bag: Path) -> dict[str, int]:
    return {t.name: t.message_count for t in read_metadata(bag).topics if t.message_count}


def test_topics_of_other_names_and_dry_runs(ros_domain_id: int, tmp_path: Path) -> None:
    names = {"robot": "husky_ur5e", "odometry_topic": "platform/odom", "trajectory_topic": ARM}
    patience = {"outcome_timeout": 0.0, "silence_timeout": 3600.0}
    with NodeGroup(tmp_path / "logs").running() as group:
        recorder = group.start("recorder_node", {**names, "root": str(tmp_path / "bags"), **patience})
        robot = Robot(group.check)
        try:
            links = [("robot", topic, "recorder_node") for topic in ("episode_status", "command_status")]
            robot.wait_for_links([*links, ("recorder_node", "episode_record", "robot")], WAIT)
            odometry = robot.offer(Odometry, "platform/odom"), Odometry()
            quiet = robot.episode("quiet", tmp_path / "bags", odometry)
            assert recorded(quiet)["/platform/odom"] == 1
            assert DRY_RUN not in read_metadata(quiet).custom_data, "command_node has said nothing"
            told = [line for line in recorder.tail(100).splitlines() if "nobody publishes" in line]
            assert len(told) == 2 and "/platform/joint_states:" in told[1] and f"/{ARM}:" in told[0], told

            arm = robot.offer(JointTrajectory, ARM), JointTrajectory()
            real = robot.episode("real", tmp_path / "bags", odometry, arm, dry_run=False)
            assert recorded(real)[f"/{ARM}"] == 1 and read_metadata(real).custom_data[DRY_RUN] == "false"

            shown = robot.offer(TwistStamped, "command_node/dry_run/arm"), TwistStamped()
            grip = robot.offer(JointTrajectory, "command_node/dry_run/gripper"), JointTrajectory()
            dry = robot.episode("dry", tmp_path / "bags", shown, grip, dry_run=True)
            assert read_metadata(dry).custom_data[DRY_RUN] == "true"
            assert {f"/command_node/dry_run/{name}" for name in ("arm", "gripper")} <= set(recorded(dry))
            assert sum("nobody publishes" in line for line in recorder.tail(100).splitlines()) == 2, "told once"
        finally:
            robot.close()


def test_an_action_that_is_read_before_its_episode_begins_is_in_its_bag_and_in_no_other(
    ros_domain_id: int, tmp_path: Path
) -> None:
    def first_action(episode_id: str) -> None:
        actions.publish(PolicyAction(episode_id=episode_id, step=0))
        # Answered after it has been taken: the status comes only then, as if it had been read in the other order.
        robot.call(robot.service, SetOutcome.Request(episode_id=episode_id, outcome=99), WAIT, "the recorder")

    bags = tmp_path / "bags"
    with NodeGroup(tmp_path / "logs").running() as group:
        group.start("recorder_node", {"root": str(bags), "outcome_timeout": 0.0, "silence_timeout": 3600.0})
        robot = Robot(group.check)
        try:
            actions = robot.offer(PolicyAction, "policy_action")
            links = [("robot", "episode_status", "recorder_node"), ("recorder_node", "episode_record", "robot")]
            robot.wait_for_links(links, WAIT)
            first_action("never begun")
            first_action("one")
            one = robot.episode("one", bags, (actions, PolicyAction(episode_id="one", step=1)))
            first_action("two")
            two = robot.episode("two", bags)
            found = {bag.name: [(m.episode_id, m.step) for m in decoded(bag)] for bag in (one, two)}
            assert found == {"one": [("one", 0), ("one", 1)], "two": [("two", 0)]}
        finally:
            robot.close()


def decoded(bag: Path) -> list[Any]:
    return [raw.decode() for raw in read_raw(bag, ["/policy_action"])]


def test_a_recorder_that_comes_in_mid_episode_leaves_the_bag_of_the_one_before_alone(
    ros_domain_id: int, tmp_path: Path
) -> None:
    bags, patience = tmp_path / "bags", {"outcome_timeout": 0.0, "silence_timeout": 3600.0}
    with NodeGroup(tmp_path / "logs").running() as group:
        robot = Robot(group.check)
        try:
            links = [("robot", "episode_status", "recorder_node"), ("recorder_node", "episode_record", "robot")]
            first = group.start("recorder_node", {"root": str(bags), **patience})
            robot.wait_for_links(links, WAIT)
            robot.status.publish(running("long", 10, 10))
            robot.status.publish(running("long", 10, 11))
            robot.wait(lambda: list((bags / "long").glob("*.mcap")), WAIT, "the bag to be opened")
            group.nodes.remove(first)
            first.process.send_signal(signal.SIGINT)
            first.process.wait(WAIT)
            before = robot.record("long", WAIT)
            assert "stopped in mid-episode" in before.error and is_complete(bags / "long")

            second = group.start("recorder_node", {"root": str(bags), **patience})
            robot.wait(
                lambda: "the rest of it is not recorded" in second.tail(100), WAIT, "the latched status to be heard"
            )
            robot.wait_for_links(links, WAIT)
            for stamp in (12, 13, 14):
                robot.status.publish(running("long", 10, stamp))
            after = robot.episode("next", bags)
            assert is_complete(after)
            assert second.tail(100).count("the rest of it is not recorded") == 1, "told once"
            assert robot.record("long", WAIT).error == before.error, "nothing else was said of it"
            robot.status.publish(running("next", 20, 20))  # begins anew under a name that was used
            robot.wait(lambda: "never overwritten" in second.tail(100), WAIT, "the refusal")
        finally:
            robot.close()
