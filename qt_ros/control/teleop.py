"""A person in the policy's place: the operator's wish becomes an action of the same space, at the same moments.

`Teleoperator` is an actor for :class:`qt_ros.control.runner.EpisodeRunner` as a trained policy is: it is asked once per
policy step, with the image the step is about, and answers with bins of the contract's action space. So demonstrations
are recorded, limited and stopped exactly like a policy's episodes.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import RobotContract
from qt_ros.control.joystick import JoystickMapping, Reading

_IDLE = Reading({}, frozenset())


@dataclass(frozen=True)
class HumanDecision:
    """One action (D,) of the operator; ``q`` is empty: nobody valued it. Otherwise as control.policy.Decision."""

    values: NDArray[np.float64]
    bins: NDArray[np.int64]
    terminate: bool
    q: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, np.float32))
    q_all: None = None
    value: float = 0.0
    timings_ms: dict[str, float] = field(default_factory=lambda: {"encode": 0.0, "decode": 0.0})


class Teleoperator:
    """Holds what the operator asks for; `offer` and `step` may be called from different threads.

    Motion needs the dead-man button and an input not older than ``timeout`` s (by ``clock``, monotonic: a person lives
    in real time). Without them an action is the neutral one and the gripper keeps what it was told last; at the start
    of an episode that is where it is.
    """

    def __init__(
        self,
        contract: RobotContract,
        mapping: JoystickMapping,
        timeout: float = 0.5,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if not timeout > 0.0:
            raise ValueError(f"timeout must be positive, got {timeout}")
        mapping.check(contract)
        self.contract, self.mapping, self.timeout = contract, mapping, timeout
        self._space = contract.action_space
        self._clock = clock
        self._lock = threading.Lock()
        self._reading: Reading | None = None
        self._received = -np.inf
        self._closedness: float | None = None
        self._finishing = False

    @property
    def age(self) -> float:
        """Seconds since the last input; infinite before the first."""
        return self._clock() - self._received

    @property
    def lost(self) -> bool:
        """Whether the input is missing or too old."""
        return self.age > self.timeout

    @property
    def driving(self) -> bool:
        """Whether the dead-man button is held, by an input that is fresh."""
        return "deadman" in self._wish().pressed

    def offer(self, axes: Sequence[float], buttons: Sequence[int]) -> frozenset[str]:
        """Take a Joy message; returns the roles that have just been pressed.

        A button that was down before the first message has not been pressed by anyone. Raises InputError and
        NonFiniteError as `JoystickMapping.read` does; the input is then lost until a good one comes.
        """
        try:
            reading = self.mapping.read(axes, buttons)
        except ValueError:
            with self._lock:
                self._reading, self._received = None, -np.inf
            raise
        with self._lock:
            before = self._reading
            self._reading, self._received = reading, self._clock()
            if "deadman" in reading.pressed and self._closedness is not None:
                if "close" in reading.pressed or "open" in reading.pressed:
                    self._closedness = float("close" in reading.pressed)
        return reading.pressed - before.pressed if before is not None else frozenset()

    def finish(self) -> None:
        """End the episode with the next step, by a terminate action: the operator says that the task is done.

        Without a terminate dimension it does nothing; whoever runs the episode has to end it.
        """
        self._finishing = True

    def reset(self, instruction: str) -> None:
        """Begin an episode: the gripper stays where it is until it is told otherwise."""
        with self._lock:
            self._closedness, self._finishing = None, False

    def step(self, image: NDArray[np.uint8], joint_positions: Mapping[str, float]) -> HumanDecision:
        """The action for now; ``joint_positions`` (rad or m) must name the gripper's joint, ``image`` is not used."""
        space, wish = self._space, self._wish()
        values = space.neutral()
        with self._lock:
            if "gripper" in space.names:
                if self._closedness is None:
                    spec = self.contract.kinematics
                    self._closedness = float(np.clip(spec.closedness(joint_positions[spec.gripper_joint]), 0.0, 1.0))
                i = space.index("gripper")
                values[i] = space.low[i] + self._closedness * (space.high[i] - space.low[i])
        terminate = self._finishing and "terminate" in space.names
        if terminate:
            values[space.index("terminate")] = space.high[space.index("terminate")]
        elif "deadman" in wish.pressed:
            for name, speed in wish.speeds.items():
                values[space.index(name)] = speed * self.contract.policy_period
        bins = space.encode(values)
        return HumanDecision(space.decode(bins), bins, terminate)

    def _wish(self) -> Reading:
        with self._lock:
            reading, age = self._reading, self._clock() - self._received
        return reading if reading is not None and age <= self.timeout else _IDLE
