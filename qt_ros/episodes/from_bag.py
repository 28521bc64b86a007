"""A recorded bag becomes an Episode: the same alignment, codecs, resize and proprioception as live.

Every PolicyAction names the stamp of the image it was decided from, so images are matched exactly; joint states are
taken as of that stamp (newest at or before it, not older than the contract allows).
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract import codecs
from qt_ros.contract.observations import Proprioception, newest_positions, observed_joints, resize_rgb
from qt_ros.contract.robot import ObservationSpec, RobotContract, parse_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import read_metadata, read_raw
from qt_ros.episodes.bag_metadata import BagError, BagMetadata
from qt_ros.episodes.episode import Episode, InvalidEpisode, is_terminal, outcome_name, reason_name

log = logging.getLogger(__name__)

POLICY_ACTION, EPISODE_STATUS, EPISODE_OUTCOME = "policy_action", "episode_status", "episode_outcome"
COMMAND_STATUS = "command_status"
NOT_EXECUTED = "a dry run: none of its actions was executed, so there is nothing to learn from them"
_STATE_ENDED = 2
_Joints = tuple[int, dict[str, float]]
"""Stamp (ns) and positions of one joint state."""


@dataclass
class _Story:
    """What the topics about one episode say."""

    actions: list[Any] = field(default_factory=list)
    outcome: int = 0
    reason: int = 0
    dry_run: bool = False


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


def episode_from_bag(
    uri: str | Path,
    contract: RobotContract,
    image_size: tuple[int, int] = (96, 128),
    *,
    namespace: str | None = None,
    source: str | None = None,
    proprioception: Proprioception | None = None,
    allow_other_contract: bool = False,
) -> Episode:
    """The episode recorded in the bag ``uri``, with images of ``image_size`` (height, width).

    Rewards are 0 but for 1 at the last step of a success; an unknown outcome gives neither reward nor a terminal step.
    Steps at the beginning whose image or joint state was not recorded are left out (logged); a hole later on is
    refused, since the transition across it never happened. So is a dry run, by its metadata or its command_status.
    ``proprioception`` may be passed to share its model among many bags. Raises BagError (incomplete bag, other contract
    or action space, missing topics, holes, undecodable messages) naming the bag.
    """
    try:
        return _episode_from_bag(
            Path(uri), contract, image_size, namespace, source, proprioception, allow_other_contract
        )
    except BagError:
        raise
    except (ArithmeticError, AttributeError, LookupError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        # The bag brings its own message definitions: what is called PolicyAction there need not be one.
        raise BagError(f"{uri}: its messages are not what their names say ({error!r:.300})") from error


def _episode_from_bag(
    uri: Path,
    contract: RobotContract,
    image_size: tuple[int, int],
    namespace: str | None,
    source: str | None,
    proprioception: Proprioception | None,
    allow_other_contract: bool,
) -> Episode:
    metadata = read_metadata(uri)
    if metadata.custom_data.get(keys.DRY_RUN) == "true":
        raise BagError(f"{uri}: {NOT_EXECUTED}")
    _require_contract(uri, metadata, contract, allow_other_contract)
    present = [t.name for t in metadata.topics if t.message_count]
    if proprioception is None:
        contract = described(uri, contract, present, namespace)
    try:
        story, episode_id, joints = _first_pass(uri, metadata, present, contract, namespace)
        steps = _consecutive(uri, story.actions, contract)
        stamps = [codecs.stamp_to_ns(a.observation_stamp) for a in steps]
        images = _images(uri, contract.observation("image"), present, namespace, set(stamps), image_size)
        proprio = _proprio(contract, joints, stamps, proprioception or Proprioception(contract))
    except (codecs.MalformedImage, codecs.UnsupportedEncoding, codecs.MalformedJointState, ConfigError) as error:
        raise BagError(f"{uri}: {error}") from error
    first = _first_complete(uri, stamps, images, proprio)
    steps, stamps = steps[first:], stamps[first:]

    custom = metadata.custom_data
    outcome = custom.get(keys.OUTCOME, "unknown")
    if outcome == "unknown" and keys.LABELLED_BY not in custom:  # nobody said that it is not known
        outcome = outcome_name(story.outcome)
    reason = custom.get(keys.REASON) or "none"
    if reason in ("none", "fault") and story.reason:  # the recorder was not told, or was killed; the policy said why
        reason = reason_name(story.reason)
    space = contract.action_space
    values = np.array([a.values for a in steps], dtype=np.float64)
    bins = _bins(uri, steps, values, contract)
    q = np.array([a.q for a in steps], dtype=np.float32) if all(len(a.q) == space.size for a in steps) else None
    rewards = np.zeros(len(steps), np.float32)
    rewards[-1] = float(outcome == "success")
    episode = Episode(
        episode_id=episode_id,
        instruction=custom.get(keys.INSTRUCTION) or steps[0].instruction,
        task=custom.get(keys.TASK, ""),
        images=np.stack([images[s] for s in stamps]),
        proprio=np.stack([proprio[s] for s in stamps]),
        actions=values.astype(np.float32),
        bins=bins.astype(np.int16),
        rewards=rewards,
        terminated=outcome != "unknown" and is_terminal(outcome, reason),
        outcome=outcome,
        reason=reason,
        source=source or custom.get(keys.SOURCE) or "autonomous",
        seed=_seed(uri, custom),
        stamps=np.array([s * 1e-9 for s in stamps]),
        contract_sha256=contract.sha256,
        action_space_sha256=space.sha256,
        checkpoint=custom.get(keys.CHECKPOINT, steps[0].checkpoint),
        q_values=q,
    )
    try:
        episode.validate()
    except InvalidEpisode as error:
        raise BagError(f"{uri}: {error}") from error
    return episode


def described(
    uri: Path, contract: RobotContract, present: Iterable[str] | None = None, namespace: str | None = None
) -> RobotContract:
    """``contract`` with the robot's description from the bag, where it comes from a topic; BagError without one."""
    if not contract.description_topic or contract.urdf_text:
        return contract
    names = present if present is not None else [t.name for t in read_metadata(uri).topics if t.message_count]
    topic = resolve_topic(contract.description_topic, names, namespace)
    for raw in read_raw(uri, [topic]) if topic is not None else ():
        return contract.with_description(codecs.decode_text(raw.decode()))
    raise BagError(
        f"{uri}: no robot description on {contract.description_topic}; record it, or set description to a file"
    )


