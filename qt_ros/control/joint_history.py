"""The last second of joint states, to ask what the joints were when an image was taken."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence


class JointHistory:
    """Joint positions by stamp; messages may carry any subset of the joints (arm and gripper from different drivers).

    Alignment ``as_of`` of the contract: the newest position of every joint at or before the asked time, which is
    what the decoding of a bag does too. Times are seconds of the clock the stamps are from.
    """

    def __init__(self, joints: Sequence[str], horizon: float = 1.0) -> None:
        self.joints = tuple(joints)
        self._horizon = horizon
        self._samples: deque[tuple[float, dict[str, float]]] = deque()
        self.latest = -math.inf

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()
        self.latest = -math.inf

    def add(self, stamp: float, positions: Mapping[str, float]) -> None:
        """Keep ``positions`` (rad or m, finite) of the known joints.

        A stamp far older than the newest one (a clock that was set back) forgets what came before.
        """
        known = {j: positions[j] for j in self.joints if j in positions}
        if not known:
            return
        if stamp < self.latest - self._horizon:
            self.clear()
        self.latest = max(self.latest, stamp)
        self._samples.append((stamp, known))
        while self._samples[0][0] < self.latest - self._horizon:
            self._samples.popleft()

    def as_of(self, stamp: float) -> tuple[dict[str, float], float]:
        """Positions at or before ``stamp``, and the stamp of the oldest one used (-inf when a joint was never seen)."""
        positions: dict[str, float] = {}
        oldest = math.inf
        for time, sample in reversed(self._samples):
            if time > stamp:
                continue
            new = [j for j in sample if j not in positions]
            if new:
                positions.update((j, sample[j]) for j in new)
                oldest = min(oldest, time)
            if len(positions) == len(self.joints):
                return positions, oldest
        return positions, -math.inf
