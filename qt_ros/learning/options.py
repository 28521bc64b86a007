"""Settings that belong to one method alone: the ``options`` group of a training config."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from qt_ros.model.cem import CemSettings


@dataclass(frozen=True)
class NoOptions:
    """For methods without settings of their own."""


@dataclass(frozen=True)
class Rt1BcOptions:
    """``episodes``: which are cloned, ``successes`` or ``all``."""

    episodes: str = "successes"

    def __post_init__(self) -> None:
        if self.episodes not in ("successes", "all"):
            raise ValueError(f"episodes must be successes or all, found {self.episodes!r}")


@dataclass(frozen=True)
class CqlOptions:
    """``alpha``: weight of the regulariser."""

    alpha: float = 1.0

    def __post_init__(self) -> None:
        if self.alpha < 0:
            raise ValueError(f"alpha must not be negative, found {self.alpha}")


@dataclass(frozen=True)
class IqlOptions:
    """``expectile``: which expectile of Q over actions V stands for, 0.5 = mean, towards 1 = best of the data.
    ``beta``: inverse temperature of the policy's weights exp(beta * (Q - V)), which are clipped at ``weight_clip``."""

    expectile: float = 0.8
    beta: float = 3.0
    weight_clip: float = 100.0

    def __post_init__(self) -> None:
        if not 0.5 <= self.expectile < 1:
            raise ValueError(f"expectile must be in [0.5, 1), found {self.expectile}")
        _positive(self, "beta", "weight_clip")


@dataclass(frozen=True)
class QtOptOptions:
    """``iterations``, ``samples``, ``elites``: of CEM, see `CemSettings`. ``second_target_every``: gradient steps after
    which the second lagged network becomes a copy of the first."""

    iterations: int = 2
    samples: int = 64
    elites: int = 6
    second_target_every: int = 1000

    def __post_init__(self) -> None:
        if self.second_target_every < 1:
            raise ValueError(f"second_target_every must be at least 1, found {self.second_target_every}")
        _ = self.cem

    @property
    def cem(self) -> CemSettings:
        """The search, for targets and for acting."""
        return CemSettings(self.iterations, self.samples, self.elites)


@dataclass(frozen=True)
class AwOptOptions(QtOptOptions):
    """QT-Opt's, and ``beta`` and ``weight_clip`` of the actor's weights exp(beta * advantage)."""

    beta: float = 3.0
    weight_clip: float = 100.0

    def __post_init__(self) -> None:
        super().__post_init__()
        _positive(self, "beta", "weight_clip")


OPTIONS: dict[str, type] = {
    "q_transformer": NoOptions,
    "rt1_bc": Rt1BcOptions,
    "decision_transformer": NoOptions,
    "cql": CqlOptions,
    "iql": IqlOptions,
    "qt_opt": QtOptOptions,
    "aw_opt": AwOptOptions,
}
"""Methods by name, with their options."""

CLONING = ("rt1_bc", "decision_transformer")
"""Methods without a backup."""

WHOLE_ACTIONS = ("iql", "qt_opt", "aw_opt")
"""Methods whose backup knows one decision per environment step, so that ``backup.n_step`` counts environment steps."""


def _positive(options: Any, *names: str) -> None:
    for name in names:
        if getattr(options, name) <= 0:
            raise ValueError(f"{name} must be positive, found {getattr(options, name)}")
