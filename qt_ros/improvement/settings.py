"""What an improvement run is, fixed at its beginning: the same for every round, and for its twin without failures."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from qt_ros.contract.strict import build
from qt_ros.sim.flaws import CLEAN, NoiseSpec
from qt_ros.sim.seeds import TEST_SEEDS, TRAINING_SEEDS, TUNING_SEEDS
from qt_ros.sim.task_file import default_tasks

BACKENDS = ("in_process", "ros")


class ImprovementError(RuntimeError):
    """An improvement run cannot begin or go on; what it has done so far is kept. The message says what to do."""


class Interrupted(Exception):
    """Somebody asked to stop. Everything finished is on disk; the same command goes on from there."""


@dataclass(frozen=True)
class Settings:
    """One run.

    checkpoint: folder of the policy to begin with, ``checkpoint_id`` its id. stores: training stores that every round
    learns from besides its own episodes. episodes: collected per round, in scenes ``seed`` on (training range; 0: only
    bags). steps: gradient steps per round; changes: settings of training changed against the checkpoint's own, as
    ``key=value``. tasks: what is asked for in collection, choice and test of every round (empty, as in runs of before:
    the default tasks; see `asked`). choice_*: scenes of the tuning range on which each round compares old and new
    policy, other ones in every round (none: nothing is compared, and the new policy is kept). test_*: scenes of the
    test range on which the kept policies are measured in the end. noise: what disturbs the policy while it collects, as
    ``key=value`` (see `Explorer`; never in choice and test).
    with_failures: whether the new failures are learnt from. backend: 'in_process' (the policy's own code around
    the simulator) or 'ros' (the nodes, over DDS).
    """

    checkpoint: str
    checkpoint_id: str
    stores: tuple[str, ...]
    episodes: int = 500
    seed: int = 600_000
    steps: int = 3000
    changes: tuple[str, ...] = ()
    tasks: tuple[str, ...] = ()
    robot: str = "mobile_manipulator"
    choice_episodes: int = 200
    choice_seed: int = TUNING_SEEDS.start
    test_episodes: int = 300
    test_seed: int = TEST_SEEDS.start
    with_failures: bool = True
    backend: str = "in_process"
    allow_other_contract: bool = False
    noise: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise ImprovementError(f"unknown backend {self.backend!r}; use one of {', '.join(BACKENDS)}")
        for name, least in (("episodes", 0), ("steps", 1), ("choice_episodes", 0), ("test_episodes", 0)):
            if getattr(self, name) < least:
                raise ImprovementError(f"{name} must be at least {least}, found {getattr(self, name)}")
        self.disturbance()
        if self.noise and self.backend == "ros":
            raise ImprovementError("noise is for collecting in_process; through the nodes a policy acts as it decides")
        if not self.stores:
            raise ImprovementError("give at least one training store (--store): a round adds to what was known before")

    @property
    def simulated(self) -> bool:
        """Whether anything of a round happens in simulation; without, any robot's bags can be learnt from."""
        return bool(self.episodes or self.choice_episodes or self.test_episodes)

    @property
    def asked(self) -> tuple[str, ...]:
        """Names of the tasks that every phase draws from."""
        return self.tasks or default_tasks()

    def disturbance(self) -> NoiseSpec:
        """What ``noise`` says; ImprovementError when it is wrong."""
        try:
            noise = CLEAN.changed(self.noise)
            noise.require_for_policy()
        except ValueError as error:
            raise ImprovementError(f"--noise: {error}") from error
        return noise

    def training_seeds(self, number: int) -> range:
        """Scenes that round ``number`` (from 1) collects in."""
        first = self.seed + (number - 1) * self.episodes
        return range(first, first + self.episodes)

    def choice_seeds(self, number: int) -> range:
        """Tuning scenes on which round ``number`` chooses."""
        first = self.choice_seed + (number - 1) * self.choice_episodes
        return range(first, first + self.choice_episodes)

    @property
    def test_seeds(self) -> range:
        """Test scenes; no choice is made on them."""
        return range(self.test_seed, self.test_seed + self.test_episodes)

    def require_ranges(self, rounds: int) -> None:
        """ImprovementError unless the scenes of ``rounds`` rounds lie in the ranges that they are meant for."""
        wanted = (
            ("training", TRAINING_SEEDS, self.seed, rounds * self.episodes),
            ("tuning", TUNING_SEEDS, self.choice_seed, rounds * self.choice_episodes),
            ("test", TEST_SEEDS, self.test_seed, self.test_episodes),
        )
        for name, seeds, first, count in wanted:
            if count and not (first in seeds and first + count - 1 in seeds):
                raise ImprovementError(
                    f"scenes {first} to {first + count - 1} are not all of the {name} range {seeds.start} to "
                    f"{seeds.stop - 1}; choose another first scene, or fewer rounds or episodes"
                )

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` is the inverse."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, data: dict[str, Any], where: str) -> Settings:
        """Strict: unknown or missing keys raise ConfigError."""
        made: Settings = build(cls, data, where)
        return made

    def differences(self, other: Settings) -> list[str]:
        """Names of settings in which the two differ; where the checkpoint lies does not matter, its id does."""
        mine, theirs = (replace(s, checkpoint="").to_dict() for s in (self, other))
        return [key for key in mine if mine[key] != theirs[key]]


def full_path(path: str | Path) -> str:
    """A path as settings keep it: absolute, so that another working folder changes nothing."""
    return str(Path(path).expanduser().absolute())
