"""How demonstrations are disturbed and spoiled: noise to recover from, and flaws that make failed episodes."""

from __future__ import annotations

from dataclasses import dataclass


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
