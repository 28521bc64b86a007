from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import custom_data, episode, write_bag  # noqa: E402

from qt_ros.contract.robot import RobotContract  # noqa: E402
from qt_ros.episodes import bag_metadata as keys  # noqa: E402
from qt_ros.episodes.bag_labels import label_bag  # noqa: E402
from qt_ros.episodes.store import EpisodeStore  # noqa: E402
from qt_ros.improvement.experience import add_episodes, build_from_bags, judged_bags  # noqa: E402

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
    from qt_ros.episodes.store import merge_manifests

    merge_manifests(grown)

    label_bag(bags / "a", "failure", "bert")
    label_bag(bags / "b", "success", "bert")
    again = build_from_bags([bags], tmp_path / "two", grown, contract, SIZE)
    assert (again["added"], again["known"], again["relabelled"]) == (1, 2, ["a"])
    assert {m.id: m.outcome for m in EpisodeStore(grown).meta} == {"a": "failure", "c": "failure"}
    assert [m.id for m in EpisodeStore(tmp_path / "two").meta] == ["b"]


def test_only_whole_judged_bags_of_known_scenes_count(tmp_path: Path, contract: RobotContract) -> None:
    assert judged_bags(tmp_path / "bags") == 0
    make_bag(tmp_path / "bags", contract, "a", "failure")
    make_bag(tmp_path / "bags", contract, "b", "unknown")
    (make_bag(tmp_path / "bags", contract, "c", "success") / "metadata.yaml").unlink()
    assert judged_bags(tmp_path / "bags") == 1
