from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("rclpy", reason="no ROS here")

from bag_factory import custom_data, episode, write_bag  # noqa: E402
from episode_factory import make_episode  # noqa: E402

from qt_ros.cli.main import main  # noqa: E402
from qt_ros.contract.robot import load_contract  # noqa: E402
from qt_ros.episodes.bag import read_metadata  # noqa: E402
from qt_ros.episodes.store import StoreWriter  # noqa: E402


@pytest.fixture(autouse=True)
def wide_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "300")


@pytest.fixture
def bags(tmp_path: Path) -> Path:
    contract = load_contract("mobile_manipulator")
    for name, outcome in (("a", "success"), ("b", "failure")):
        write_bag(tmp_path / name, episode(contract, name, steps=2), custom_data(contract, name, outcome))
    return tmp_path


def run(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[int, str, str]:
    status = main(["episodes", *map(str, words)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def run_json(capsys: pytest.CaptureFixture[str], *words: object) -> Any:
    status, out, err = run(capsys, *words, "--json")
    assert status == 0, err
    return json.loads(out)


def test_ls_lists_every_bag_also_a_broken_one(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bags / "b" / "metadata.yaml").unlink()
    rows = run_json(capsys, "ls", bags)
    assert [(Path(r["bag"]).name, r["outcome"], bool(r["problem"])) for r in rows] == [
        ("a", "success", False),
        ("b", "unknown", True),
    ]
    status, out, _ = run(capsys, "ls", bags)
    assert status == 0 and "pick up" in out and "2 episodes, 1 successes" in out


def test_ls_lists_the_episodes_of_a_store_by_the_ids_that_label_takes(
    bags: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    contract, store = load_contract("mobile_manipulator"), bags / "store"
    with StoreWriter(store, contract, (24, 32)) as writer:
        for number in range(2):
            writer.add(make_episode(contract, number))
    rows = run_json(capsys, "ls", store)
    assert [set(row) for row in rows] == [{"store", "episode_id", "instruction", "outcome", "seed", "steps"}] * 2
    first = rows[0]["episode_id"]
    before = rows[0]["outcome"]
    status, _, err = run(capsys, "label", store, "failure", "--episode", "nobody", "--by", "anna")
    assert status == 2 and f"qt-ros episodes ls {store}" in err
    after = "failure" if before == "success" else "success"
    assert run(capsys, "label", store, after, "--episode", first, "--by", "anna")[0] == 0
    assert run_json(capsys, "ls", store)[0] == {**rows[0], "outcome": after}
    monkeypatch.setenv("COLUMNS", "60")
    status, out, _ = run(capsys, "ls", store)
    assert status == 0 and all(row["episode_id"] in out for row in rows) and "2 episodes" in out
    status, _, err = run(capsys, "ls", store, bags / "a")
    assert status == 2 and "training store" in err


def test_info_shows_a_bag_and_a_store(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shown = run_json(capsys, "info", bags / "a")
    assert shown["outcome"] == "success" and shown["custom_data"]["qt_ros.seed"] == "7"
    assert {t["name"] for t in shown["topics"]} >= {"/policy_action", "/joint_states"}
    assert "sensor_msgs/msg/Image" in run(capsys, "info", bags / "a")[1]
    run_json(capsys, "build", bags, "--store", bags / "store")
    shown = run_json(capsys, "info", bags / "store")
    assert (shown["episodes"], shown["steps"], shown["successes"]) == (2, 4, 1)
    assert shown["instructions"] == {"pick up the red cube": {"episodes": 2, "successes": 1}}
    assert "pick up the red cube" in run(capsys, "info", bags / "store")[1]


def test_audit_finds_nothing_wrong_and_fails_in_strict_mode_when_it_does(
    bags: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    audits = run_json(capsys, "audit", bags)
    assert [a["problems"] for a in audits] == [[], []]
    assert run(capsys, "audit", bags, "--strict")[0] == 0
    assert run(capsys, "label", bags / "a", "unknown")[0] == 0
    status, out, _ = run(capsys, "audit", bags, "--strict")
    assert status == 1 and "no outcome" in out


def test_build_reports_what_it_added_and_left_out(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bags / "b" / "metadata.yaml").unlink()
    report = run_json(capsys, "build", bags, "--store", bags / "store", "--height", "24", "--width", "32")
    assert report["added"] == ["a"] and list(report["skipped"]) == [str(bags / "b")]
    status, out, _ = run(capsys, "build", bags, "--store", bags / "store", "--height", "24", "--width", "32")
    assert status == 0 and "left out" in out and "1 were there" in out


def test_build_leaves_tuning_and_test_scenes_out_unless_told_otherwise(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = load_contract("mobile_manipulator")
    for name, seed in (("robot", ""), ("training", "999999"), ("tuning", "1000000"), ("test", "2000007")):
        data = {**custom_data(contract, name), "qt_ros.seed": seed}
        write_bag(tmp_path / "bags" / name, episode(contract, name, steps=2), data)
    build = ["build", tmp_path / "bags", "--height", "24", "--width", "32", "--store"]
    report = run_json(capsys, *build, tmp_path / "store")
    assert sorted(report["added"]) == ["robot", "training"] and report["outside_training"] == 2
    assert "scene 1000000 is a tuning scene" in report["skipped"][str(tmp_path / "bags" / "tuning")]
    assert "scene 2000007 is a test scene" in report["skipped"][str(tmp_path / "bags" / "test")]
    status, out, _ = run(capsys, *build, tmp_path / "store")
    assert status == 0 and "2 left out" in out and "2 of them are in tuning or test scenes" in out
    report = run_json(capsys, *build, tmp_path / "store", "--any-seed")
    assert sorted(report["added"]) == ["test", "tuning"] and report["skipped"] == {}


def test_recover_mends_what_was_cut(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (bags / "b" / "metadata.yaml").unlink()
    (bags / "c").mkdir()
    (bags / "c" / "c_0.mcap").write_bytes(b"rubbish")
    status, out, _ = run(capsys, "recover", bags)
    assert status == 1 and "not recovered" in out and "3 bags, 2 needed it" in out
    assert read_metadata(bags / "b").custom_data["qt_ros.outcome"] == "failure"


def test_labels_that_disagree_are_all_kept_and_the_later_holds(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(capsys, "label", bags / "a", "failure", "--by", "anna", "--comment", "it slid off")[0] == 0
    given = run_json(capsys, "label", bags, "success", "--episode", "a", "--by", "bert")
    assert (given["episode_id"], given["outcome"], given["by"]) == ("a", "success", "bert")
    history = run_json(capsys, "labels", bags / "a")
    assert [(h["outcome"], h["by"]) for h in history] == [
        ("success", "recorder"),
        ("failure", "anna"),
        ("success", "bert"),
    ]
    assert (
        history == run_json(capsys, "info", bags / "a")["labels"] == run_json(capsys, "audit", bags / "a")[0]["labels"]
    )
    status, out, _ = run(capsys, "labels", bags / "a")
    assert status == 0 and "it slid off" in out and "anna" in out


def test_a_label_reaches_the_stores_that_have_the_episode(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = bags / "store"
    run_json(capsys, "build", bags, "--store", store)
    run_json(capsys, "label", bags / "b", "success", "--by", "anna", "--store", store)
    assert run_json(capsys, "info", store)["successes"] == 2
    run_json(capsys, "label", store, "failure", "--by", "bert", "--episode", "b")
    shown = run_json(capsys, "info", store)
    assert (shown["successes"], shown["labels"]) == (1, 3)
    assert [h["by"] for h in run_json(capsys, "labels", store, "--episode", "b")] == [
        "store",
        "recorder",
        "anna",
        "bert",
    ]


def test_bad_labels_are_refused_and_change_nothing(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(capsys, "build", bags / "a", "--store", bags / "store")
    before = {p: p.read_bytes() for p in bags.rglob("*") if p.is_file()}
    for told, words in {
        "none of": ["label", bags / "a", "great"],
        "name of the person": ["label", bags / "a", "success", "--by", " "],
        "no bag is here": ["label", bags / "z", "success"],
        "is not in": ["label", bags, "success", "--episode", "z"],
        "no episode id": ["label", bags / "a", "success", "--episode", "../a"],
        "no episode 'b'": ["label", bags / "b", "success", "--by", "anna", "--store", bags / "store"],
        "no episode 'z'": ["label", bags / "store", "success", "--episode", "z"],
        "name its episode": ["label", bags / "store", "success"],
    }.items():
        status, _, err = run(capsys, *words)
        assert status == 2 and told in " ".join(err.replace("│", " ").split()), err
    after = {p: p.read_bytes() for p in bags.rglob("*") if p.is_file()}
    assert after == before


def test_merge_finishes_an_interrupted_store(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(capsys, "build", bags, "--store", bags / "store")
    (bags / "store" / "store.json").unlink()
    status, out, _ = run(capsys, "merge", bags / "store")
    assert status == 0 and "2 episodes" in out


def test_errors_are_one_line_without_a_traceback(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words in (["ls", tmp_path / "none"], ["info", tmp_path], ["merge", tmp_path]):
        status, _, err = run(capsys, *words)
        assert status == 2 and err.startswith("qt-ros: ") and err.count("\n") == 1


@pytest.mark.parametrize("command", ["", "ls", "info", "audit", "build", "recover", "label", "labels", "merge"])
def test_every_command_explains_itself_with_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = run(capsys, *([command] if command else []), "--help")
    assert status == 0
    assert "Example: qt-ros episodes" in out or not command


def test_a_store_is_indexed_and_a_damaged_shard_named(bags: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_json(capsys, "build", bags, "--store", bags / "store")
    shown = run_json(capsys, "index", bags / "store")
    assert (shown["episodes"], shown["steps"], shown["damaged_shards"]) == (2, 4, [])
    assert (bags / "store" / "index" / "index.json").is_file()
    assert "2 episodes, 4 steps" in run(capsys, "index", bags / "store")[1]
    contract = load_contract("mobile_manipulator")
    with StoreWriter(bags / "store", contract, (96, 128), prefix="late") as writer:
        writer.add(make_episode(contract, 3, size=(96, 128)))
    late = bags / "store" / "shards" / "late-00000.parquet"
    sound = late.read_bytes()
    late.unlink()
    for _ in range(2):
        (shard,) = run_json(capsys, "index", bags / "store")["damaged_shards"]
        assert (shard["file"], shard["ids"], shard["problem"]) == (
            "shards/late-00000.parquet", ["episode-0003"], "file is missing"
        )  # fmt: skip
        shown = run(capsys, "index", bags / "store")[1]
        assert "1 episodes (episode-0003): file is missing" in " ".join(shown.split())
    late.write_bytes(sound)
    shown = run_json(capsys, "index", bags / "store")
    assert (shown["episodes"], shown["damaged_shards"]) == (3, [])
    late.unlink()
    (bags / "store" / "index" / "index.json").unlink()
    (bags / "store" / "shards" / "bags-00000.parquet").write_bytes(b"PAR1")
    status, _, err = run(capsys, "index", bags / "store")
    assert status == 2 and "all 2 shards are damaged" in err
