"""The last second of joint states, to ask what the joints were when an image was taken."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping, Sequence

from qt_ros.contract.observations import newest_positions


class JointHistory:
    """Joint positions by stamp; messages may carry any subset of the joints (arm and gripper from different drivers).

    Alignment ``as_of`` of the contract: the newest position of every joint at or before the asked time, which is
    what the decoding of a bag does too. ``optional`` joints are kept as well, but are not waited for and not missed.
    Times are seconds of the clock the stamps are from; ``latest`` is the newest stamp of a joint that is not optional.
    """

    def __init__(self, joints: Sequence[str], optional: Sequence[str] = (), horizon: float = 1.0) -> None:
        self.joints, self.optional = tuple(joints), tuple(optional)
        self.known = (*self.joints, *self.optional)
        self._horizon = horizon
        self._newest = -math.inf
        self._samples: deque[tuple[float, dict[str, float]]] = deque()
        self.latest = -math.inf

    def clear(self) -> None:
        """Forget everything."""
        self._samples.clear()
        self.latest = self._newest = -math.inf

    def add(self, stamp: float, positions: Mapping[str, float]) -> None:
        """Keep ``positions`` (rad or m, finite) of the known joints.

        A stamp far older than the newest one (a clock that was set back) forgets what came before.
        """
        known = {j: positions[j] for j in self.known if j in positions}
        if not known:
            return
        if stamp < self._newest - self._horizon:
            self.clear()
        self._newest = max(self._newest, stamp)
        if any(j in known for j in self.joints):
            self.latest = max(self.latest, stamp)
        self._samples.append((stamp, known))
        while self._samples[0][0] < self._newest - self._horizon:
            self._samples.popleft()

    def as_of(self, stamp: float, max_age: float) -> tuple[dict[str, float], list[str]]:
        """Positions at or before ``stamp``, none older than ``max_age`` s, and which joints are missing."""
        past = ((time, sample) for time, sample in reversed(self._samples) if time <= stamp)
        positions = newest_positions(past, self.known, stamp - max_age)
        return positions, [j for j in self.joints if j not in positions]
