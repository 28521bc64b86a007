"""A commander that follows one episode, fed by hand."""

from __future__ import annotations

from typing import Any

import numpy as np

from qt_ros.contract.robot import load_contract
from qt_ros.control.commander import Commander
from qt_ros.control.estop import EStop

CONTRACT = load_contract("mobile_manipulator")
SPACE = CONTRACT.action_space
HOME = CONTRACT.kinematics.home
TICK = 0.02


def action(**values: float) -> np.ndarray:
    out = SPACE.neutral()
    for name, value in values.items():
        out[SPACE.index(name)] = value
    return out


class Episode:
    """A commander that follows episode e1, fed by hand."""

    def __init__(self, estop: EStop | None = None, active: bool = True) -> None:
        self.now = 10.0
        self.commander = Commander(CONTRACT, estop)
        if active:
            self.commander.activate(self.now)
        self.commander.begin("e1", self.now)
        self.joints()

    def joints(self, **changed: float) -> None:
        self.commander.observe_joints({**HOME, **changed}, self.now)

    def act(self, step: int, values: np.ndarray | None = None, **changed: Any) -> bool:
        given = {"episode_id": "e1", "names": SPACE.names, "frame": "base_link", "observation_time": self.now - 0.05}
        given.update(changed)
        return self.commander.act(
            given["episode_id"], step, given["names"], action(dx=0.05) if values is None else values,
            given["frame"], given["observation_time"], self.now,
        )  # fmt: skip

    def tick(self, count: int = 1, joints: bool = True) -> Any:
        for _ in range(count):
            self.now += TICK
            if joints:
                self.joints()
            command = self.commander.tick(self.now)
        return command

    def stand(self) -> Any:
        """The command 0.18 s later: whatever had to be braked is."""
        return self.tick(9)
