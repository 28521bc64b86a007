"""The latency benchmark measures what it says: one frame per step, whatever the history, and every part of the way."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from benchmarks.policy_latency import parse, run, untrained_checkpoint
from benchmarks.report import ROOT, command, emit
from qt_ros.contract.robot import load_contract

PARTS = {"prepare_ms", "encode_ms", "decode_ms", "total_ms", "decode_cached_ms", "decode_uncached_ms"}


@pytest.fixture(scope="module")
def result() -> dict[str, object]:
    return run(parse(["--history", "1", "3", "--steps", "2"]))[0]


def test_every_step_encodes_exactly_one_frame_for_any_history(result: dict) -> None:
    assert [r["history"] for r in result["policy_step"]] == [1, 3]
    assert [r["frames_encoded_per_step"] for r in result["policy_step"]] == [1.0, 1.0]
    assert [r["steps"] for r in result["policy_step"]] == [2, 2]


def test_times_are_split_into_parts_with_median_and_95th_percentile(result: dict) -> None:
    for report in result["policy_step"]:
        assert PARTS <= set(report)
        for part in PARTS:
            assert 0.0 <= report[part]["p50"] <= report[part]["p95"] <= report[part]["max"]
        assert report["no_cache_over_cache"] > 0.0
    assert set(result["growth"]) == {"total", "encode", "decode"}


def test_the_json_names_command_commit_and_machine(result: dict, tmp_path: Path) -> None:
    emit(result, [], str(tmp_path / "deep" / "out.json"))
    read = json.loads((tmp_path / "deep" / "out.json").read_text())
    assert {"benchmark", "command", "commit", "machine", "settings"} <= set(read)
    assert read["machine"]["cores"] >= 1
    assert read == json.loads(json.dumps(result))


def test_the_command_in_a_result_does_not_say_where_its_json_went() -> None:
    script = str(ROOT / "benchmarks" / "x.py")
    assert command([script, "--a", "1", "--json", "somewhere/out.json", "--b"]) == "python benchmarks/x.py --a 1 --b"
    assert command([script, "--out", "somewhere", "--a", "1", "--json", "x.json"]) == "python benchmarks/x.py --a 1"
    assert command([script, "--json"]) == "python benchmarks/x.py"


def test_json_alone_is_all_that_is_printed(result: dict, capsys: pytest.CaptureFixture[str]) -> None:
    emit(result, [], "-")
    assert json.loads(capsys.readouterr().out)["benchmark"] == "policy_latency"


@pytest.mark.graph
def test_overhead_over_dds_is_measured_on_the_real_policy_node(
    ros_domain_id: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("rclpy")
    from benchmarks.policy_over_dds import measure_ros

    for variable in ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE", "PYTHONPATH"):
        monkeypatch.setenv(variable, os.environ.get(variable, ""))  # so that what the benchmark sets is undone
    contract = load_contract("mobile_manipulator")
    checkpoint = untrained_checkpoint(tmp_path / "checkpoint", contract, "small", 2)
    report = measure_ros(checkpoint, contract, parse(["--ros", "--ros-steps", "3"]))
    assert report["steps"] == 3
    assert report["image"] == [640, 480]
    for name in ("total", "network", "overhead", "camera_to_node", "inside_node", "stamp_to_received"):
        assert report[f"{name}_ms"]["p50"] <= report[f"{name}_ms"]["p95"]
    assert report["total_ms"]["p50"] > report["network_ms"]["p50"] > 0.0
    assert report["machine_idle_cores"] >= 0.0
