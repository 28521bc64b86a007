"""New experience of one round: episodes acted by the current policy, and bags that were recorded meanwhile."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import RobotContract
from qt_ros.episodes.audit import audit
from qt_ros.episodes.bag import find_bags, is_complete, read_metadata
from qt_ros.episodes.bag_labels import bag_labels
from qt_ros.episodes.bag_metadata import EPISODE_ID, SEED, BagError
from qt_ros.episodes.build import build_store
from qt_ros.episodes.episode import Episode, InvalidEpisode
from qt_ros.episodes.labels import LABELS
from qt_ros.episodes.manifest import MANIFEST, EpisodeMeta, StoreError, read_manifest, read_manifest_file
from qt_ros.episodes.parts import part_files
from qt_ros.episodes.store import EpisodeStore, StoreWriter
from qt_ros.episodes.store_labels import take_labels
from qt_ros.sim.seeds import outside_training
from qt_ros.sim.task_file import load_tasks

log = logging.getLogger(__name__)


def build_from_bags(
    folders: Sequence[Path],
    root: Path,
    grown: Path,
    contract: RobotContract,
    image_size: tuple[int, int],
    allow_other_contract: bool = False,
    earlier: Iterable[Path] = (),
) -> dict[str, Any]:
    """The bags below ``folders`` that no earlier round has taken become the store ``root``.

    Bags of earlier rounds, whose episodes are in the store ``grown``, only hand on the labels they were given since.
    Those that earlier rounds built into their stores ``earlier`` and did not add (failures that are left out, episodes
    that were refused) are passed over as long as they are judged as they were then and can still be read there.
    The result says which were added, which were there, relabelled or left out with the reason, what their audit found,
    and who judged.
    """

    def accept(episode: Episode) -> None:
        if problem := outside_training(episode.seed):
            raise BagError(problem)

    taken = {e.id for e in read_manifest(grown).episodes} if (grown / MANIFEST).is_file() else set()
    built = [store for store in earlier if (store / MANIFEST).is_file()]
    judged = {e.id: e.outcome for store in built for e in _readable(store)}
    fresh: list[Path] = []
    relabelled: list[str] = []
    skipped: dict[str, str] = {}
    bags = find_bags(folders)
    for bag in bags:
        try:
            episode_id = read_metadata(bag).custom_data.get(EPISODE_ID, "")
            if episode_id not in taken:
                if judged.get(episode_id, "") != _outcome(bag):
                    fresh.append(bag)
            elif (bag / LABELS).exists() and take_labels(grown, episode_id, bag_labels(bag)):
                relabelled.append(episode_id)
        except BagError as error:
            skipped[str(bag)] = str(error).removeprefix(f"{bag}: ")
    report = build_store(
        fresh, root, contract, image_size, allow_other_contract=allow_other_contract, accept=accept
    )  # fmt: skip
    used = [bag for bag in fresh if str(bag) not in report.skipped]
    problems = {str(bag): found for bag in used if (found := audit(bag, contract).problems)}
    judges = Counter(label[-1].by for bag in used if (label := bag_labels(bag)))
    return {
        "bags": len(bags),
        "added": len(report.added) + len(report.present),
        "known": len(bags) - len(fresh) - len(skipped),
        "relabelled": sorted(relabelled + report.relabelled),
        "left_out": {**skipped, **report.skipped},
        "audit_problems": problems,
        "judged_by": dict(sorted(judges.items())),
    }


def _readable(store: Path) -> list[EpisodeMeta]:
    try:
        return EpisodeStore(store).meta
    except StoreError as error:
        log.warning("%s; the bags that it was built from are built again", error)
        return []


def _outcome(bag: Path) -> str:
    """How the bag is judged now; 'unknown' when nobody has."""
    labels = bag_labels(bag)
    return labels[-1].outcome if labels else "unknown"


def audit_episodes(
    roots: Iterable[Path], contract: RobotContract, checkpoint_id: str, known: Collection[str], other: bool = False
) -> dict[str, Any]:
    """Read every new episode once and say what is there: counts by outcome, reason, instruction, and of each skill's
    outcomes; ``refused`` with why.

    ``known``: ids that an earlier round has. Episodes of another checkpoint than ``checkpoint_id`` are counted, not
    refused: bags may be of an earlier policy, or of a person.
    """
    counts: dict[str, Counter[str]] = {name: Counter() for name in ("outcomes", "reasons", "sources", "instructions")}
    skills: dict[str, Counter[str]] = {}
    known_tasks = load_tasks()
    refused: dict[str, str] = {}
    skipped_shards: list[str] = []
    seen: set[str] = set(known)
    steps = others = 0
    for root in roots:
        store = EpisodeStore(root, contract, allow_other_contract=other)
        skipped_shards += [f"{root / s.file}: {s.problem} ({s.episodes} episodes)" for s in store.skipped]
        for episode in store:
            if problem := _problem(episode, seen):
                refused[episode.episode_id] = problem
                continue
            seen.add(episode.episode_id)
            steps += len(episode)
            others += episode.checkpoint != checkpoint_id
            counts["outcomes"][episode.outcome] += 1
            counts["reasons"][f"{episode.outcome}/{episode.reason}"] += 1
            counts["sources"][episode.source] += 1
            counts["instructions"][episode.instruction] += 1
            task = known_tasks.get(episode.task)  # a robot's operator may ask for what no task of ours is
            skills.setdefault("" if task is None else task.skill, Counter())[episode.outcome] += 1
    return {
        "episodes": sum(counts["outcomes"].values()),
        "steps": steps,
        "of_other_checkpoints": others,
        **{name: dict(sorted(counter.items())) for name, counter in counts.items()},
        "skills": {name: dict(sorted(counter.items())) for name, counter in sorted(skills.items())},
        "refused": refused,
        "skipped_shards": skipped_shards,
    }


def _problem(episode: Episode, seen: Collection[str]) -> str:
    try:
        episode.validate()
    except InvalidEpisode as error:
        return str(error)
    if episode.episode_id in seen:
        return "an episode of this id is in the store already"
    if episode.outcome == "unknown":
        return "nobody has judged it"
    return outside_training(episode.seed)


def add_episodes(
    roots: Iterable[Path],
    grown: Path,
    number: int,
    contract: RobotContract,
    refused: Collection[str],
    *,
    with_failures: bool = True,
    other: bool = False,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[str, int]:
    """Copy the episodes of ``roots`` into the store ``grown``, as the part of round ``number``; counts of all rounds.

    Without ``with_failures`` only successes. Those that are there already are passed over, so that an interrupted copy
    goes on. An interruption keeps what is finished (``left`` counts the rest).
    """
    left_out = left = 0
    writer: StoreWriter | None = None
    try:
        for root in roots:
            store = EpisodeStore(root, contract, allow_other_contract=other)
            if writer is None:
                writer = StoreWriter(
                    grown, contract, store.image_size, prefix=f"round-{number:02d}", merge=False,
                    privileged_names=_privileged_names(grown, store), allow_other_contract=other,
                )  # fmt: skip
            for index, meta in enumerate(store.meta):
                if meta.id in refused or meta.id in writer.episode_ids:
                    continue
                if meta.outcome != "success" and not with_failures:
                    left_out += 1
                    continue
                if stopped():
                    left += 1
                    continue
                episode = store.episode(index)
                writer.add(episode if writer.manifest.privileged_names else replace(episode, privileged=None))
    finally:
        if writer is not None:
            writer.close()
    added = [] if writer is None else writer.manifest.episodes
    return {
        "added": len(added),
        "successes": sum(e.outcome == "success" for e in added),
        "failures_left_out": left_out,
        "left": left,
    }


def _privileged_names(grown: Path, store: EpisodeStore) -> tuple[str, ...]:
    """What the grown store keeps of the privileged state: what its first episodes had."""
    parts = part_files(grown)
    if not parts:
        return store.manifest.privileged_names
    return read_manifest_file(parts[0]).privileged_names


def judged_bags(folder: Path) -> int:
    """How many whole, judged bags of training scenes lie below ``folder``."""
    if not folder.is_dir():
        return 0
    count = 0
    for bag in find_bags([folder]):
        try:
            custom = read_metadata(bag).custom_data
        except BagError:
            continue
        count += bool(is_complete(bag) and bag_labels(bag) and custom.get(SEED))
    return count
