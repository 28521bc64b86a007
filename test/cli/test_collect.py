from __future__ import annotations

import json
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from qt_ros.cli.main import main
from qt_ros.episodes.store import EpisodeStore


def test_collect_fills_a_store_and_prints_one_json_document(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["collect", "--out", str(tmp_path / "s"), "--episodes", "2", "--workers", "0", "--json"]
    assert main(command) == 0
    document = json.loads(capsys.readouterr().out)
    assert document["episodes"] == 2 and document["success"] == 2
    assert sum(t["episodes"] for t in document["by_target"].values()) == 2
    assert len(EpisodeStore(tmp_path / "s")) == 2
    assert main(command) == 0
    assert json.loads(capsys.readouterr().out)["skipped"] == 2


@pytest.mark.parametrize("workers", ["0", "1"])
def test_a_full_disk_is_told_with_what_to_do_and_the_same_command_goes_on(tmp_path: Path, workers: str) -> None:
    words = ["collect", "--out", str(tmp_path / "s"), "--episodes", "1", "--workers", workers, "--image-size", "24x32"]
    command = shlex.join([sys.executable, "-m", "qt_ros.cli", *words])
    # No file may have more than 16 KiB: the kernel refuses to write, as on a full disk.
    full = subprocess.run(["bash", "-c", f"ulimit -f 16; exec {command}"], capture_output=True, text=True, timeout=120)
    assert full.returncode == 2 and "Traceback" not in full.stderr
    shard = tmp_path / "s" / "shards" / "demonstration-0-00000.parquet"
    assert f"qt-ros: {shard}: cannot be written (File too large); free some space" in full.stderr
    assert not (tmp_path / "s" / "store.json").exists()
    assert main(words) == 0
    assert len(EpisodeStore(tmp_path / "s")) == 1


def test_scenes_outside_the_training_range_need_leave(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for seed, told in (("999999", "scene 1000000"), ("2000000", "scene 2000000")):
        command = ["collect", "--out", str(tmp_path / "s"), "--episodes", "2", "--workers", "0", "--seed", seed]
        assert main(command) == 2
        assert told in capsys.readouterr().err
        assert not (tmp_path / "s").exists()
    assert main([*command, "--any-seed"]) == 0
    assert [m.seed for m in EpisodeStore(tmp_path / "s").meta] == [2_000_000, 2_000_001]


def test_an_unknown_source_is_told_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--out", str(tmp_path / "s"), "--episodes", "1", "--source", "dreams"]) == 2
    captured = capsys.readouterr()
    assert "dreams" in captured.err and "demonstration" in captured.err


def test_frames_of_another_size_are_collected_on_request(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["collect", "--out", str(tmp_path / "s"), "--episodes", "1", "--workers", "0", "--image-size", "60x70"]
    assert main(command) == 0
    assert EpisodeStore(tmp_path / "s").episode(0).images.shape[1:] == (60, 70, 3)
    assert "1 episodes" in capsys.readouterr().out


@pytest.mark.parametrize("more", [["300"], ["0x9"], ["9x9", "--source", "policy", "--checkpoint", "c"]])
def test_an_image_size_that_cannot_be_meant_is_wrong_usage(tmp_path: Path, more: list[str]) -> None:
    assert main(["collect", "--out", str(tmp_path / "s"), "--episodes", "1", "--image-size", *more]) == 2
    assert not (tmp_path / "s").exists()


def test_the_noise_of_the_demonstrator_is_set_by_name(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["collect", "--out", str(tmp_path / "s"), "--episodes", "1", "--workers", "0"]
    assert main([*command, "--noise", "burst=0.2", "--noise", "burst_steps=1"]) == 0
    noise = json.loads((tmp_path / "s" / "collect.json").read_text())["noise"]
    assert (noise["burst"], noise["burst_steps"], noise["flip"]) == (0.2, 1, 0.01)
    capsys.readouterr()
    assert main(command) == 2, "a store holds episodes of one noise"
    assert "noise" in capsys.readouterr().err


@pytest.mark.parametrize(
    "more",
    [
        ["wobble=1"], ["burst"], ["burst=much"], ["burst=1.5"], ["burst=nan"], ["burst_steps=0"], ["burst_steps=1.5"],
        ["stray=0.1", "--source", "policy", "--checkpoint", "c"],
    ],
)  # fmt: skip
def test_noise_that_cannot_be_meant_is_wrong_usage(tmp_path: Path, more: list[str]) -> None:
    assert main(["collect", "--out", str(tmp_path / "s"), "--episodes", "1", "--noise", *more]) == 2
    assert not (tmp_path / "s").exists()


def test_skills_are_chosen_by_name_and_counted_each(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = ["collect", "--out", str(tmp_path / "s"), "--episodes", "4", "--workers", "0", "--image-size", "24x32"]
    assert main([*command, "--skill", "open_drawer", "--skill", "close_drawer", "--no-noise", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert set(document["by_skill"]) == {"open_drawer", "close_drawer"}
    assert sum(s["success"] for s in document["by_skill"].values()) == document["success"] == 4
    assert {m.task for m in EpisodeStore(tmp_path / "s").meta} == {"open_drawer", "close_drawer"}


@pytest.mark.parametrize("more", [["--skill", "juggle"], ["--no-noise", "--source", "noise"]])
def test_an_unknown_skill_and_noise_without_noise_are_wrong_usage(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str]
) -> None:
    assert main(["collect", "--out", str(tmp_path / "s"), "--episodes", "1", *more]) == 2
    assert more[0].strip("-") in capsys.readouterr().err
    assert not (tmp_path / "s").exists()
