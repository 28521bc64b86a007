"""Labels of episodes that are in a training store: laid over its manifest when it is read, no shard is rewritten.

A label gives an episode the outcome, the last reward and the end that it would have if its bag had been built with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from qt_ros.episodes.episode import Episode, is_terminal
from qt_ros.episodes.labels import (
    LABELS,
    Label,
    LabelError,
    append_label,
    in_order,
    latest,
    make_label,
    read_labels,
    take_over,
)
from qt_ros.episodes.manifest import EpisodeMeta, Manifest, StoreError, read_manifest

log = logging.getLogger(__name__)

STORED = "store"
"""Stands for whoever judged before an episode came into the store."""


def label_episode(root: str | Path, episode_id: str, outcome: str, by: str, comment: str = "") -> Label:
    """Say how an episode of the store ``root`` went; earlier labels are kept and overruled.

    Raises LabelError for what is no label and for an episode that is not there, StoreError where there is no store.
    """
    root = Path(root)
    label = make_label(episode_id, outcome, by, comment)
    _recorded(root, episode_id)
    return append_label(root / LABELS, label)


def take_labels(root: str | Path, episode_id: str, labels: Sequence[Label]) -> bool:
    """Take over the history of a bag whose episode is in the store; whether its outcome there is another one now.

    Raises LabelError when it is not there.
    """
    root = Path(root)
    recorded = _recorded(root, episode_id)
    before = _outcome(root, recorded)
    take_over(root / LABELS, [replace(label, episode_id=episode_id) for label in labels])
    return _outcome(root, recorded) != before


def store_labels(root: str | Path, episode_id: str | None = None) -> list[Label]:
    """Every label given in the store, oldest first; of ``episode_id`` alone, with the outcome it came with before."""
    root = Path(root)
    given = in_order(read_labels(root / LABELS))
    if episode_id is None:
        return given
    recorded = _recorded(root, episode_id)
    first = Label(episode_id, recorded.outcome, STORED, "")
    return [first, *(label for label in given if label.episode_id == episode_id)]


def _recorded(root: Path, episode_id: str) -> EpisodeMeta:
    """What the store knew of an episode before it was labelled."""
    for meta in read_manifest(root).episodes:
        if meta.id == episode_id:
            return meta
    raise LabelError(f"{root}: no episode {episode_id!r} is in this store; `qt-ros episodes ls {root}` lists its own")


def _outcome(root: Path, recorded: EpisodeMeta) -> str:
    label = latest(read_labels(root / LABELS)).get(recorded.id)
    return recorded.outcome if label is None else label.outcome


def labelled_manifest(root: Path) -> Manifest:
    """The manifest of the store at ``root`` with the outcomes that its labels say. Raises StoreError.

    Where no label differs from what was recorded it is `read_manifest`'s, byte for byte; where one does, its hash is
    another, by which a training run notices that its data has changed.
    """
    manifest = read_manifest(root)
    try:
        labels = read_labels(root / LABELS)
    except (LabelError, OSError) as error:
        raise StoreError(str(error)) from error
    return with_labels(manifest, labels, str(root / LABELS))


def with_labels(manifest: Manifest, labels: Sequence[Label], where: str) -> Manifest:
    """``manifest`` with the outcomes that the labels of the file ``where`` say; itself where none says another."""
    wanted = latest(labels)
    if missing := sorted(wanted.keys() - {e.id for e in manifest.episodes}):
        log.warning("%s: %d labelled episodes are not there, first %s", where, len(missing), missing[0])
    changed = {
        e.id: relabelled(e, wanted[e.id].outcome)
        for e in manifest.episodes
        if e.id in wanted and wanted[e.id].outcome != e.outcome
    }
    if not changed:
        return manifest
    shards = tuple(
        replace(shard, episodes=tuple(changed.get(e.id, e) for e in shard.episodes)) for shard in manifest.shards
    )
    return replace(manifest, shards=shards)


def relabelled(meta: EpisodeMeta, outcome: str) -> EpisodeMeta:
    """``meta`` with another outcome, and with the end of the MDP that goes with it."""
    return replace(meta, outcome=outcome, terminated=outcome != "unknown" and is_terminal(outcome, meta.reason))


def as_labelled(episode: Episode, meta: EpisodeMeta) -> Episode:
    """The stored episode as its manifest has it: outcome, end, and 1 or 0 as the reward of its last step."""
    if episode.outcome == meta.outcome:
        return episode
    rewards = episode.rewards.copy()
    rewards[-1] = last_reward(meta)
    return replace(episode, outcome=meta.outcome, terminated=meta.terminated, rewards=rewards)


def last_reward(meta: EpisodeMeta) -> float:
    """Reward of the last step of an episode that was labelled."""
    return float(meta.outcome == "success")