def _require_contract(uri: Path, metadata: BagMetadata, contract: RobotContract, allow_other: bool) -> None:
    custom = metadata.custom_data
    space = custom.get(keys.ACTION_SPACE_SHA256)
    if space is None and keys.CONTRACT_YAML in custom:
        space = parse_contract(custom[keys.CONTRACT_YAML], f"{uri}: contract").action_space.sha256
    if space is not None and space != contract.action_space.sha256:
        raise BagError(f"{uri}: recorded with action space {space[:12]}, not {contract.action_space.sha256[:12]}")
    recorded = custom.get(keys.CONTRACT_SHA256)
    if recorded is not None and recorded != contract.sha256 and not allow_other:
        raise BagError(
            f"{uri}: recorded with contract {recorded[:12]}, not {contract.sha256[:12]} of robot {contract.robot}; "
            f"allow another contract if the change does not matter for the data"
        )


def _first_pass(
    uri: Path, metadata: BagMetadata, present: list[str], contract: RobotContract, namespace: str | None
) -> tuple[_Story, str, list[_Joints]]:
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
    command_topic = None
    if keys.DRY_RUN not in metadata.custom_data:  # an older recorder, or it was killed: command_node itself says it
        spoken = [t.name for t in metadata.topics if t.message_count and t.type == "qt_ros/msg/CommandStatus"]
        command_topic = resolve_topic(COMMAND_STATUS, spoken, namespace)
    wanted = [t for t in (action_topic, joint_topic, status_topic, outcome_topic, command_topic) if t is not None]
    stories: dict[str, _Story] = {}
    joints: list[_Joints] = []
    for raw in read_raw(uri, wanted):
        if raw.topic == command_topic:
            try:
                status = raw.decode()
            except BagError as error:
                log.warning("%s: a command_status is ignored, it may have been a dry run: %s", uri, error)
                continue
            if getattr(status, "dry_run", False) is True:  # older ones do not have it
                stories.setdefault(getattr(status, "episode_id", ""), _Story()).dry_run = True
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
        story = stories.setdefault(message.episode_id, _Story())
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
    if story.dry_run:
        raise BagError(f"{uri}: {NOT_EXECUTED}")
    # The neutral stop at the end is no decision: it has no Q in a policy's episode, and no bins in a person's.
    for field_ in ("q", "bins"):
        if any(len(getattr(a, field_)) for a in story.actions):
            story.actions = [a for a in story.actions if len(getattr(a, field_))]
    story.actions.sort(key=lambda a: a.step)
    joints.sort(key=lambda j: j[0])
    return story, episode_id, joints


