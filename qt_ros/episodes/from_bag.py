"""A recorded bag becomes an Episode: the same alignment, codecs, resize and proprioception as live.

Every PolicyAction names the stamp of the image it was decided from, so images are matched exactly; joint states are
taken as of that stamp (newest at or before it, not older than the contract allows).
"""

from __future__ import annotations

import logging
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract import codecs
from qt_ros.contract.observations import Proprioception, newest_positions, resize_rgb
from qt_ros.contract.robot import ObservationSpec, RobotContract, parse_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import read_metadata, read_raw
from qt_ros.episodes.bag_metadata import BagError, BagMetadata
from qt_ros.episodes.bag_story import NOT_EXECUTED, Joints, first_pass, resolve_topic
from qt_ros.episodes.episode import Episode, InvalidEpisode, is_terminal, outcome_name, reason_name

log = logging.getLogger(__name__)


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
    refused, since the transition across it never happened. So is a dry run, by its metadata or its command_status; an
    episode that command_node never followed, or that nobody can tell it of, is warned about (older bags have no word).
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
        story, episode_id, joints = first_pass(uri, metadata, present, contract, namespace)
        steps = _consecutive(uri, story.actions, contract)
        stamps = [codecs.stamp_to_ns(a.observation_stamp) for a in steps]
        images = _images(uri, contract.observation("image"), present, namespace, set(stamps), image_size)
        proprio = _proprio(contract, joints, stamps, proprioception or Proprioception(contract))
    except (codecs.MalformedImage, codecs.UnsupportedEncoding, codecs.MalformedJointState, ConfigError) as error:
        raise BagError(f"{uri}: {error}") from error
    if doubt := story.doubt:
        log.warning("%s: %s", uri, doubt)
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


def _consecutive(uri: Path, actions: list[Any], contract: RobotContract) -> list[Any]:
    """``actions`` if they are whole: one per step, in the contract's action space."""
    names = contract.action_space.names
    if late := actions[0].step:
        log.warning("%s: its first %d steps were not recorded; the recorder heard of the episode only then", uri, late)
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
    contract: RobotContract, joints: list[Joints], stamps: list[int], proprioception: Proprioception
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
