"""Is a recording good enough to learn from? Counts, rates, gaps and losses per topic of one bag."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import RawMessage, is_complete, read_raw
from qt_ros.episodes.bag_labels import bag_labels
from qt_ros.episodes.bag_metadata import METADATA_FILE, BagError, read_metadata
from qt_ros.episodes.bag_story import COMMAND_STATUS_TYPE, NOT_EXECUTED, STATE_MOVING, doubt, resolve_topic
from qt_ros.episodes.labels import Label


@dataclass
class TopicAudit:
    """One topic. Rates in Hz, gaps in s, over header stamps where the type has them, else over times of receipt."""

    topic: str
    type: str
    messages: int
    mean_rate: float | None = None
    expected_rate: float | None = None
    """From the contract; None for topics it does not know or that have no rate."""
    largest_gap: float | None = None
    missing: int | None = None
    """How many messages the gaps are short of at the expected rate; None without one."""
    out_of_order: int = 0
    """Header stamps smaller than their predecessor's."""
    lost_in_transport: int | None = None
    """Publisher's sequence numbers that never arrived; None when the numbers are not one increasing row."""
    dropped: int = 0
    """Dropped by the recorder itself, as it counted."""


@dataclass
class Audit:
    """One bag; ``problems`` says in words what is not as it should be (empty: nothing), ``warnings`` what is worth a
    look: bags of older or other recorders have it too."""

    uri: str
    complete: bool
    episode_id: str
    instruction: str
    outcome: str
    reason: str
    duration: float
    """Seconds from the first to the last receipt."""
    messages: int
    bytes: int
    dry_run: bool = False
    """Nothing was executed: by the recorder's word, or by command_node's where the recorder said nothing."""
    topics: list[TopicAudit] = field(default_factory=list)
    labels: list[Label] = field(default_factory=list)
    """Who said when how it went, oldest first; the last one holds."""
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def dropped(self) -> int:
        return sum(t.dropped for t in self.topics)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {**asdict(self), "dropped": self.dropped}


@dataclass
class _Times:
    type: str
    log: list[int] = field(default_factory=list)
    stamps: list[int] = field(default_factory=list)
    sequences: list[int] = field(default_factory=list)


def audit(uri: str | Path, contract: RobotContract | None = None, *, namespace: str | None = None) -> Audit:
    """Read the whole bag (without decoding) and judge it; with ``contract`` also against its rates.

    An incomplete bag is audited as far as it goes and says so. Raises BagError when nothing can be read.
    """
    uri = Path(uri)
    complete = is_complete(uri)
    metadata = read_metadata(uri) if (uri / METADATA_FILE).is_file() else None
    custom: Mapping[str, str] = metadata.custom_data if metadata else {}
    times: dict[str, _Times] = {t.name: _Times(t.type) for t in metadata.topics} if metadata else {}
    episode_id = custom.get(keys.EPISODE_ID, uri.name)
    dry_run = custom.get(keys.DRY_RUN) == "true"
    commands, moved = 0, False
    for raw in read_raw(uri, allow_incomplete=True):
        if raw.type == COMMAND_STATUS_TYPE:
            commands += 1
            if not moved or keys.DRY_RUN not in custom:
                followed, shown = _command(raw, episode_id)
                moved, dry_run = moved or followed, dry_run or (shown and keys.DRY_RUN not in custom)
        entry = times.setdefault(raw.topic, _Times(raw.type))
        entry.log.append(raw.log_ns)
        entry.sequences.append(raw.sequence)
        if (stamp := raw.stamp_ns) is not None:
            entry.stamps.append(stamp)
    expected = _expected_rates(contract, list(times), namespace)
    dropped = {t: int(c.get("dropped", 0)) for t, c in json.loads(custom.get(keys.COUNTS, "{}")).items()}
    topics = [_judge(name, t, expected.get(name), dropped.get(name, 0)) for name, t in sorted(times.items())]
    received = [ns for t in times.values() for ns in t.log]
    result = Audit(
        uri=str(uri),
        complete=complete and custom.get(keys.COMPLETE, "true") == "true",
        episode_id=episode_id,
        instruction=custom.get(keys.INSTRUCTION, ""),
        outcome=custom.get(keys.OUTCOME, "unknown"),
        reason=custom.get(keys.REASON, ""),
        duration=(max(received) - min(received)) * 1e-9 if received else 0.0,
        messages=len(received),
        bytes=sum(f.stat().st_size for f in uri.glob("*.mcap")),
        dry_run=dry_run,
        topics=topics,
    )
    result.labels = bag_labels(uri) if metadata else []
    result.warnings = [told] if (told := doubt(commands, moved)) else []
    result.problems = _problems(result, complete, custom, contract, namespace)
    return result


