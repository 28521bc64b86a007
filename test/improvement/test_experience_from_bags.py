from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import custom_data, episode, write_bag  # noqa: E402

from qt_ros.contract.robot import RobotContract  # noqa: E402
from qt_ros.episodes import bag_metadata as keys  # noqa: E402
from qt_ros.episodes.bag_labels import label_bag  # noqa: E402
from qt_ros.episodes.store import EpisodeStore, merge_manifests  # noqa: E402
from qt_ros.improvement.experience import add_episodes, build_from_bags, judged_bags  # noqa: E402
from qt_ros.improvement.phases import Context, collect_episodes, take_bags  # noqa: E402
from qt_ros.improvement.settings import ImprovementError, Settings  # noqa: E402
from qt_ros.improvement.state import Round, State  # noqa: E402

SIZE = (24, 32)


def make_bag(root: Path, contract: RobotContract, name: str, outcome: str, **changes: str) -> Path:
    data = {**custom_data(contract, name, outcome), keys.LABELLED_BY: "sim", **changes}
    if outcome == "unknown":
        del data[keys.LABELLED_BY]
    write_bag(root / name, episode(contract, name, steps=2), data)
    return root / name


def test_bags_join_with_their_labels_and_a_later_label_reaches_the_store_in_the_next_round(
    tmp_path: Path, contract: RobotContract
) -> None:
    bags, grown = tmp_path / "bags", tmp_path / "all"
    make_bag(bags, contract, "a", "success")
    make_bag(bags, contract, "b", "unknown")
    make_bag(bags, contract, "test", "success", **{keys.SEED: "2000000"})
    label_bag(make_bag(bags, contract, "c", "success"), "failure", "anna")
    found = build_from_bags([bags], tmp_path / "one", grown, contract, SIZE)
    assert (found["bags"], found["added"], found["known"]) == (4, 2, 0)
    assert found["judged_by"] == {"anna": 1, "sim": 1}
    left_out = {Path(bag).name: why for bag, why in found["left_out"].items()}
    assert "unknown" in left_out["b"] and "must not be trained on" in left_out["test"] and len(left_out) == 2
    assert found["audit_problems"] == {}
    add_episodes([tmp_path / "one"], grown, 1, contract, ())
    merge_manifests(grown)

    label_bag(bags / "a", "failure", "bert")
    label_bag(bags / "b", "success", "bert")
    again = build_from_bags([bags], tmp_path / "two", grown, contract, SIZE)
    assert (again["added"], again["known"], again["relabelled"]) == (1, 2, ["a"])
    assert {m.id: m.outcome for m in EpisodeStore(grown).meta} == {"a": "failure", "c": "failure"}
    assert [m.id for m in EpisodeStore(tmp_path / "two").meta] == ["b"]


def test_failures_that_are_left_out_are_not_looked_at_again_unless_somebody_judges_otherwise(
    tmp_path: Path, contract: RobotContract
) -> None:
    bags, grown = tmp_path / "bags", tmp_path / "all"
    for name, outcome in (("good", "success"), ("bad", "failure"), ("misjudged", "failure")):
        make_bag(bags, contract, name, outcome)

    def go_round(number: int) -> tuple[dict[str, Any], dict[str, int]]:
        earlier = [tmp_path / f"{n}" for n in range(1, number)]
        root = tmp_path / f"{number}"
        found = build_from_bags([bags], root, grown, contract, SIZE, earlier=earlier)
        counts = add_episodes([root], grown, number, contract, (), with_failures=False)
        merge_manifests(grown)
        return found, counts

    found, counts = go_round(1)
    assert (found["added"], found["known"], counts["added"], counts["failures_left_out"]) == (3, 0, 1, 2)
    label_bag(bags / "misjudged", "success", "anna")
    found, counts = go_round(2)
    assert (found["added"], found["known"], found["judged_by"]) == (1, 2, {"anna": 1})
    assert (counts["added"], counts["failures_left_out"]) == (1, 0)
    found, counts = go_round(3)
    assert (found["added"], found["known"], found["audit_problems"]) == (0, 3, {})
    assert (counts["added"], counts["failures_left_out"]) == (0, 0)
    assert sorted(m.id for m in EpisodeStore(grown).meta) == ["good", "misjudged"]


def test_a_bag_whose_episode_was_built_and_then_lost_is_built_again(tmp_path: Path, contract: RobotContract) -> None:
    bags, grown = tmp_path / "bags", tmp_path / "all"
    make_bag(bags, contract, "a", "failure")
    build_from_bags([bags], tmp_path / "1", grown, contract, SIZE)
    (shard,) = (tmp_path / "1" / "shards").iterdir()
    shard.write_bytes(shard.read_bytes()[:-1] + b"?")  # so that nothing of it could be added
    found = build_from_bags([bags], tmp_path / "2", grown, contract, SIZE, earlier=[tmp_path / "1"])
    assert (found["added"], found["known"]) == (1, 0)
    assert add_episodes([tmp_path / "2"], grown, 2, contract, ())["added"] == 1


def test_a_run_over_dds_takes_its_twins_bags_where_the_same_policy_acted(
    tmp_path: Path, contract: RobotContract, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("qt_ros.improvement.phases.run_command", lambda words, log, **options: ran.append(list(words)))
    twin = State(tmp_path / "with", settings(backend="ros"))
    for name in ("a", "b"):
        make_bag(twin.round_folder(1) / "bags", contract, name, "failure")
    theirs = Round(1, twin.settings.checkpoint, twin.settings.checkpoint_id)
    twin.rounds.append(theirs)
    own = State(tmp_path / "without", settings(backend="ros", with_failures=False))
    own.folder.mkdir()
    context, this = Context(own, twin=twin.folder), Round(1, theirs.policy, theirs.policy_id)

    twin.save()  # its collection is not finished: bags may be in the making
    with pytest.raises(ImprovementError, match="no judged episode"):
        collect_episodes(context, this)
    theirs.phases["collect"] = {"episodes": 2, "commands": []}
    twin.save()
    with pytest.raises(ImprovementError, match="no judged episode"):
        collect_episodes(context, Round(1, theirs.policy, "another policy"))
    assert len(ran) == 2 and not (own.round_folder(1) / "bags").exists()

    assert collect_episodes(context, this) == {"episodes": 2, "commands": []} and len(ran) == 2
    found = take_bags(context, this)
    assert (found["added"], found["left_out"]) == (2, {})
    assert sorted(m.id for m in EpisodeStore(own.round_folder(1) / "recorded").meta) == ["a", "b"]


def test_only_whole_judged_bags_of_known_scenes_count(tmp_path: Path, contract: RobotContract) -> None:
    assert judged_bags(tmp_path / "bags") == 0
    make_bag(tmp_path / "bags", contract, "a", "failure")
    make_bag(tmp_path / "bags", contract, "b", "unknown")
    (make_bag(tmp_path / "bags", contract, "c", "success") / "metadata.yaml").unlink()
    assert judged_bags(tmp_path / "bags") == 1
