"""Is a method that scores near zero broken, or right to? Three tasks of two steps, small enough to know the answer.

    start   one action, rarely tried   -> "skill";  anything else -> "luck"
    skill   one action, rarely tried   -> success, always;  anything else -> failure
    luck    any action                 -> success with a chance that differs between the tasks

``skill``: luck never helps, so whoever learns from successes at all ends with 100%, and cloning everything with 0%.
``luck``: it helps in 35%, and most successes came that way. That skill is better shows only to somebody who asks what
the best action there is worth, and backs that up to the start: Q-learning reaches 100%, imitation stays at 35%. QT-Opt
alone may not, because nothing keeps it from actions that nobody tried.
``covered``: as luck, but every action was tried, and neighbours of the right one do as well: QT-Opt's own task.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.methods import model_fields
from qt_ros.learning.targets import monte_carlo_returns
from qt_ros.learning.trainer import Trainer
from qt_ros.model.acting import act, network_class
from qt_ros.model.config import ModelConfig

START, SKILL, LUCK = range(3)
DIMS, BINS, GAMMA, TEXT = 2, 5, 0.9, 8
RIGHT = {START: (1, 3), SKILL: (4, 1)}
SETTINGS: dict[str, Any] = {
    "model": {}, "gradient_steps": 300, "batch": 64, "learning_rate": 5e-3, "warmup_steps": 1, "ema_decay": 0.95,
    "weight_decay": 0.0, "log_every": 300, "save_every": 300, "threads": 1,
}  # fmt: skip
_STEP = {"backup": {"gamma": GAMMA, "to_next_step": True}}
_WHOLE = {"backup": {"gamma": GAMMA, "monte_carlo": False}}
METHODS: dict[str, dict[str, Any]] = {
    "q_transformer": {**_STEP, "loss": {"td": "cross_entropy", "alpha": 0.05}},
    "q_transformer/one_step": {  # values have twice as far to come, so it is given twice the steps
        "backup": {"gamma": GAMMA},
        "loss": {"td": "cross_entropy", "alpha": 0.05},
        "gradient_steps": 600,
    },
    "q_transformer/squared_error": {**_STEP, "loss": {"td": "mse", "alpha": 0.05}},
    "q_transformer/hl_gauss": {**_STEP, "loss": {"td": "hl_gauss", "alpha": 0.05}},
    "cql": {**_STEP, "options": {"alpha": 0.05}},
    "iql": {**_WHOLE, "options": {"expectile": 0.8, "beta": 20.0}},
    "aw_opt": {**_WHOLE, "options": {"beta": 20.0, "second_target_every": 50}},
    "qt_opt": {**_WHOLE, "options": {"second_target_every": 50}},
    "rt1_bc/successes": {},
    "rt1_bc/everything": {"options": {"episodes": "all"}},
    "decision_transformer": {},
}
"""What is trained, by name, with settings beyond SETTINGS. They are the tasks', not those of the picking experiment."""


@dataclass(frozen=True)
class SanityTask:
    """``lucky``: chance of success by luck. ``covered``: actions were drawn uniformly, and a bin beside the right one
    does as well."""

    name: str
    lucky: float
    covered: bool = False
    episodes: int = 600

    def data(self, seed: int = 0) -> TrainingData:
        """Recorded episodes of two steps; the state is one-hot, as privileged numbers."""
        rng = np.random.default_rng(seed)
        states, bins, success = [], [], []
        for _ in range(self.episodes):
            first = self._action(rng, START, 0.2, (2, 0))
            good = self.right(START, first)
            second = self._action(rng, SKILL, 0.3, (0, 2)) if good else self._action(rng, LUCK, 0.0, (2, 2))
            states += [START, SKILL if good else LUCK]
            bins += [first, second]
            success.append(self.right(SKILL, second) if good else bool(rng.random() < self.lucky))
        return _recorded(np.array(states), np.array(bins, np.int64), np.array(success))

    def right(self, state: int, action: tuple[int, ...]) -> bool:
        """Whether ``action`` is the rare good one of ``state``."""
        return all(abs(a - b) <= int(self.covered) for a, b in zip(action, RIGHT[state], strict=True))

    def chance(self, choose: Callable[[int], tuple[int, ...]]) -> float:
        """Of success, exactly, of a policy that maps states to actions."""
        if not self.right(START, choose(START)):
            return self.lucky
        return 1.0 if self.right(SKILL, choose(SKILL)) else 0.0

    def _action(self, rng: np.random.Generator, state: int, share: float, usual: tuple[int, int]) -> tuple[int, ...]:
        if self.covered:
            return tuple(int(b) for b in rng.integers(0, BINS, DIMS))
        return RIGHT[state] if share and rng.random() < share else usual


