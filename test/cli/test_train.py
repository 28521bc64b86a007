"""`qt-ros pretrain`, `train` and `evaluate` as they are typed, on a tiny store and a tiny model."""

from __future__ import annotations

import io
import json
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from episode_factory import make_episode
from range_server import serving
from small_checkpoint import make_checkpoint

from qt_ros.cli.main import main
from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import StoreWriter
from qt_ros.model.checkpoint import load_checkpoint, read_info

SIZE = (24, 32)
SMALL = {
    "image_height": 24, "image_width": 32, "vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2,
    "token_learner_hidden": 8, "layers": 1, "width": 16, "heads": 2, "head_dim": 8,
}  # fmt: skip


@pytest.fixture(autouse=True)
def signal_handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("data") / "store"
    contract = load_contract("mobile_manipulator")
    points = np.full((5, 2, 3), 0.5, np.float32)
    with StoreWriter(root, contract, image_size=SIZE) as writer:
        for number in range(4):
            text = f"pick up the {('cup', 'can')[number % 2]}"
            writer.add(make_episode(contract, number, size=SIZE, keypoints=points, instruction=text))
    return root


@pytest.fixture(scope="module")
def warm(store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Output folder of a warm-up of two steps."""
    out = tmp_path_factory.mktemp("runs") / "warm"
    assert main(["pretrain", "--store", str(store), "--out", str(out), "--steps", "2", *SETTINGS, *model()]) == 0
    return out


SETTINGS = ["--batch", "2", "--threads", "1", "--seed", "3", "--json"]


def model(prefix: str = "", **changes: object) -> list[str]:
    """`--set` for every field of the tiny model."""
    return [word for key, value in {**SMALL, **changes}.items() for word in ("--set", f"{prefix}{key}={value}")]


def train(store: Path, out: Path, *more: str, steps: int = 4) -> list[str]:
    settings = {"gradient_steps": steps, "batch": 2, "log_every": 1, "save_every": 3}
    changed = [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]
    return ["train", "--store", str(store), "--out", str(out), "--json", *changed, *more]


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(folder)[0].state_dict()


class InterruptedOutput(io.StringIO):
    """Standard output at which somebody presses Ctrl-C when the first line appears."""

    def write(self, text: str) -> int:
        written = super().write(text)
        if "\n" in text and self.getvalue().count("\n") == 1:
            signal.raise_signal(signal.SIGINT)
        return written


def interrupt(command: list[str], monkeypatch: pytest.MonkeyPatch) -> list[dict[str, float]]:
    """Run ``command``, interrupted after its first report; returns the reports."""
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdout", output := InterruptedOutput())
        assert main(command) == 130
    return [json.loads(line) for line in output.getvalue().splitlines()]


def test_the_warm_up_makes_a_checkpoint_that_training_starts_from(warm: Path) -> None:
    info = read_info(warm / "checkpoint")
    assert (info.provenance["kind"], info.provenance["gradient_steps"]) == ("pointing", 2)
    assert info.provenance["settings"]["seed"] == 3
    assert info.config.image_height == 24 and info.text_encoder == "minilm"


def test_an_interrupted_warm_up_goes_on_to_the_same_weights(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def command(out: Path) -> list[str]:
        return ["pretrain", "--store", str(store), "--out", str(out), "--steps", "60", *SETTINGS, *model()]

    assert main(command(tmp_path / "whole")) == 0
    assert [r["step"] for r in interrupt(command(tmp_path / "halved"), monkeypatch)] == [50]
    assert main(command(tmp_path / "halved")) == 0
    whole, halved = weights(tmp_path / "whole" / "checkpoint"), weights(tmp_path / "halved" / "checkpoint")
    assert all(torch.equal(whole[name], halved[name]) for name in whole)


def test_an_interrupted_training_goes_on_to_the_same_weights(
    store: Path, warm: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    more = ["--init", str(warm / "checkpoint"), *model("model.")]
    assert main(train(store, tmp_path / "whole", *more)) == 0
    reports = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [r["step"] for r in reports] == [1, 2, 3, 4]
    assert {"loss", "value_spread", "value_spread_steps"} <= reports[0].keys()

    stopped = interrupt(train(store, tmp_path / "halved", *more), monkeypatch)
    assert [r["step"] for r in stopped] == [1]
    assert "the same command goes on" in capsys.readouterr().err
    assert read_info(tmp_path / "halved" / "checkpoint").provenance["gradient_steps"] == 1
    assert main(train(store, tmp_path / "halved", *more)) == 0
    assert [json.loads(line)["step"] for line in capsys.readouterr().out.splitlines()] == [2, 3, 4]
    whole, halved = weights(tmp_path / "whole" / "checkpoint"), weights(tmp_path / "halved" / "checkpoint")
    assert all(torch.equal(whole[name], halved[name]) for name in whole)
    info = read_info(tmp_path / "whole" / "checkpoint")
    assert info.provenance["init"] == read_info(warm / "checkpoint").id
    assert len(info.provenance["stores"][0]["manifest_sha256"]) == 64
    assert main(train(store, tmp_path / "halved", *more)) == 0
    again = capsys.readouterr()
    told = f"finished at step 4, nothing was left to do; checkpoint: {tmp_path / 'halved' / 'checkpoint'}"
    assert (again.out, told in again.err) == ("", True)


def test_frozen_vision_without_a_start_is_refused_before_anything_is_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(tmp_path / "no store", tmp_path / "run", *model("model."))) == 2
    told = capsys.readouterr().err
    assert "freeze_vision" in told and "--init runs/warm/checkpoint" in told
    assert not (tmp_path / "run").exists()


def test_an_unknown_method_is_told_which_there_are(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(train(tmp_path / "no store", tmp_path / "run", "--method", "ppo")) == 2
    told = capsys.readouterr().err
    assert "--method must be one of q_transformer, rt1_bc" in told and "'ppo'" in told


def test_the_paper_code_path_trains_from_random_weights_with_batch_statistics(store: Path, tmp_path: Path) -> None:
    fields = {
        "image_height": 24, "image_width": 32, "vision": "efficientnet_b0", "batch_norm": "batch", "history": 2,
        "vision_channels": 16, "tokens_per_frame": 2, "layers": 1, "width": 16, "heads": 2, "head_dim": 8,
    }  # fmt: skip
    changed = [word for key, value in fields.items() for word in ("--set", f"model.{key}={value}")]
    more = ["--config", "paper", "--set", "image_shift=2", *changed]
    assert main(train(store, tmp_path / "run", *more, steps=2)) == 0
    info = read_info(tmp_path / "run" / "checkpoint")
    assert (info.preset, info.provenance["gradient_steps"]) == ("paper", 2)


def test_the_paper_preset_does_not_shrink_to_a_store_of_small_pictures(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(store, tmp_path / "run", "--config", "paper")) == 2
    assert "collect --image-size 300x300" in capsys.readouterr().err


def test_an_untrained_checkpoint_is_evaluated(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_checkpoint(tmp_path / "untrained", {"terminate": 1.0})
    assert main(["evaluate", str(tmp_path / "untrained"), "--episodes", "2", "--workers", "0", "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert (document["success"], document["episodes"], document["seed"]) == (0, 2, 2_000_000)
    assert document["scenes"] == "test"
    assert [r["reason"] for r in document["results"]] == ["terminate"] * 2
    again = ["evaluate", str(tmp_path / "untrained"), "--episodes", "1", "--workers", "0", "--seed"]
    for seed, told in ((1_999_999, "scenes 1999999 to 1999999: tuning, to choose by"), (2_000_000, "test, to report")):
        assert main([*again, str(seed)]) == 0
        assert told in capsys.readouterr().out


def test_a_warm_up_is_no_policy_to_evaluate(warm: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(warm / "checkpoint"), "--episodes", "1", "--workers", "0"]) == 2
    assert "it is no policy yet" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["pretrain", "train"])
def test_whoever_learns_from_tuning_or_test_scenes_is_warned_once_for_each_store(
    store: Path, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    contract = load_contract("mobile_manipulator")
    points = np.full((5, 2, 3), 0.5, np.float32)
    with StoreWriter(tmp_path / "mixed", contract, image_size=SIZE) as writer:
        for number, seed in enumerate((None, 999_999, 1_000_000, 2_000_000, 2_000_001)):
            writer.add(make_episode(contract, number, size=SIZE, keypoints=points, seed=seed))
    words = ["--store", str(store), *(["--steps", "2", *SETTINGS, *model()] if command == "pretrain" else [])]
    if command == "train":
        words = train(store, tmp_path / "out", "--set", "freeze_vision=false", *model("model."), steps=2)[1:]
    assert main([command, "--out", str(tmp_path / "out"), "--store", str(tmp_path / "mixed"), *words]) == 0
    told = capsys.readouterr().err
    assert f"WARNING {tmp_path / 'mixed'}: of its 5 episodes are 1 in tuning scenes and 2 in test scenes." in told
    assert told.count("WARNING") == 1, "the other store holds training scenes alone"


def test_of_streamed_stores_it_is_said_that_scenes_are_not_checked(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(train(store, tmp_path / "out", "--stream", "--set", "freeze_vision=false", *model("model."))) == 0
    assert "not checked for episodes in tuning and test scenes" in capsys.readouterr().err


@pytest.mark.parametrize(("method", "failures", "told"), [
    ("q_transformer", 0, True), ("q_transformer", 1, False), ("rt1_bc", 0, False),
])  # fmt: skip
def test_a_method_that_learns_values_says_that_nothing_fails(
    method: str, failures: int, told: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with StoreWriter(tmp_path / "store", load_contract("mobile_manipulator"), image_size=SIZE) as writer:
        for number in range(3):  # made with an odd number, an episode is a success
            writer.add(make_episode(load_contract("mobile_manipulator"), 2 * number + (number >= failures), size=SIZE))
    more = ["--method", method, "--set", "freeze_vision=false", *model("model.")]
    assert main(train(tmp_path / "store", tmp_path / "out", *more, steps=1)) == 0
    assert ("all 3 episodes are successes: q_transformer sees no action fail" in capsys.readouterr().err) is told


def losses(capsys: pytest.CaptureFixture[str]) -> list[float]:
    return [json.loads(line)["loss"] for line in capsys.readouterr().out.splitlines()]


def test_a_run_can_be_streamed_from_a_folder_or_a_server_with_the_same_losses(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fresh = ["--set", "freeze_vision=false", *model("model.")]
    assert main(train(store, tmp_path / "memory", "--in-memory", *fresh)) == 0
    wanted = losses(capsys)
    assert main(train(store, tmp_path / "streamed", "--stream", "--cache-mb", "1", *fresh)) == 0
    assert losses(capsys) == wanted and len(wanted) == 4
    cache = ["--cache", str(tmp_path / "cache")]
    with serving(store) as server:
        for name, how in (("url", "--stream"), ("copy", "--in-memory")):
            command = train(store, tmp_path / name, how, *cache, *fresh)
            command[command.index("--store") + 1] = server.url
            assert main(command) == 0
            assert losses(capsys) == wanted
    assert list((tmp_path / "cache" / "stores").glob("*/copy/store.json"))
    provenance = read_info(tmp_path / "url" / "checkpoint").provenance
    assert provenance["episodes"] == 4 and provenance["stores"][0]["skipped_shards"] == 0


def test_a_weight_for_one_store_and_none_for_another_is_refused(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    more = ["--store", f"{store}=2", "--set", "freeze_vision=false", *model("model.")]
    assert main(train(store, tmp_path / "run", *more)) == 2
    assert "give all of them one (PATH=WEIGHT)" in capsys.readouterr().err
    mixed = ["--set", "freeze_vision=false", *model("model.")]
    command = train(store, tmp_path / "run", *mixed)
    command[command.index("--store") + 1] = f"{store}=2"
    assert main(command) == 0
