from __future__ import annotations

import logging
import shutil
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import BEGIN, Said, custom_data, episode, type_name, write_bag  # noqa: E402
from rclpy.serialization import serialize_message  # noqa: E402

from qt_ros.cli.episode_listing import summary  # noqa: E402
from qt_ros.contract.robot import RobotContract  # noqa: E402
from qt_ros.episodes import bag_metadata as keys  # noqa: E402
from qt_ros.episodes.audit import audit  # noqa: E402
from qt_ros.episodes.bag import find_bags  # noqa: E402
from qt_ros.episodes.bag_labels import label_bag  # noqa: E402
from qt_ros.episodes.bag_writer import BagTopic, EpisodeBagWriter  # noqa: E402
from qt_ros.episodes.build import build_store  # noqa: E402
from qt_ros.episodes.from_bag import episode_from_bag  # noqa: E402
from qt_ros.episodes.manifest import StoreError  # noqa: E402
from qt_ros.episodes.store import EpisodeStore  # noqa: E402
from qt_ros.episodes.store_labels import label_episode  # noqa: E402
from qt_ros.msg import CommandStatus  # noqa: E402

SIZE = (24, 32)


@pytest.fixture(scope="module")
def bags(tmp_path_factory: pytest.TempPathFactory, contract: RobotContract) -> Path:
    """Three labelled bags and one without an outcome."""
    root = tmp_path_factory.mktemp("bags")
    for name, outcome in (("a", "success"), ("b", "failure"), ("c", "success"), ("d", "unknown")):
        write_bag(root / name, episode(contract, name, steps=2), custom_data(contract, name, outcome))
    return root


@pytest.fixture
def own_bags(bags: Path, tmp_path: Path) -> Path:
    shutil.copytree(bags, tmp_path / "bags")
    return tmp_path / "bags"


def test_labelled_bags_become_a_store_of_the_same_episodes(bags: Path, tmp_path: Path, contract: RobotContract) -> None:
    seen: list[Path] = []
    report = build_store(find_bags([bags]), tmp_path / "store", contract, SIZE, progress=seen.append)
    assert report.added == ["a", "b", "c"], report.skipped
    assert seen == find_bags([bags])
    assert report.skipped == {str(bags / "d"): "its outcome is unknown"}
    store = EpisodeStore(tmp_path / "store", contract)
    assert [(m.id, m.outcome, m.length) for m in store.meta] == [
        ("a", "success", 2),
        ("b", "failure", 2),
        ("c", "success", 2),
    ]
    direct = episode_from_bag(bags / "b", contract, SIZE)
    assert (store.episode(1).images == direct.images).all() and (store.episode(1).proprio == direct.proprio).all()


def test_a_second_build_adds_only_what_is_new(own_bags: Path, tmp_path: Path, contract: RobotContract) -> None:
    first = build_store([own_bags / "a"], tmp_path / "store", contract, SIZE)
    again = build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE, outcomes=("success", "unknown"))
    assert first.added == ["a"] and again.present == ["a"] and again.added == ["c", "d"]
    assert again.skipped == {str(own_bags / "b"): "its outcome is failure"}
    assert len(EpisodeStore(tmp_path / "store")) == 3


def test_bags_that_cannot_be_used_are_named_with_the_reason(
    own_bags: Path, tmp_path: Path, contract: RobotContract
) -> None:
    mcap = own_bags / "a" / "a_0.mcap"
    mcap.write_bytes(mcap.read_bytes()[:-100])
    (own_bags / "b" / "metadata.yaml").unlink()
    (own_bags / "e").mkdir()
    (own_bags / "e" / "metadata.yaml").write_text("nothing")
    report = build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE)
    assert report.added == ["c"] and len(report.skipped) == 4
    assert "cut off" in report.skipped[str(own_bags / "a")] and "recover" in report.skipped[str(own_bags / "b")]
    assert "no valid rosbag2 metadata" in report.skipped[str(own_bags / "e")]


