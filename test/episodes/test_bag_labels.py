from __future__ import annotations

import os
import shutil
from concurrent.futures import Future
from pathlib import Path

import pytest

from qt_ros.episodes import bag_metadata as keys
from qt_ros.episodes.bag import BagError, EpisodeBagWriter, read_metadata, recover
from qt_ros.episodes.bag_labels import bag_labels, bag_of, label_bag
from qt_ros.episodes.bag_metadata import parse_metadata
from qt_ros.episodes.closed_bags import ClosedBags
from qt_ros.episodes.labels import LABELS, LabelError
from qt_ros.episodes.recorder import RecordReport


def make_bag(root: Path, name: str = "a", **data: str) -> Path:
    EpisodeBagWriter(root / name, [], {keys.EPISODE_ID: name, **data}).close()
    return root / name


def test_a_label_overrules_what_was_recorded_and_leaves_the_recording_alone(tmp_path: Path) -> None:
    bag = make_bag(tmp_path, **{keys.OUTCOME: "success", keys.LABELLED_BY: "sim"})
    recording = (bag / "a_0.mcap").read_bytes()
    label_bag(bag, "failure", "anna", "it was the wrong cube")
    custom = read_metadata(bag).custom_data
    assert (custom[keys.OUTCOME], custom[keys.LABELLED_BY]) == ("failure", "anna")
    assert custom[keys.LABEL_COMMENT] == "it was the wrong cube" and custom[keys.LABELLED_AT].endswith("Z")
    written = parse_metadata((bag / "metadata.yaml").read_text(), "metadata.yaml")
    assert written.custom_data == custom, "other programs read metadata.yaml alone"
    assert (bag / "a_0.mcap").read_bytes() == recording


def test_every_label_is_kept_beginning_with_the_recorded_one(tmp_path: Path) -> None:
    bag = make_bag(tmp_path, **{keys.OUTCOME: "success", keys.LABELLED_BY: "sim"})
    assert [(entry.outcome, entry.by) for entry in bag_labels(bag)] == [("success", "sim")]
    label_bag(bag, "failure", "anna")
    label_bag(bag, "unknown", "bert")
    said = [(entry.outcome, entry.by) for entry in bag_labels(bag)]
    assert said == [("success", "sim"), ("failure", "anna"), ("unknown", "bert")]
    assert bag_labels(make_bag(tmp_path, "b")) == []


def test_a_bag_labelled_when_nobody_had_judged_has_that_one_label(tmp_path: Path) -> None:
    bag = make_bag(tmp_path, **{keys.OUTCOME: "unknown"})
    given = label_bag(bag, "success", "anna")
    assert bag_labels(bag) == [given]


def test_a_stop_between_the_two_files_loses_no_label(tmp_path: Path) -> None:
    bag = make_bag(tmp_path, **{keys.OUTCOME: "success"})
    before = (bag / "metadata.yaml").read_bytes()
    label_bag(bag, "failure", "anna")
    (bag / "metadata.yaml").write_bytes(before)
    assert read_metadata(bag).custom_data[keys.OUTCOME] == "failure"


def test_a_label_survives_the_recovery_of_its_bag(tmp_path: Path) -> None:
    bag = make_bag(tmp_path, **{keys.OUTCOME: "success"})
    label_bag(bag, "failure", "anna")
    (bag / "metadata.yaml").unlink()
    assert recover(bag).needed
    assert read_metadata(bag).custom_data[keys.OUTCOME] == "failure"


def test_a_label_for_a_missing_or_broken_bag_changes_nothing(tmp_path: Path) -> None:
    with pytest.raises(LabelError, match="no bag is here"):
        label_bag(tmp_path / "none", "success", "anna")
    bag = make_bag(tmp_path)
    (bag / "metadata.yaml").unlink()
    with pytest.raises(BagError, match="recover"):
        label_bag(bag, "success", "anna")
    assert not (bag / LABELS).exists() and not (tmp_path / "none").exists()
    for episode_id in ("../a", "a/../a", "", ".", "/a"):
        with pytest.raises(LabelError, match="no episode id"):
            bag_of(tmp_path / "sub", episode_id)
    with pytest.raises(LabelError, match="not in"):
        bag_of(tmp_path, "b")


def test_a_damaged_history_is_said_and_not_passed_over(tmp_path: Path) -> None:
    bag = make_bag(tmp_path)
    (bag / LABELS).write_text("oops\n")
    for read in (read_metadata, bag_labels):
        with pytest.raises(BagError, match="line 1"):
            read(bag)


def closed(bag: Path) -> Future[RecordReport]:
    report: Future[RecordReport] = Future()
    report.set_result(RecordReport(bag.name, bag, "unknown", "timeout", 0, 0, True, ""))
    return report


def test_the_last_episode_is_the_one_recorded_last_however_often_others_are_labelled(tmp_path: Path) -> None:
    bags = ClosedBags(tmp_path)
    assert bags.last == ""
    for age, name in enumerate(("new", "old")):
        bag = make_bag(tmp_path, name)
        os.utime(bag / f"{name}_0.mcap", (1000 - age, 1000 - age))
    bags.label("old", "success", "anna")
    assert bags.last == "new"
    bags.add("old", closed(tmp_path / "old"))
    assert bags.last == "old"


def test_a_bag_on_its_way_to_the_disk_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bags = ClosedBags(tmp_path)
    bag = make_bag(tmp_path, "e")
    report: Future[RecordReport] = Future()
    bags.add("e", report)
    monkeypatch.setattr("qt_ros.episodes.closed_bags.CLOSING_TIME", 0.0)
    with pytest.raises(LabelError, match="ask again"):
        bags.label("e", "success", "anna")
    report.set_result(closed(bag).result())
    assert bags.label("e", "success", "anna").outcome == "success"


def test_a_late_judgement_is_taken_once_and_only_of_the_last_episode(tmp_path: Path) -> None:
    bags = ClosedBags(tmp_path)
    for name in ("earlier", "last"):
        bags.add(name, closed(make_bag(tmp_path, name)))
    assert not bags.judge_late("earlier", "success", "sim")
    assert bags.judge_late("last", "success", "sim")
    bags.label("last", "failure", "anna")
    assert not bags.judge_late("last", "success", "sim"), "an old message, kept for late listeners"
    assert [entry.by for entry in bag_labels(tmp_path / "last")] == ["sim", "anna"]
    assert bag_labels(tmp_path / "earlier") == []
    shutil.rmtree(tmp_path / "last")
    with pytest.raises(LabelError, match="not in"):
        bags.label("last", "success", "anna")
