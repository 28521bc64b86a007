"""How demonstrations are disturbed and spoiled: noise to recover from, and flaws that make failed episodes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Generic, TypeVar

import numpy as np

Motion = TypeVar("Motion")


@dataclass(frozen=True)
class NoiseSpec:
    """How far an episode departs from the rule. Chances are per policy step unless said otherwise; all 0: never.

    ``burst``: begin up to ``burst_steps`` steps of one random motion, from which the rule recovers. ``flip``: the
    fingers do the opposite once. ``flawed``: chance per episode of one flaw of FLAWS that mostly spoils it. ``stray``:
    chance per episode that rotations and the base, which no pick needs, move a little at some steps.
    """

    burst: float = 0.0
    burst_steps: int = 3
    flip: float = 0.0
    flawed: float = 0.0
    stray: float = 0.0

    def require_for_policy(self) -> None:
        """ValueError where there is something in it that only scripts know."""
        if self.flawed or self.stray:
            raise ValueError("noise for a policy is burst, burst_steps and flip; the others are for scripts")

    def changed(self, entries: Sequence[str]) -> NoiseSpec:
        """``("burst=0.1",)`` -> this with that changed. ValueError for an unknown setting, a value that is no number,
        or a chance that is none."""
        known = {f.name: type(getattr(self, f.name)) for f in fields(self)}
        changes: dict[str, Any] = {}
        for entry in entries:
            key, equals, text = entry.partition("=")
            if not equals or key not in known:
                raise ValueError(f"needs KEY=VALUE with KEY one of {', '.join(known)}, found {entry!r}")
            try:
                value = known[key](text)
            except ValueError:
                raise ValueError(f"{entry}: {text!r} is no {known[key].__name__}") from None
            if known[key] is float and not 0.0 <= value <= 1.0 or known[key] is int and value < 1:
                raise ValueError(f"{entry}: chances lie between 0 and 1, numbers of steps are 1 or more")
            changes[key] = value
        return replace(self, **changes)


class Burst(Generic[Motion]):
    """Now and then one random motion for up to ``steps`` steps, by ``rng`` alone; ``chance`` per step to begin."""

    def __init__(self, chance: float, steps: int, rng: np.random.Generator) -> None:
        self.chance = chance
        self._steps, self._rng = steps, rng
        self._left = 0
        self._motion: Motion | None = None

    def next(self, draw: Callable[[], Motion]) -> Motion | None:
        """The motion of this step; None outside of bursts. ``draw`` gives that of a new one."""
        if self._left == 0 and self._rng.random() < self.chance:
            self._left, self._motion = int(self._rng.integers(1, self._steps + 1)), draw()
        if self._left == 0:
            return None
        self._left -= 1
        return self._motion


CLEAN = NoiseSpec()
DART = NoiseSpec(burst=0.05, flip=0.01)
"""Disturbances injected while demonstrating, as DART does (Laskey et al., CoRL 2017)."""
NOISE = NoiseSpec(burst=0.08, flip=0.02, flawed=1.0, stray=0.3)

FLAWS: dict[str, float] = {
    "wrong_object": 0.34,  # a perfect pick of something else
    "aside": 0.20,  # grasps next to the object
    "early": 0.08,  # terminates too soon, at any moment
    "hasty": 0.06,  # terminates as soon as it holds the object, before lifting it
    "drop": 0.08,  # opens the fingers once lifted
    "open": 0.06,  # never closes the fingers
    "random": 0.10,  # most actions are random
    "sloppy": 0.08,  # many bursts and flips; often succeeds in the end
}
"""Share of every flaw among flawed episodes of picking."""

_CARRYING = {
    "wrong_object": 0.20,
    "wrong_place": 0.20,  # puts the right object down elsewhere
    "aside": 0.14,
    "early": 0.08,
    "hasty": 0.08,
    "drop": 0.10,
    "open": 0.05,
    "random": 0.07,
    "sloppy": 0.08,
}
_SLIDING = {
    "wrong_object": 0.16,  # picks an object instead
    "aside": 0.20,  # grasps next to the knob
    "early": 0.10,
    "hasty": 0.12,
    "drop": 0.16,  # lets the knob go on the way
    "open": 0.08,
    "random": 0.10,
    "sloppy": 0.08,
}
FLAWS_OF: dict[str, dict[str, float]] = {
    "pick": FLAWS,
    "pick_from_drawer": FLAWS,
    "fetch": {**FLAWS, "stay": 0.12},  # reaches for it from where it stands
    "move_near": _CARRYING,
    "place_in_drawer": _CARRYING,
    "open_drawer": _SLIDING,
    "close_drawer": _SLIDING,
}
"""The same for every skill; shares need not sum to 1."""