def test_a_label_changed_after_the_build_is_taken_over_by_the_next_build(
    own_bags: Path, tmp_path: Path, contract: RobotContract
) -> None:
    build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE)
    label_bag(own_bags / "b", "success", "anna")
    label_bag(own_bags / "c", "unknown", "anna")
    report = build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE)
    assert (report.present, report.relabelled) == (["a", "b", "c"], ["b", "c"])
    store = EpisodeStore(tmp_path / "store", contract)
    assert {m.id: m.outcome for m in store.meta} == {"a": "success", "b": "success", "c": "unknown"}
    assert build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE).relabelled == []


def test_a_store_relabelled_from_its_bags_is_as_one_built_from_them_anew(
    own_bags: Path, tmp_path: Path, contract: RobotContract
) -> None:
    build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE, outcomes=("success", "failure", "unknown"))
    for name, outcome in (("a", "failure"), ("b", "success"), ("c", "unknown"), ("d", "success")):
        label_bag(own_bags / name, outcome, "anna")
    everything = ("success", "failure", "unknown")
    for root in ("store", "anew"):
        build_store(find_bags([own_bags]), tmp_path / root, contract, SIZE, outcomes=everything)
    old, new = EpisodeStore(tmp_path / "store"), EpisodeStore(tmp_path / "anew")
    assert old.meta == new.meta and len(old) == 4
    assert (old.load_all(["rewards"]).rewards == new.load_all(["rewards"]).rewards).all()
    for mine, theirs in zip(old, new, strict=True):
        assert (mine.outcome, mine.terminated) == (theirs.outcome, theirs.terminated)
        assert (mine.rewards == theirs.rewards).all()


def test_a_bag_that_nobody_labelled_since_does_not_overrule_a_label_given_in_the_store(
    own_bags: Path, tmp_path: Path, contract: RobotContract
) -> None:
    build_store([own_bags / "a"], tmp_path / "store", contract, SIZE)
    label_episode(tmp_path / "store", "a", "failure", "bert")
    assert build_store([own_bags / "a"], tmp_path / "store", contract, SIZE).relabelled == []
    assert EpisodeStore(tmp_path / "store").meta[0].outcome == "failure"


def test_an_episode_that_somebody_said_is_unknown_stays_so_whatever_its_messages_say(
    own_bags: Path, contract: RobotContract
) -> None:
    label_bag(own_bags / "a", "unknown", "anna")
    episode = episode_from_bag(own_bags / "a", contract, SIZE)
    assert (episode.outcome, episode.terminated, episode.rewards.sum()) == ("unknown", False, 0.0)


def test_an_interrupted_build_goes_on_where_it_stopped(own_bags: Path, tmp_path: Path, contract: RobotContract) -> None:
    def interrupt(uri: Path) -> None:
        if uri.name == "b":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE, progress=interrupt)
    assert len(EpisodeStore(tmp_path / "store")) == 2
    report = build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE)
    assert report.present == ["a", "b"] and report.added == ["c"]


def test_a_second_build_into_one_store_is_refused_while_the_first_runs_and_costs_it_nothing(
    own_bags: Path, tmp_path: Path, contract: RobotContract
) -> None:
    refused: list[str] = []

    def another(uri: Path) -> None:
        if uri.name == "a":
            with pytest.raises(StoreError, match="another process writes the part bags") as error:
                build_store([own_bags / "c"], tmp_path / "store", contract, SIZE)
            refused.append(str(error.value))

    report = build_store([own_bags / "a", own_bags / "b"], tmp_path / "store", contract, SIZE, progress=another)
    assert report.added == ["a", "b"] and len(refused) == 1
    assert build_store(find_bags([own_bags]), tmp_path / "store", contract, SIZE).added == ["c"]
    store = EpisodeStore(tmp_path / "store")
    assert sorted(m.id for m in store.meta) == ["a", "b", "c"] and not store.skipped


def test_a_store_of_another_image_size_is_refused(own_bags: Path, tmp_path: Path, contract: RobotContract) -> None:
    build_store([own_bags / "a"], tmp_path / "store", contract, SIZE)
    with pytest.raises(StoreError, match="image_height differs"):
        build_store([own_bags / "c"], tmp_path / "store", contract, (48, 64))


