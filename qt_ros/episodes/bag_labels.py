"""Labels of recorded episodes: in the folder of the bag, beside the recording, which stays as it was sealed."""

from __future__ import annotations

from pathlib import Path

from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag_metadata import BagError, BagMetadata, read_metadata
from qt_ros.episodes.episode import is_episode_id
from qt_ros.episodes.labels import LABELS, Label, LabelError, append_label, in_order, make_label, read_labels

RECORDER = "recorder"
"""Stands for whoever judged while a bag was recorded, where the bag does not name them."""


def bag_of(root: Path, episode_id: str) -> Path:
    """Folder of the episode's bag below ``root``. LabelError for an id with path parts, and where there is none."""
    if not is_episode_id(episode_id):
        raise LabelError(f"{episode_id!r} is no episode id; use one that `qt-ros episodes ls {root}` shows")
    if not (root / episode_id).is_dir():
        raise LabelError(f"episode {episode_id} is not in {root}; `qt-ros episodes ls {root}` shows those that are")
    return root / episode_id


def episode_of(uri: Path) -> str:
    """Id of the episode in the bag ``uri``. LabelError where there is no bag, BagError for a broken one."""
    if not uri.is_dir():
        raise LabelError(f"{uri}: no bag is here; `qt-ros episodes ls {uri.parent}` shows those that are")
    return _episode_id(uri, read_metadata(uri))


def label_bag(uri: str | Path, outcome: str, by: str, comment: str = "") -> Label:
    """Say how the episode in the closed bag ``uri`` went; earlier labels are kept and overruled.

    Written to ``labels.jsonl`` first, then to the custom data of metadata.yaml, where other tools look. The label it
    was recorded with becomes the first of the history. Raises LabelError for what is no label, BagError for a bag that
    is missing, broken, or was never closed.
    """
    uri = Path(uri)
    label = make_label(episode_of(uri), outcome, by, comment)
    label = append_label(uri / LABELS, label, first=_recorded(uri, read_metadata(uri)))
    read_metadata(uri).write(uri)  # it has the latest label
    return label


def bag_labels(uri: str | Path) -> list[Label]:
    """Every label of a bag, oldest first: the recorded one, then what was said later. Raises BagError."""
    uri = Path(uri)
    metadata = read_metadata(uri)
    try:
        return in_order(read_labels(uri / LABELS)) or _recorded(uri, metadata)
    except LabelError as error:
        raise BagError(str(error)) from error


def _episode_id(uri: Path, metadata: BagMetadata) -> str:
    return metadata.custom_data.get(keys.EPISODE_ID) or uri.name


def _recorded(uri: Path, metadata: BagMetadata) -> list[Label]:
    """The label that stands in metadata.yaml, if any."""
    custom = metadata.custom_data
    outcome, by = custom.get(keys.OUTCOME, "unknown"), custom.get(keys.LABELLED_BY, "")
    if outcome == "unknown" and not by:
        return []
    at, comment = custom.get(keys.LABELLED_AT, ""), custom.get(keys.LABEL_COMMENT, "")
    return [Label(_episode_id(uri, metadata), outcome, by or RECORDER, at, comment)]
