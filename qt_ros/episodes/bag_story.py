"""What the messages of a bag say about its episode, but for the images: actions, their execution, the end, joints."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract import codecs
from qt_ros.contract.observations import observed_joints
from qt_ros.contract.robot import RobotContract
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import read_raw
from qt_ros.episodes.bag_metadata import BagError, BagMetadata

log = logging.getLogger(__name__)

POLICY_ACTION, EPISODE_STATUS, EPISODE_OUTCOME = "policy_action", "episode_status", "episode_outcome"
COMMAND_STATUS = "command_status"
COMMAND_STATUS_TYPE = "qt_ros/msg/CommandStatus"
NOT_EXECUTED = "a dry run: none of its actions was executed, so there is nothing to learn from them"
NEVER_FOLLOWED = "command_node never said that it moved the robot in this episode: its actions may not be executed ones"
NOBODY_SAID = "no command_status: nobody says whether its actions were executed"
STATE_MOVING, _STATE_ENDED = 1, 2
Joints = tuple[int, dict[str, float]]
"""Stamp (ns) and positions of one joint state."""


@dataclass
class Story:
    """What the topics about one episode say."""

    actions: list[Any] = field(default_factory=list)
    outcome: int = 0
    reason: int = 0
    dry_run: bool = False
    commands: int = 0
    """Messages of command_status in the whole bag; those about other episodes count too."""
    moved: bool = False
    """Whether command_node said that it followed this episode."""

    @property
    def doubt(self) -> str:
        """Why the actions may not have been executed; '' where command_node said that it followed them."""
        return doubt(self.commands, self.moved)


def doubt(commands: int, moved: bool) -> str:
    """Why the actions of an episode may not have been executed: ``commands`` messages of command_status in its bag,
    one of them MOVING in this episode if ``moved``. '' if there is no reason."""
    if moved:
        return ""
    return NEVER_FOLLOWED if commands else NOBODY_SAID


def resolve_topic(relative: str, present: Iterable[str], namespace: str | None = None) -> str | None:
    """The absolute topic of a bag that stands for ``relative`` of the contract; None when there is none.

    With ``namespace`` exactly ``/<namespace>/<relative>``; without, the one topic that ends in it. Raises BagError when
    several robots' topics fit.
    """
    if relative.startswith("/"):
        return relative if relative in present else None
    if namespace is not None:
        wanted = "/" + "/".join(p for p in (namespace.strip("/"), relative) if p)
        return wanted if wanted in present else None
    fitting = sorted(t for t in present if t == relative or t.endswith(f"/{relative}"))
    if len(fitting) > 1:
        raise BagError(f"topics {', '.join(fitting)} all fit {relative!r}; say which robot's with the namespace option")
    return fitting[0] if fitting else None


def first_pass(
    uri: Path, metadata: BagMetadata, present: list[str], contract: RobotContract, namespace: str | None
) -> tuple[Story, str, list[Joints]]:
    """Everything but the images: actions in order of step, outcome and reason, the episode's id, and joint states."""
    action_topic = resolve_topic(POLICY_ACTION, present, namespace)
    if action_topic is None:
        raise BagError(f"{uri}: no message on {POLICY_ACTION}: no policy acted in this bag")
    joint_spec = contract.observation("joint_state")
    joint_topic = resolve_topic(joint_spec.topic, present, namespace)
    if joint_topic is None:
        raise BagError(f"{uri}: no message on {joint_spec.topic}")
    status_topic = resolve_topic(EPISODE_STATUS, present, namespace)
    outcome_topic = resolve_topic(EPISODE_OUTCOME, present, namespace)
    needed, optional = observed_joints(contract)
    known = (*needed, *optional)
    spoken = [t.name for t in metadata.topics if t.message_count and t.type == COMMAND_STATUS_TYPE]
    beside = action_topic.removesuffix(POLICY_ACTION) + COMMAND_STATUS  # where several robots have one, it is this
    command_topic = beside if beside in spoken else resolve_topic(COMMAND_STATUS, spoken, namespace)
    # Else an older recorder, or it was killed: command_node itself says it, at the latest in its last message.
    known_dry_run, named = keys.DRY_RUN in metadata.custom_data, metadata.custom_data.get(keys.EPISODE_ID, "")
    commands = 0
    wanted = [t for t in (action_topic, joint_topic, status_topic, outcome_topic, command_topic) if t is not None]
    stories: dict[str, Story] = {}
    joints: list[Joints] = []
    for raw in read_raw(uri, wanted):
        if raw.topic == command_topic:
            commands += 1
            if known_dry_run and named in stories and stories[named].moved:
                continue  # there is nothing more to learn from it
            try:
                status = raw.decode()
            except BagError as error:
                log.warning("%s: a command_status is ignored, it may have been a dry run: %s", uri, error)
                continue
            about = stories.setdefault(getattr(status, "episode_id", ""), Story())
            about.moved = about.moved or getattr(status, "state", None) == STATE_MOVING
            if not known_dry_run and getattr(status, "dry_run", False) is True:  # older ones do not have it
                about.dry_run = True
            continue
        message = raw.decode()
        if raw.topic == joint_topic:
            try:
                positions = codecs.decode_joint_positions(message, known)
            except codecs.NonFiniteObservation as error:
                # The live policy refuses it just the same, and stops if no better one comes in time.
                log.warning("%s: a joint state is ignored: %s", uri, error)
                continue
            joints.append((codecs.stamp_to_ns(message.header.stamp), positions))
            continue
        story = stories.setdefault(message.episode_id, Story())
        if raw.topic == action_topic:
            story.actions.append(message)
        elif raw.topic == outcome_topic:
            story.outcome = int(message.outcome)
        elif message.state == _STATE_ENDED:
            story.reason = int(message.reason)
            story.outcome = story.outcome or int(message.outcome)
    acted = [i for i, s in stories.items() if s.actions]
    episode_id = metadata.custom_data.get(keys.EPISODE_ID) or (acted[0] if len(acted) == 1 else "")
    if episode_id not in acted:
        found = ", ".join(acted) or "none"
        raise BagError(f"{uri}: no actions of episode {episode_id or '(not named)'}; episodes with actions: {found}")
    story = stories[episode_id]
    story.commands = commands
    if story.dry_run:
        raise BagError(f"{uri}: {NOT_EXECUTED}")
    # The neutral stop at the end is no decision: it has no Q in a policy's episode, and no bins in a person's.
    for field_ in ("q", "bins"):
        if any(len(getattr(a, field_)) for a in story.actions):
            story.actions = [a for a in story.actions if len(getattr(a, field_))]
    story.actions.sort(key=lambda a: a.step)
    joints.sort(key=lambda j: j[0])
    return story, episode_id, joints
