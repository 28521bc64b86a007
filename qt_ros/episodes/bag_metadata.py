"""``metadata.yaml`` of a rosbag2 bag, version 9 (ROS 2 Jazzy), without ROS.

Layout: ``rosbag2_storage/include/rosbag2_storage/yaml.hpp`` of rosbag2. ``custom_data`` is a flat map of strings; the
keys of this project are the constants below.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import yaml

from qt_ros.contract.untrusted import Refused, load_yaml_text, read_bounded
from qt_ros.episodes.files import write_atomically
from qt_ros.episodes.labels import LABELS, Label, LabelError, in_order, read_labels

METADATA_FILE = "metadata.yaml"
VERSION = 9

EPISODE_ID = "qt_ros.episode_id"
INSTRUCTION = "qt_ros.instruction"
TASK = "qt_ros.task"
SOURCE = "qt_ros.source"
SEED = "qt_ros.seed"
OUTCOME = "qt_ros.outcome"
REASON = "qt_ros.termination_reason"
LABELLED_BY = "qt_ros.labelled_by"
LABELLED_AT = "qt_ros.labelled_at"
"""ISO 8601, UTC, of the machine that wrote it down."""
LABEL_COMMENT = "qt_ros.label_comment"
CHECKPOINT = "qt_ros.policy_checkpoint"
ROBOT = "qt_ros.robot"
CONTRACT_SHA256 = "qt_ros.contract_sha256"
CONTRACT_YAML = "qt_ros.contract_yaml"
ACTION_SPACE_SHA256 = "qt_ros.action_space_sha256"
DRY_RUN = "qt_ros.dry_run"
"""``true`` when command_node showed its commands and sent none; absent where nobody said so."""
COMPLETE = "qt_ros.complete"
"""``true`` when the recorder closed the bag itself and nothing failed."""
ERROR = "qt_ros.error"
COUNTS = "qt_ros.counts"
"""JSON: {topic: {"received": n, "written": n, "dropped": n}} as the recorder counted."""

# RMW_DURATION_INFINITE
_INFINITE = {"sec": 9223372036, "nsec": 854775807}


class BagError(ValueError):
    """A bag is missing, damaged, incomplete or does not fit; the message names it and says what to do."""


@dataclass(frozen=True)
class Qos:
    """Offered quality of service of a topic, in rosbag2's words; durations are infinite unless said otherwise."""

    reliability: str = "reliable"
    durability: str = "volatile"
    history: str = "keep_last"
    depth: int = 10
    liveliness: str = "automatic"
    deadline_ns: int | None = None
    lifespan_ns: int | None = None
    lease_ns: int | None = None

    @classmethod
    def of(cls, profile: Any) -> Qos:
        """From an rclpy QoSProfile (read by attribute names)."""

        def duration(value: Any) -> int | None:
            ns = None if value is None else int(value.nanoseconds)
            return ns if ns and ns < 2**63 - 1 else None

        return cls(
            reliability=profile.reliability.name.lower(),
            durability=profile.durability.name.lower(),
            history=profile.history.name.lower(),
            depth=int(profile.depth),
            liveliness=profile.liveliness.name.lower(),
            deadline_ns=duration(profile.deadline),
            lifespan_ns=duration(profile.lifespan),
            lease_ns=duration(profile.liveliness_lease_duration),
        )

    def document(self) -> dict[str, Any]:
        """The mapping rosbag2 writes."""

        def duration(ns: int | None) -> dict[str, int]:
            return dict(_INFINITE) if ns is None else {"sec": ns // 10**9, "nsec": ns % 10**9}

        return {
            "history": self.history,
            "depth": self.depth,
            "reliability": self.reliability,
            "durability": self.durability,
            "deadline": duration(self.deadline_ns),
            "lifespan": duration(self.lifespan_ns),
            "liveliness": self.liveliness,
            "liveliness_lease_duration": duration(self.lease_ns),
            "avoid_ros_namespace_conventions": False,
        }


def qos_text(profiles: tuple[Qos, ...]) -> str:
    """The YAML text of a channel's ``offered_qos_profiles`` metadata."""
    return _dump([q.document() for q in profiles])


def qos_mappings(found: Any) -> tuple[Mapping[str, Any], ...]:
    """What of a parsed ``offered_qos_profiles`` is profiles; strangers may have written anything."""
    return tuple(q for q in found if isinstance(q, dict)) if isinstance(found, list) else ()


@dataclass(frozen=True)
class TopicInfo:
    """One topic of a bag and how many messages of it there are; ``qos`` holds rosbag2's mappings as they are."""

    name: str
    type: str
    message_count: int
    type_hash: str = ""
    qos: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True)
