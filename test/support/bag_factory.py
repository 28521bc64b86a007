"""Makes bags of small episodes out of real ROS messages, as a recorder would have seen them."""

from __future__ import annotations

import array
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from builtin_interfaces.msg import Time
from rclpy.serialization import serialize_message
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Header

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag_metadata import BagMetadata
from qt_ros.episodes.bag_writer import BagTopic, EpisodeBagWriter
from qt_ros.msg import EpisodeStatus, PolicyAction

BEGIN = 1_700_000_000_000_000_000
FRAMES_PER_STEP = 3
FRAME_NS = 66_666_667
LATENCY_NS = 80_000_000


class Said(NamedTuple):
    """One message of an episode: when it was received (ns), on which topic (relative name), and what it says."""

    ns: int
    topic: str
    message: Any


def time_of(ns: int) -> Time:
    return Time(sec=ns // 10**9, nanosec=ns % 10**9)


def camera_frame(contract: RobotContract, ns: int, number: int) -> Image:
    """A full-size frame whose content depends on ``number`` only."""
    spec = contract.observation("image")
    rng = np.random.default_rng(number)
    coarse = rng.integers(0, 256, (spec.height // 16, spec.width // 16, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(coarse, 16, 0), 16, 1)
    message = Image(height=spec.height, width=spec.width, encoding="rgb8", step=3 * spec.width)
    message.header = Header(stamp=time_of(ns), frame_id=spec.frame)
    message.data = array.array("B", pixels.tobytes())
    return message


def joint_positions(contract: RobotContract, number: int) -> dict[str, float]:
    names = ("lift_joint", *contract.kinematics.arm_joints, contract.kinematics.gripper_joint)
    values = np.random.default_rng(1000 + number).uniform(-0.3, 0.3, len(names))
    return dict(zip(names, map(float, values)))


def joint_state(contract: RobotContract, ns: int, number: int) -> JointState:
    positions = joint_positions(contract, number)
    return JointState(
        header=Header(stamp=time_of(ns)),
        name=list(positions),
        position=list(positions.values()),
        velocity=[0.0] * len(positions),
        effort=[0.0] * len(positions),
    )


def policy_action(contract: RobotContract, episode_id: str, step: int, seen_ns: int) -> PolicyAction:
    space = contract.action_space
    bins = np.random.default_rng(2000 + step).integers(0, space.bins, space.size)
    return PolicyAction(
        header=Header(stamp=time_of(seen_ns + LATENCY_NS), frame_id="base_link"),
        observation_stamp=time_of(seen_ns),
        episode_id=episode_id,
        instruction="pick up the red cube",
        step=step,
        names=list(space.names),
        values=list(map(float, space.decode(bins))),
        bins=list(map(int, bins)),
        q=[0.25] * space.size,
        checkpoint="c0ffee",
    )


def episode(contract: RobotContract, episode_id: str = "episode-1", steps: int = 4, reason: int = 2) -> Iterator[Said]:
    """All messages of an episode in order of receipt: frames at 15 Hz, joints at 50 Hz, an action every third frame."""
    frames = [BEGIN + i * FRAME_NS for i in range(FRAMES_PER_STEP * steps)]
    said = [Said(ns + 2_000_000, "head_camera/image_raw", camera_frame(contract, ns, i)) for i, ns in enumerate(frames)]
    end = frames[-1] + 2 * LATENCY_NS
    for i, ns in enumerate(range(BEGIN - 50_000_000, end, 20_000_000)):
        said.append(Said(ns + 1_000_000, "joint_states", joint_state(contract, ns, i)))
    for step, ns in enumerate(frames[::FRAMES_PER_STEP]):
        said.append(Said(ns + LATENCY_NS, "policy_action", policy_action(contract, episode_id, step, ns)))
    for state, ns in ((EpisodeStatus.STATE_RUNNING, BEGIN), (EpisodeStatus.STATE_ENDED, end)):
        status = EpisodeStatus(header=Header(stamp=time_of(ns)), episode_id=episode_id, state=state)
        status.instruction = "pick up the red cube"
        status.reason = reason if state == EpisodeStatus.STATE_ENDED else 0
        said.append(Said(ns + 500_000, "episode_status", status))
    yield from sorted(said, key=lambda s: s.ns)


def type_name(message: Any) -> str:
    package, kind, _ = type(message).__module__.split(".", 2)
    return f"{package}/{kind}/{type(message).__name__}"


def custom_data(contract: RobotContract, episode_id: str = "episode-1", outcome: str = "success") -> dict[str, str]:
    """What a recorder notes about an episode."""
    return {
        keys.EPISODE_ID: episode_id,
        keys.INSTRUCTION: "pick up the red cube",
        keys.SOURCE: "autonomous",
        keys.SEED: "7",
        keys.OUTCOME: outcome,
        keys.REASON: "terminate",
        keys.CHECKPOINT: "c0ffee",
        keys.CONTRACT_SHA256: contract.sha256,
        keys.CONTRACT_YAML: contract.text,
        keys.ACTION_SPACE_SHA256: contract.action_space.sha256,
        keys.COMPLETE: "true",
    }


def write_bag(
    uri: Path,
    said: Iterator[Said] | list[Said],
    data: Mapping[str, str] | None = None,
    namespace: str = "",
    **options: Any,
) -> BagMetadata:
    """Write ``said`` into a bag with absolute topic names below ``namespace``."""
    writer = EpisodeBagWriter(uri, custom_data=data, **options)
    for entry in said:
        topic = f"/{namespace}/{entry.topic}" if namespace else f"/{entry.topic}"
        writer.add_topic(BagTopic.find(topic, type_name(entry.message)))
        writer.write(topic, serialize_message(entry.message), entry.ns, entry.ns)
    return writer.close()
