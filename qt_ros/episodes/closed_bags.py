"""The bags that a recorder has closed, or is just closing: which was the last, and how to label one of them."""

from __future__ import annotations

from concurrent.futures import Future, TimeoutError
from pathlib import Path

from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag_labels import bag_labels, bag_of, label_bag
from qt_ros.episodes.labels import Label, LabelError
from qt_ros.episodes.recorder import RecordReport

CLOSING_TIME = 2.0
"""s that a label waits for a bag on its way to the disk."""


class ClosedBags:
    """Bags below ``root``, one folder per episode, also those of earlier recorders. One thread only."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self._newest: tuple[str, Future[RecordReport]] | None = None

    def add(self, episode_id: str, report: Future[RecordReport]) -> None:
        """An episode has ended; ``report`` resolves when its bag is closed."""
        self._newest = episode_id, report

    @property
    def last(self) -> str:
        """The episode that ended last; '' when none is here."""
        if self._newest is not None:
            return self._newest[0]
        # By the recording, which is never written again; metadata.yaml is, by every label.
        found = self.root.glob(f"*/{keys.METADATA_FILE}")
        files = {path.parent.name: max(path.parent.glob("*.mcap"), default=path) for path in found}
        return max(files, key=lambda name: files[name].stat().st_mtime, default="")

    def label(self, episode_id: str, outcome: str, by: str, comment: str = "") -> Label:
        """See `label_bag`. LabelError also for an id with path parts, an unknown episode, and a bag not yet closed."""
        return label_bag(self._bag(episode_id), outcome, by, comment)

    def judge_late(self, episode_id: str, outcome: str, by: str, comment: str = "") -> bool:
        """The first judgement of the last episode, when its bag could wait for it no longer.

        False, and nothing written, for another episode (its judgement is an old one that was kept for late listeners)
        and for one that has been judged. Raises as `label` does.
        """
        if self._newest is None or self._newest[0] != episode_id or bag_labels(self._bag(episode_id)):
            return False
        self.label(episode_id, outcome, by, comment)
        return True

    def _bag(self, episode_id: str) -> Path:
        if self._newest is not None and self._newest[0] == episode_id:
            try:
                self._newest[1].result(CLOSING_TIME)
            except TimeoutError:
                raise LabelError(f"the bag of episode {episode_id} is still being written; ask again") from None
        return bag_of(self.root, episode_id)
