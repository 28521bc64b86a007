from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_checkpoint import make_checkpoint

from qt_ros.contract.robot import load_contract
from qt_ros.control.policy import Decision
from qt_ros.episodes.store import EpisodeStore
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import Plan
from qt_ros.sim.exploring import Explorer
from qt_ros.sim.flaws import CLEAN, NoiseSpec

SPACE = load_contract("mobile_manipulator").action_space
MOTION = [SPACE.index(name) for name in ("dx", "dy", "dz")]
GRIPPER = SPACE.index("gripper")
OTHERS = [i for i in range(SPACE.size) if i not in (*MOTION, GRIPPER)]


def decision(terminate: bool = False) -> Decision:
    values = np.linspace(SPACE.low, SPACE.high, 7)[2]
    values[SPACE.index("terminate")] = float(terminate)
    return Decision(values, SPACE.encode(values), np.zeros(SPACE.size, np.float32), None, 0.3, terminate)


def explored(noise: NoiseSpec, steps: int = 4000, seed: int = 0) -> np.ndarray:
    explorer = Explorer(SPACE, noise, np.random.default_rng(seed))
    return np.array([explorer.disturb(decision()).values for _ in range(steps)])


def test_a_burst_is_one_motion_of_the_tool_over_some_steps_and_as_frequent_as_asked() -> None:
    values = explored(NoiseSpec(burst=0.1, burst_steps=3))
    asked = decision().values
    moved = (values[:, MOTION] != asked[MOTION]).any(axis=1)
    assert np.array_equal(values[:, OTHERS + [GRIPPER]], np.tile(asked[OTHERS + [GRIPPER]], (len(values), 1)))
    assert (SPACE.low[MOTION] <= values[:, MOTION]).all() and (values[:, MOTION] <= SPACE.high[MOTION]).all()
    begun = moved & np.r_[True, (np.diff(values[:, MOTION], axis=0) != 0).any(axis=1)]
    kinds = len(np.unique(values[moved][:, MOTION], axis=0))
    assert kinds == begun.sum(), "the same motion for as long as a burst lasts"
    assert 1.8 < moved.sum() / kinds < 2.2, "one to three steps"
    free = len(values) - moved.sum() + kinds  # steps at which a burst could begin
    assert 0.085 < kinds / free < 0.115


def test_the_fingers_turn_round_as_often_as_asked_and_a_decision_to_end_stays() -> None:
    values, asked = explored(NoiseSpec(flip=0.05)), decision().values
    turned = values[:, GRIPPER] != asked[GRIPPER]
    assert 0.035 < turned.mean() < 0.065
    assert np.allclose(values[turned, GRIPPER], 1.0 - asked[GRIPPER])
    explorer = Explorer(SPACE, NoiseSpec(burst=1.0, flip=1.0), np.random.default_rng(0))
    assert explorer.disturb(end := decision(terminate=True)) is end


def test_the_same_seed_gives_the_same_disturbances_and_the_policys_decision_is_not_changed() -> None:
    noise = NoiseSpec(burst=0.2, flip=0.1)
    assert np.array_equal(explored(noise, 50), explored(noise, 50))
    assert not np.array_equal(explored(noise, 50), explored(noise, 50, seed=1))
    given = decision()
    Explorer(SPACE, NoiseSpec(burst=1.0), np.random.default_rng(0)).disturb(given)
    assert np.array_equal(given.values, decision().values)


def test_what_is_recorded_is_what_was_executed(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "still", {"terminate": 0.0})
    actions = {}
    for name, noise in (("greedy", None), ("clean", CLEAN), ("explored", NoiseSpec(burst=0.5))):
        collect(Plan("policy", (0,), tmp_path / name, tmp_path / "still", noise=noise, max_steps=8), workers=0)
        episode = EpisodeStore(tmp_path / name).episode(0)
        assert episode.source == "autonomous"
        actions[name] = episode.actions
    assert np.array_equal(actions["greedy"], actions["clean"])
    moved = (actions["explored"][:, MOTION] != actions["greedy"][:, MOTION]).any(axis=1)
    assert 0 < moved.sum() < len(moved)
    assert np.allclose(actions["explored"], SPACE.decode(SPACE.encode(actions["explored"].astype(float))), atol=1e-6)


def test_settings_that_are_no_noise_are_named() -> None:
    assert CLEAN.changed(("burst=0.1", "burst_steps=2")) == NoiseSpec(burst=0.1, burst_steps=2)
    for entry, told in (("wobble=1", "KEY one of"), ("burst=2", "between 0 and 1"), ("flip=x", "no float")):
        with pytest.raises(ValueError, match=told):
            CLEAN.changed((entry,))
