"""Several episodes under way at once in one process, for whose policies one pass through the network decides.

Each episode has a world of its own and pauses when it needs an action; all that wait are answered together. A rollout
costs more of one-sample network passes than of physics, so this makes evaluations quicker on a CPU and on a GPU.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

from qt_ros.sim.world import SimulationError


class Running:
    """An episode under way: ``steps`` yields the arguments of `Policy.step` and is sent decisions of ``policy``.

    ``waiting``: those arguments, None when it is over; then ``made`` is what ``steps`` returned, or ``failed`` the
    SimulationError that ended it.
    """

    def __init__(self, seed: int, steps: Generator[Any, Any, Any], policy: Any) -> None:
        self.seed, self.policy = seed, policy
        self._steps = steps
        self.waiting: Any = None
        self.made: Any = None
        self.failed: SimulationError | None = None

    def resume(self, decision: Any) -> bool:
        """Go on with ``decision`` (None at the start); False when the episode is over."""
        try:
            self.waiting = self._steps.send(decision)
            return True
        except StopIteration as end:
            self.made = end.value
        except SimulationError as error:
            self.failed = error
        self.waiting = None
        return False


def advance(running: Sequence[Running], size: int) -> None:
    """One policy step of each episode, all of which wait; the network is given ``size`` rows each time, so that nothing
    depends on how many episodes are left."""
    from qt_ros.control.policy import step_together

    decisions = step_together([run.policy for run in running], [run.waiting for run in running], size)
    for run, decision in zip(running, decisions, strict=True):
        run.resume(decision)
