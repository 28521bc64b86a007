"""Training stores out of bags: one command, repeatable, never by hand."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract.observations import Proprioception
from qt_ros.contract.robot import RobotContract
from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import is_complete, read_metadata
from qt_ros.episodes.bag_labels import bag_labels
from qt_ros.episodes.bag_metadata import BagError
from qt_ros.episodes.episode import Episode
from qt_ros.episodes.from_bag import episode_from_bag
from qt_ros.episodes.labels import LABELS
from qt_ros.episodes.manifest import MANIFEST, read_manifest
from qt_ros.episodes.store import StoreWriter
from qt_ros.episodes.store_labels import take_labels


@dataclass
class BuildReport:
    """What became of every bag: ids added, ids that were there before, of these the ones that were labelled otherwise
    since, and bags left out with the reason."""

    store: str
    added: list[str] = field(default_factory=list)
    present: list[str] = field(default_factory=list)
    relabelled: list[str] = field(default_factory=list)
    skipped: dict[str, str] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return asdict(self)


def build_store(
    bags: Sequence[Path],
    root: str | Path,
    contract: RobotContract,
    image_size: tuple[int, int] = (96, 128),
    *,
    outcomes: Collection[str] = ("success", "failure"),
    namespace: str | None = None,
    source: str | None = None,
    allow_other_contract: bool = False,
    accept: Callable[[Episode], None] = lambda episode: None,
    progress: Callable[[Path], None] | None = None,
) -> BuildReport:
    """Add the episodes of ``bags`` to the store at ``root`` (made when missing), in shards of the prefix ``bags``.

    Bags whose episode is in the store already are not read again, so an interrupted build goes on where it stopped; but
    labels that they were given since are taken over, whatever they say: an episode that is there stays there. A bag
    that cannot be used is left out and named with its reason: incomplete, other contract, holes, a dry run, an outcome
    that is not among ``outcomes``. ``accept``, called with every episode to be added, may raise BagError to leave it
    out. Raises StoreError when the store does not fit the contract or image size, or another build writes into it.
    """
    report = BuildReport(str(root))
    # A robot described by a topic is described in its bags, each with its own.
    live = bool(contract.description_topic) and not contract.urdf_text
    proprioception = None if live else Proprioception(contract)
    with StoreWriter(
        root,
        contract,
        image_size,
        prefix="bags",
        proprio_names=Proprioception.names,
        allow_other_contract=allow_other_contract,
    ) as writer:
        known = set(writer.episode_ids)
        if (Path(root) / MANIFEST).is_file():
            known |= {e.id for e in read_manifest(Path(root)).episodes}
        present: dict[str, Path] = {}
        for uri in bags:
            try:
                episode_id = _use(uri, known, outcomes)
                if episode_id in known:
                    report.present.append(episode_id)
                    present[episode_id] = uri
                    continue
                episode = episode_from_bag(
                    uri,
                    contract,
                    image_size,
                    namespace=namespace,
                    source=source,
                    proprioception=proprioception,
                    allow_other_contract=allow_other_contract,
                )
                if episode.outcome not in outcomes:
                    raise BagError(f"{uri}: its outcome is {episode.outcome}")
                if episode.episode_id in known or episode.episode_id in writer.episode_ids:
                    report.present.append(episode.episode_id)
                    present[episode.episode_id] = uri
                    continue
                accept(episode)
                writer.add(episode)
                report.added.append(episode.episode_id)
            except BagError as error:
                report.skipped[str(uri)] = str(error).removeprefix(f"{uri}: ")
            finally:
                if progress is not None:
                    progress(uri)
    # Only now is every episode in the manifest, also those that an interrupted build had left unmerged.
    recorded = {e.id: e.outcome for e in read_manifest(Path(root)).episodes}
    for episode_id, uri in present.items():
        labels = bag_labels(uri)
        said_later = (uri / LABELS).exists() or any(label.outcome != recorded[episode_id] for label in labels)
        if said_later and take_labels(root, episode_id, labels):
            report.relabelled.append(episode_id)
    return report


def _use(uri: Path, known: Collection[str], outcomes: Collection[str]) -> str:
    """The bag's episode id as far as its metadata tells, after the checks that need no reading of messages."""
    metadata = read_metadata(uri)
    if not is_complete(uri):
        raise BagError(f"{uri}: the recording was cut off; run: qt-ros episodes recover {uri}")
    episode_id = metadata.custom_data.get(keys.EPISODE_ID, "")
    outcome = metadata.custom_data.get(keys.OUTCOME, "")
    # "unknown" may only mean that the recorder was not told; the messages inside may know better.
    if outcome and outcome not in (*outcomes, "unknown") and episode_id not in known:
        raise BagError(f"{uri}: its outcome is {outcome}")
    return episode_id
