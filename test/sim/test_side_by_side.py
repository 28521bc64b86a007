"""Episodes under way at once come to the same as one by one, and one that breaks does not touch the others."""

from __future__ import annotations

from collections.abc import Generator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from qt_ros.contract.robot import load_contract
from qt_ros.control.policy import Policy, step_together
from qt_ros.model.checkpoint import save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.q_transformer import QTransformer
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.side_by_side import Running, advance
from qt_ros.sim.world import SimulationError

CONTRACT = load_contract("mobile_manipulator")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A policy with random weights that never terminates, so that every episode has the same number of steps."""
    torch.manual_seed(3)
    config = ModelConfig.from_preset(
        "small", layers=1, width=32, heads=2, head_dim=16, tokens_per_frame=2, vision_channels=8, vision_blocks=1
    )
    model = QTransformer(config).eval()
    with torch.no_grad():
        model.head_bias[0, config.bins // 2 :] = -20.0
    folder = tmp_path_factory.mktemp("policy") / "checkpoint"
    save_checkpoint(folder, model, contract=CONTRACT, text_encoder="minilm", provenance={})
    return folder


def run(checkpoint: Path, side_by_side: int, count: int) -> list[EpisodeResult]:
    seeds = tuple(range(1_000_000, 1_000_000 + count))
    found: list[EpisodeResult] = []

    def take(result: EpisodeResult, summary: Summary) -> None:
        found.append(result)

    collect(Plan("policy", seeds, checkpoint=checkpoint, max_steps=4, side_by_side=side_by_side), 0, take)
    return sorted(found, key=lambda r: r.seed)


def test_every_episode_is_run_once_and_comes_to_the_same(checkpoint: Path) -> None:
    alone, together = run(checkpoint, 1, 5), run(checkpoint, 3, 5)
    assert [r.seed for r in together] == [r.seed for r in alone] == list(range(1_000_000, 1_000_005))
    for one, other in zip(alone, together, strict=True):
        assert (one.instruction, one.outcome, one.reason, one.steps) == (
            other.instruction, other.outcome, other.reason, other.steps,
        )  # fmt: skip
        assert other.value == pytest.approx(one.value, abs=1e-5)


def test_which_others_are_there_makes_no_difference_to_the_last_bit(checkpoint: Path) -> None:
    first, again = run(checkpoint, 3, 5), run(checkpoint, 3, 2)
    assert [r.value for r in first[:2]] == [r.value for r in again]


def test_policies_together_keep_their_own_histories_and_instructions(checkpoint: Path) -> None:
    single = Policy.load(checkpoint, CONTRACT, warm_up=False)
    several = [single.beside() for _ in range(3)]
    rng = np.random.default_rng(0)
    pictures = rng.integers(0, 255, (2, 3, 96, 128, 3), dtype=np.uint8)
    words = ["pick the red cube up", "open the drawer", "pick the blue ball up"]
    home = CONTRACT.kinematics.home
    for policy, instruction in zip(several, words, strict=True):
        policy.reset(instruction)
    for step in range(2):
        decisions = step_together(several, [(picture, home, None) for picture in pictures[step]], 4)
    for index, instruction in enumerate(words):
        single.reset(instruction)
        for step in range(2):
            alone = single.step(pictures[step, index], home)
        assert alone.q_all is not None and decisions[index].q_all is not None
        np.testing.assert_allclose(decisions[index].q_all, alone.q_all, atol=1e-5)
    assert len({round(float(d.value), 6) for d in decisions}) == 3  # the three situations do differ


def test_policies_of_different_networks_do_not_step_together(checkpoint: Path) -> None:
    one, other = (Policy.load(checkpoint, CONTRACT, warm_up=False) for _ in range(2))
    with pytest.raises(ValueError, match="one network"):
        step_together([one, other], [])


def test_an_episode_whose_physics_fail_ends_alone(checkpoint: Path) -> None:
    policy = Policy.load(checkpoint, CONTRACT, warm_up=False)
    seen = (np.zeros((96, 128, 3), np.uint8), CONTRACT.kinematics.home, None)

    def episode(fails: bool) -> Generator[Any, Any, str]:
        yield seen
        if fails:
            raise SimulationError("the arm flew off")
        yield seen
        return "made"

    runs = []
    for fails in (True, False):
        one = policy.beside()
        one.reset("pick the red cube up")
        runs.append(Running(0, episode(fails), one))
    assert all(run.resume(None) for run in runs)
    advance(runs, 2)
    assert runs[0].waiting is None and str(runs[0].failed) == "the arm flew off"
    assert runs[1].waiting is not None
    advance(runs[1:], 2)
    assert runs[1].made == "made"