TASKS = (SanityTask("skill", 0.0), SanityTask("luck", 0.35), SanityTask("covered", 0.35, True, 2000))


def _recorded(states: NDArray[np.int64], bins: NDArray[np.int64], success: NDArray[np.bool_]) -> TrainingData:
    episodes = len(success)
    rewards = np.stack((np.zeros(episodes), success), 1).astype(np.float32)
    count = 2 * episodes
    return TrainingData(
        images=None,
        proprio=np.zeros((count, 0), np.float32),
        bins=bins,
        rewards=rewards.reshape(-1),
        returns=np.concatenate([monte_carlo_returns(r, GAMMA) for r in rewards]),
        remaining=np.tile([1, 0], episodes).astype(np.int64),
        terminated=np.ones(count, np.bool_),
        text=np.zeros(count, np.int64),
        keypoints=np.full((count, 2, 3), np.nan, np.float32),
        lengths=np.full(episodes, 2, np.int64),
        success=success,
        instructions=["win"],
        privileged=np.eye(3, dtype=np.float32)[states],
    )


def trained(task: SanityTask, name: str, folder: Path, seed: int = 0, **changes: Any) -> Trainer:
    """A trainer of the method ``name`` (a key of METHODS) that has run to its end on the task's data."""
    method = name.split("/")[0]
    settings = {**SETTINGS, **METHODS[name], "method": method, "seed": seed, **changes}
    config = TrainConfig.from_dict(settings, f"sanity task, {name}")
    fields: dict[str, Any] = {
        "vision": "state", "state_size": 3, "tokens_per_frame": 2, "history": 1, "width": 16, "heads": 2, "head_dim": 8,
        "layers": 1, "action_dims": DIMS, "bins": BINS, "proprio_size": 0, "text_size": TEXT, **model_fields(method),
    }  # fmt: skip
    if config.loss.td == "hl_gauss":
        fields |= {"value_head": "hl_gauss", "value_atoms": 21}
    torch.manual_seed(seed)
    model = network_class(method)(ModelConfig.from_preset("small", **fields))
    trainer = Trainer(model, task.data(), torch.zeros(1, TEXT), config, folder)
    trainer.run(lambda entry: None)
    return trainer


def chance_of_success(task: SanityTask, trainer: Trainer) -> float:
    """Of the trained network's greedy policy, exactly."""
    assert isinstance(trainer.data, TrainingData) and trainer.data.privileged is not None
    states = trainer.data.privileged.argmax(1)
    network = trainer.acting.eval()

    def choose(state: int) -> tuple[int, ...]:
        window = trainer.batches.plain_window(network, np.flatnonzero(states == state)[:1])
        return tuple(act(network, trainer.config.acting, *window.seen).bins[0].tolist())

    return task.chance(choose)


PAIRS = [(task, name) for name in METHODS for task in TASKS if not task.covered or name == "qt_opt"]
"""What is trained on what. The covered task is for QT-Opt, which cannot do the others."""


def expected(task: SanityTask, name: str) -> float | None:
    """What a sound implementation reaches; None where that says nothing about it."""
    if name == "qt_opt":
        return 1.0 if task.covered else None
    if name == "rt1_bc/everything":
        return task.lucky
    if task.name == "skill":
        return 1.0
    return task.lucky if name.startswith(("rt1_bc", "decision_transformer")) else 1.0


def document(chances: Mapping[tuple[str, str], float], origin: Mapping[str, Any], seed: int = 0) -> dict[str, Any]:
    """For JSON: a row for each (task, method). ``origin``: commit, source and machine."""
    rows = [
        {"task": task.name, "method": name, "chance": chances[task.name, name], "expected": expected(task, name)}
        for task, name in PAIRS
        if (task.name, name) in chances
    ]
    return {"schema": 1, "seed": seed, **origin, "sanity": rows}
