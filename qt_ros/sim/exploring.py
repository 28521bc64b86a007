"""What is put in a policy's way while it collects: short random motions, from which it has to recover.

A policy that acts greedily shows only what it does already. Where it gets stuck its data hold one action over and over,
and nothing to compare it with. The disturbances are those that demonstrations have (DART, Laskey et al., CoRL 2017).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.actions import ActionSpace
from qt_ros.sim.flaws import Burst, NoiseSpec


class Explorer:
    """Disturbs the decisions of one episode, by ``rng`` alone, as ``noise`` says: ``burst``, ``burst_steps``, ``flip``.

    A burst replaces the tool's displacement (dx, dy, dz) and nothing else; ``flip`` turns the fingers round once. A
    decision to terminate is left as it is. What is executed is what is recorded; the Q-values stay the policy's.
    """

    def __init__(self, space: ActionSpace, noise: NoiseSpec, rng: np.random.Generator) -> None:
        self._flip, self._rng = noise.flip, rng
        self._motion = [space.index(name) for name in ("dx", "dy", "dz")]
        self._gripper = space.index("gripper")
        self._low, self._high = space.low[self._motion], space.high[self._motion]
        self._burst: Burst[NDArray[np.float64]] = Burst(noise.burst, noise.burst_steps, rng)

    def disturb(self, decision: Any) -> Any:
        """The `Decision` that is executed in the place of ``decision``."""
        if decision.terminate:
            return decision
        rng, values = self._rng, np.array(decision.values)
        if (burst := self._burst.next(lambda: rng.uniform(self._low, self._high))) is not None:
            values[self._motion] = burst
        if rng.random() < self._flip:
            values[self._gripper] = 1.0 - values[self._gripper]
        return replace(decision, values=values)
