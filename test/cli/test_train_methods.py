"""`qt-ros train` by every method, from images and from privileged state; what it refuses, in words."""

from __future__ import annotations

import json
import signal
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from episode_factory import make_episode

from qt_ros.cli import main as cli
from qt_ros.contract.robot import load_contract, parse_contract
from qt_ros.episodes.store import StoreWriter
from qt_ros.model.checkpoint import read_info

CONTRACT = load_contract("mobile_manipulator")
TINY = {
    "gradient_steps": 4, "batch": 4, "log_every": 2, "save_every": 2, "threads": 1, "freeze_vision": "false",
    "model.layers": 1, "model.width": 16, "model.heads": 2, "model.head_dim": 8, "model.vision_channels": 8,
    "model.vision_blocks": 1, "model.image_height": 24, "model.image_width": 32,
}  # fmt: skip


@pytest.fixture(autouse=True)
def signal_handlers_as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("train") / "store"
    rng = np.random.default_rng(0)
    with StoreWriter(root, CONTRACT, (24, 32), privileged_names=("a", "b", "c")) as writer:
        for i in range(6):
            writer.add(make_episode(CONTRACT, i, privileged=rng.normal(size=(5, 3)).astype(np.float32)))
    return root


def train(store: Path, out: Path, *words: str, **changes: object) -> int:
    settings = [f"--set={key}={value}" for key, value in {**TINY, **changes}.items()]
    return cli.main(["train", "--store", str(store), "--out", str(out), *words, *settings])


@pytest.mark.parametrize("method", ["q_transformer", "decision_transformer", "qt_opt"])
def test_a_method_trains_from_images_and_its_checkpoint_names_it(store: Path, tmp_path: Path, method: str) -> None:
    assert train(store, tmp_path, "--method", method) == 0
    info = read_info(tmp_path / "checkpoint")
    assert info.acting.name == method and info.provenance["gradient_steps"] == 4
    assert info.provenance["settings"]["method"] == method


@pytest.mark.parametrize("config", ["iql", "cross_entropy"])
def test_it_trains_from_privileged_state(
    store: Path, tmp_path: Path, config: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ("--config", f"picking/{config}", "--privileged", "--json")
    assert train(store, tmp_path, *words) == 0
    config_of = read_info(tmp_path / "checkpoint").config
    assert (config_of.vision, config_of.state_size, config_of.tokens_per_frame) == ("state", 3, 2)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]
    assert [line["step"] for line in lines] == [2, 4] and lines[0]["value_spread"] >= 0


def test_bad_input_is_told_in_words_and_leaves_no_checkpoint(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    slower = parse_contract(CONTRACT.text + "\n# slower today\n")
    with StoreWriter(tmp_path / "other", slower, (24, 32)) as writer:
        writer.add(make_episode(slower, 1))
        writer.add(make_episode(slower, 2))
    with StoreWriter(tmp_path / "failures", CONTRACT, (24, 32)) as writer:
        writer.add(make_episode(CONTRACT, 2))
    with StoreWriter(tmp_path / "successes", CONTRACT, (24, 32)) as writer:
        writer.add(make_episode(CONTRACT, 1))
    out = tmp_path / "out"
    cases = [
        ((store, out, "--method", "ppo"), "--method must be one of q_transformer, rt1_bc"),
        ((store, out, "--config", "small", "--method", "iql"), "loss settings are q_transformer's"),
        ((tmp_path / "other", out, "--method", "rt1_bc"), "made with contract"),
        ((tmp_path / "failures", out, "--method", "rt1_bc"), "none of the 1 episodes is a success"),
        ((tmp_path / "successes", out, "--method", "qt_opt"), "all 1 episodes are successes"),
        ((tmp_path / "failures", out, "--method", "iql", "--privileged"), "holds no privileged state"),
    ]
    for words, message in cases:
        assert train(*words) != 0  # type: ignore[arg-type]
        told = " ".join(capsys.readouterr().err.split())
        assert message in told and "Traceback" not in told
    assert not (out / "checkpoint").exists()
    assert train(tmp_path / "other", out, "--method", "rt1_bc", "--allow-other-contract") == 0


def test_the_same_command_goes_on_where_it_was_interrupted(store: Path, tmp_path: Path) -> None:
    words = ("--method", "iql", "--privileged")
    assert train(store, tmp_path / "whole", *words) == 0
    assert train(store, tmp_path / "part", *words) == 0
    (tmp_path / "part" / "checkpoint" / "model.safetensors").unlink()  # a finished run that lost its checkpoint
    assert train(store, tmp_path / "part", *words) == 0
    ids = [read_info(tmp_path / name / "checkpoint").id for name in ("whole", "part")]
    assert ids[0] == ids[1]