class BagMetadata:
    """What ``metadata.yaml`` says. Times in nanoseconds."""

    files: tuple[str, ...]
    starting_time_ns: int
    duration_ns: int
    topics: tuple[TopicInfo, ...]
    custom_data: dict[str, str] = field(default_factory=dict)
    ros_distro: str = "jazzy"
    storage: str = "mcap"

    @property
    def message_count(self) -> int:
        return sum(t.message_count for t in self.topics)

    def document(self) -> dict[str, Any]:
        """The mapping under ``rosbag2_bagfile_information``."""
        span = {
            "duration": {"nanoseconds": self.duration_ns},
            "starting_time": {"nanoseconds_since_epoch": self.starting_time_ns},
        }
        # A recorded episode is one file; more files only come from other recorders, whose metadata is not rewritten.
        return {
            "version": VERSION,
            "storage_identifier": self.storage,
            **span,
            "message_count": self.message_count,
            "topics_with_message_count": [
                {
                    "topic_metadata": {
                        "name": t.name,
                        "type": t.type,
                        "serialization_format": "cdr",
                        "offered_qos_profiles": [dict(q) for q in t.qos],
                        "type_description_hash": t.type_hash,
                    },
                    "message_count": t.message_count,
                }
                for t in self.topics
            ],
            "compression_format": "",
            "compression_mode": "",
            "relative_file_paths": list(self.files),
            "files": [{"path": f, **span, "message_count": self.message_count} for f in self.files],
            "custom_data": dict(self.custom_data),
            "ros_distro": self.ros_distro,
        }

    def text(self) -> str:
        """``metadata.yaml`` itself."""
        return _dump({"rosbag2_bagfile_information": self.document()})

    def with_custom_data(self, changes: Mapping[str, str]) -> BagMetadata:
        """A copy with ``changes`` merged in; raises ValueError for anything but strings."""
        for key, value in changes.items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise ValueError(f"custom_data {key!r}: {value!r} is no string; rosbag2 keeps strings only")
        return replace(self, custom_data={**self.custom_data, **changes})

    def write(self, folder: Path) -> None:
        """Write ``metadata.yaml`` into the bag folder, atomically."""
        write_atomically(folder / METADATA_FILE, self.text().encode())


def parse_metadata(text: str, where: str) -> BagMetadata:
    """Parse ``metadata.yaml`` (versions 5 to 9). Raises BagError naming ``where`` and what is wrong."""
    try:
        root = load_yaml_text(text)
        info = root["rosbag2_bagfile_information"]
        version = int(info["version"])
        if not 5 <= version <= VERSION:
            raise BagError(f"{where}: version {version} is not supported; versions 5 to {VERSION} are")
        topics = []
        for entry in info["topics_with_message_count"]:
            topic = entry["topic_metadata"]
            qos = topic.get("offered_qos_profiles") or []
            topics.append(
                TopicInfo(
                    name=_text(topic["name"]),
                    type=_text(topic["type"]),
                    message_count=int(entry["message_count"]),
                    type_hash=_text(topic.get("type_description_hash", "")),
                    qos=qos_mappings(qos),
                )
            )
        return BagMetadata(
            files=tuple(str(f) for f in info["relative_file_paths"]),
            starting_time_ns=int(info["starting_time"]["nanoseconds_since_epoch"]),
            duration_ns=int(info["duration"]["nanoseconds"]),
            topics=tuple(topics),
            custom_data={str(k): _scalar(v) for k, v in (info.get("custom_data") or {}).items()},
            ros_distro=str(info.get("ros_distro", "")),
            storage=str(info["storage_identifier"]),
        )
    except BagError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, OverflowError) as error:
        raise BagError(f"{where}: no valid rosbag2 metadata ({error!r})") from error


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{value!r:.80} is no text")
    return value


def _scalar(value: Any) -> str:
    if isinstance(value, (dict, list)):
        raise ValueError("custom_data holds text only")
    return str(value)


def label_data(label: Label) -> dict[str, str]:
    """What a label says, as custom_data."""
    return {OUTCOME: label.outcome, LABELLED_BY: label.by, LABELLED_AT: label.at, LABEL_COMMENT: label.comment}


def read_metadata(folder: Path) -> BagMetadata:
    """Metadata of the bag in ``folder``, with the outcome that its latest label says (see ``episodes.labels``).

    Raises BagError when there is none, or it is broken.
    """
    path = folder / METADATA_FILE
    try:
        text = read_bounded(path).decode("utf-8")
    except FileNotFoundError:
        hint = f"; it was not closed, run: qt-ros episodes recover {folder}" if any(folder.glob("*.mcap")) else ""
        raise BagError(f"{folder}: no {METADATA_FILE}{hint}") from None
    except (OSError, UnicodeDecodeError, Refused) as error:
        raise BagError(f"{path}: cannot be read ({error})") from error
    metadata = parse_metadata(text, str(path))
    try:
        labels = read_labels(folder / LABELS)
    except (LabelError, OSError) as error:
        raise BagError(str(error)) from error
    # The file of labels is written first: after a power cut between the two it knows more than metadata.yaml.
    return metadata.with_custom_data(label_data(in_order(labels)[-1])) if labels else metadata


def note_scene(folder: Path, task: str, seed: int) -> None:
    """Write into a closed bag which simulated scene its episode was in: who set the scene up knows, not the recorder.

    Without it the episode passes for one of a robot, and one of a test scene could be trained on. Raises BagError and
    OSError.
    """
    read_metadata(folder).with_custom_data({TASK: task, SEED: str(seed)}).write(folder)


def ros_distro() -> str:
    """Name of the ROS distribution in use; the wheels are Jazzy and do not say so."""
    return os.environ.get("ROS_DISTRO", "jazzy")


class _Dumper(getattr(yaml, "CSafeDumper", yaml.SafeDumper)):  # type: ignore[misc]
    """Writes repeated mappings out in full (rosbag2's readers need no anchors, people neither)."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _dump(document: Any) -> str:
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10**6))