def commanded(ns: int, episode_id: str, dry_run: bool) -> Said:
    """What command_node says during an episode."""
    return Said(ns, "command_status", CommandStatus(episode_id=episode_id, state=1, dry_run=dry_run))


def test_what_was_never_executed_is_left_out_by_name(tmp_path: Path, contract: RobotContract) -> None:
    """By the recorder's word, or by command_node's own where the recorder was killed or older than the word."""
    for name, said, dry_run in (("new", "true", False), ("old", None, True), ("real", "false", False)):
        data = {**custom_data(contract, name), **({keys.DRY_RUN: said} if said else {})}
        story = [*episode(contract, name, steps=2), commanded(BEGIN + 1, name, dry_run)]
        story += [commanded(BEGIN + 2, "the one before", True), commanded(BEGIN + 3, "", True)]
        write_bag(tmp_path / name, sorted(story, key=lambda s: s.ns), data)
    report = build_store(find_bags([tmp_path]), tmp_path / "store", contract, SIZE)
    assert report.added == ["real"]
    assert set(report.skipped) == {str(tmp_path / "new"), str(tmp_path / "old")}
    assert all("dry run" in reason and "executed" in reason for reason in report.skipped.values())
    audits = {name: audit(tmp_path / name, contract) for name in ("new", "old", "real")}
    assert {name: found.dry_run for name, found in audits.items()} == {"new": True, "old": True, "real": False}
    assert any("dry run" in p for p in audits["old"].problems) and audits["real"].problems == []
    assert [summary(tmp_path / name)["dry_run"] for name in ("new", "real")] == [True, False]


IDLE, MOVING = CommandStatus.STATE_IDLE, CommandStatus.STATE_MOVING


@pytest.mark.parametrize("dry_run", ["false", ""])
@pytest.mark.parametrize(
    ("told", "statuses"),
    [
        ("", [("a", MOVING)]),
        ("never said that it moved", [("a", IDLE), ("another", MOVING)]),
        ("no command_status", []),
    ],
)
def test_an_episode_that_nobody_says_was_executed_is_warned_about_and_not_refused(
    tmp_path: Path, contract: RobotContract, caplog: pytest.LogCaptureFixture, dry_run: str, told: str, statuses: Any
) -> None:
    said = [
        Said(BEGIN + i, "command_status", CommandStatus(episode_id=name, state=state))
        for i, (name, state) in enumerate(statuses)
    ]
    data = {**custom_data(contract, "a"), **({keys.DRY_RUN: dry_run} if dry_run else {})}
    write_bag(tmp_path / "a", [*said, *episode(contract, "a", steps=2)], data)
    with caplog.at_level(logging.WARNING):
        assert build_store([tmp_path / "a"], tmp_path / "store", contract, SIZE).added == ["a"]
    warnings = audit(tmp_path / "a", contract).warnings
    assert len(warnings) == bool(told) and all(told in warning and warning in caplog.text for warning in warnings)
    assert told or "command" not in caplog.text


@pytest.mark.parametrize("length", [8, 0])
def test_a_command_status_that_does_not_decode_costs_no_bag_that_was_fine(
    tmp_path: Path, contract: RobotContract, caplog: pytest.LogCaptureFixture, length: int
) -> None:
    """Nor does it hide another that says that nothing was executed."""
    for name, dry_run in (("fine", False), ("shown", True)):
        writer = EpisodeBagWriter(tmp_path / name, custom_data=custom_data(contract, name))
        for said in [commanded(BEGIN, name, dry_run), *episode(contract, name, steps=2)]:
            writer.add_topic(BagTopic.find(f"/{said.topic}", type_name(said.message)))
            data = serialize_message(said.message)
            if said.topic == "command_status":
                writer.write("/command_status", data[:length], said.ns, said.ns)
            if said.topic != "command_status" or dry_run:
                writer.write(f"/{said.topic}", data, said.ns + 1, said.ns + 1)
        writer.close()
    with caplog.at_level(logging.WARNING):
        report = build_store(find_bags([tmp_path]), tmp_path / "store", contract, SIZE)
    assert report.added == ["fine"] and list(report.skipped) == [str(tmp_path / "shown")]
    assert "a command_status is ignored" in caplog.text