def _command(raw: RawMessage, episode_id: str) -> tuple[bool, bool]:
    """Whether a CommandStatus says that the episode is followed, and whether its commands are shown and not sent."""
    try:
        status = raw.decode()
    except BagError:
        return False, False  # counted like any other; who builds a store of it is told
    if getattr(status, "episode_id", "") != episode_id:
        return False, False
    return getattr(status, "state", None) == STATE_MOVING, getattr(status, "dry_run", False) is True


def _judge(name: str, times: _Times, expected: float | None, dropped: int) -> TopicAudit:
    line = times.stamps if times.stamps and len(times.stamps) == len(times.log) else times.log
    result = TopicAudit(name, times.type, len(times.log), expected_rate=expected, dropped=dropped)
    result.lost_in_transport = _lost(times.sequences)
    result.out_of_order = int((np.diff(np.array(times.stamps, dtype=np.int64)) < 0).sum())
    if len(line) < 2:
        return result
    ordered = np.sort(np.array(line, dtype=np.int64))
    gaps: NDArray[np.float64] = np.diff(ordered) * 1e-9
    span = float(ordered[-1] - ordered[0]) * 1e-9
    result.mean_rate = (len(line) - 1) / span if span > 0 else None
    result.largest_gap = float(gaps.max())
    if expected:
        wide = gaps[gaps > 1.5 / expected]
        result.missing = int(np.maximum(np.rint(wide * expected) - 1, 0).sum())
    return result


def _lost(sequences: list[int]) -> int | None:
    if not sequences:
        return None
    steps = np.diff(np.array(sequences, dtype=np.int64))
    return None if (steps <= 0).any() else int((steps - 1).sum())


def _expected_rates(contract: RobotContract | None, topics: list[str], namespace: str | None) -> dict[str, float]:
    rates: dict[str, float] = {}
    for spec in contract.observations.values() if contract else ():
        topic = resolve_topic(spec.topic, topics, namespace)
        if topic is not None and spec.rate > 0:
            rates[topic] = spec.rate
    return rates


def _problems(
    result: Audit, closed: bool, custom: Mapping[str, str], contract: RobotContract | None, namespace: str | None
) -> list[str]:
    found: list[str] = []
    if not closed:
        found.append("the recording was cut off; run: qt-ros episodes recover")
    if result.dry_run:
        found.append(f"{NOT_EXECUTED}; episodes build leaves it out")
    if error := custom.get(keys.ERROR):
        found.append(f"the recorder failed: {error}")
    present = {t.topic for t in result.topics if t.messages}
    for spec in contract.observations.values() if contract else ():
        if spec.kind != "text" and resolve_topic(spec.topic, present, namespace) is None:
            found.append(f"{spec.topic}: nothing was recorded")
    for t in result.topics:
        if t.dropped:
            found.append(f"{t.topic}: the recorder dropped {t.dropped}")
        if t.lost_in_transport:
            found.append(f"{t.topic}: {t.lost_in_transport} lost on the way to the recorder")
        if t.out_of_order:
            found.append(f"{t.topic}: {t.out_of_order} stamps go backwards")
        if t.missing and t.missing > 0.02 * t.messages:
            found.append(f"{t.topic}: {t.missing} short of {t.expected_rate:g} Hz, largest gap {t.largest_gap:.3f} s")
    if result.outcome == "unknown":
        found.append("no outcome; label it with: qt-ros episodes label")
    return found