def _consecutive(uri: Path, actions: list[Any], contract: RobotContract) -> list[Any]:
    """``actions`` if they are whole: one per step, in the contract's action space."""
    names = contract.action_space.names
    if late := actions[0].step:
        log.warning("%s: its first %d steps were not recorded; was the recorder started late?", uri, late)
    for before, action in zip(actions, actions[1:]):
        if action.step == before.step:
            raise BagError(f"{uri}: the action of step {action.step} was recorded twice")
        if action.step != before.step + 1:
            raise BagError(f"{uri}: the actions of steps {before.step + 1} to {action.step - 1} were not recorded")
    for action in actions:
        if tuple(action.names) != names or len(action.values) != len(names):
            raise BagError(f"{uri}: step {action.step} has actions {', '.join(action.names)}, not {', '.join(names)}")
    return actions


def _bins(uri: Path, steps: list[Any], values: NDArray[np.float64], contract: RobotContract) -> NDArray[np.int64]:
    """Bins (T, D) of the commanded values; where the messages name bins too, they must be the same."""
    try:
        bins = contract.action_space.encode(values)
    except ValueError as error:
        raise BagError(f"{uri}: {error}") from error
    for action, ours in zip(steps, bins, strict=True):
        if len(action.bins) and list(action.bins) != ours.tolist():
            raise BagError(
                f"{uri}: step {action.step} says bins {list(action.bins)}, but its values are in bins {ours.tolist()}; "
                f"was it made with another action space?"
            )
    return bins


def _images(
    uri: Path,
    spec: ObservationSpec,
    present: list[str],
    namespace: str | None,
    stamps: set[int],
    size: tuple[int, int],
) -> dict[int, NDArray[np.uint8]]:
    """Image of policy size for every stamp that was recorded."""
    topic = resolve_topic(spec.topic, present, namespace)
    if topic is None:
        topic = resolve_topic(f"{spec.topic}/compressed", present, namespace)
        if topic is None:
            raise BagError(f"{uri}: no message on {spec.topic}")
        log.warning("%s: only %s was recorded; its pixels may differ from what the policy saw", uri, topic)
    found: dict[int, NDArray[np.uint8]] = {}
    for raw in read_raw(uri, [topic]):
        stamp = raw.stamp_ns
        if stamp is not None and stamp in stamps and stamp not in found:
            image = codecs.decode_image(raw.decode())
            codecs.check_image_size(image, spec.height, spec.width, spec.name)
            found[stamp] = resize_rgb(image, *size)
    return found


def _proprio(
    contract: RobotContract, joints: list[_Joints], stamps: list[int], proprioception: Proprioception
) -> dict[int, NDArray[np.float32]]:
    """Proprioception as of every stamp for which a joint state young enough was recorded."""
    max_age = round(contract.observation("joint_state").max_age * 1e9)
    known = (*proprioception.joints, *proprioception.optional_joints)
    times = [t for t, _ in joints]
    result: dict[int, NDArray[np.float32]] = {}
    for stamp in stamps:
        past = (joints[i] for i in range(bisect_right(times, stamp) - 1, -1, -1))
        positions = newest_positions(past, known, stamp - max_age)
        if all(j in positions for j in proprioception.joints):
            result[stamp] = proprioception.encode(positions)
    return result


def _first_complete(uri: Path, stamps: list[int], images: Mapping[int, Any], proprio: Mapping[int, Any]) -> int:
    """Index of the first step from which on nothing is missing but at the beginning."""
    missing = [i for i, s in enumerate(stamps) if s not in images or s not in proprio]
    first = next(i for i, step in enumerate([*missing, -1]) if step != i)
    for step in missing[first:]:
        what = "image" if stamps[step] not in images else "joint state"
        raise BagError(f"{uri}: the {what} of step {step} (stamp {stamps[step]} ns) was not recorded")
    if first == len(stamps):
        raise BagError(f"{uri}: not one of its {len(stamps)} steps has both its image and a joint state")
    if first:
        log.warning("%s: the first %d of %d steps are left out: not recorded completely", uri, first, len(stamps))
    return first


def _seed(uri: Path, custom: Mapping[str, str]) -> int | None:
    text = custom.get(keys.SEED, "")
    try:
        return int(text) if text else None
    except ValueError as error:
        raise BagError(f"{uri}: {keys.SEED} is {text!r}, not a whole number") from error
