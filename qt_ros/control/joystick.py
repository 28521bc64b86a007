"""What the axes and buttons of a joystick mean: a strict mapping, SI speeds out.

Axes are those of sensor_msgs/Joy: -1..1, left and forward positive. Every mapping is checked against the robot's
contract: a full deflection that asks for more than one action can say is refused, never clipped in silence. Files of
schema 2 give fractions of the contract's largest speeds (see qt_ros.control.fractions) and so fit any robot; those of
schema 1 give m/s and rad/s, and fit the robots whose actions can say that much.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import RobotContract, package_root
from qt_ros.contract.strict import ConfigError, build, load_yaml
from qt_ros.control.fractions import fit_fractions, largest_speeds, unmoved
from qt_ros.control.limits import NonFiniteError

ROLES = ("deadman", "modifier", "estop", "start", "success", "failure", "discard", "close", "open")
"""What a button can be for. Nothing moves unless ``deadman`` is held; ``modifier`` switches axes to their second
meaning; ``success`` and ``failure`` end the episode and label it; ``close`` and ``open`` set the gripper."""
NEEDED = ("deadman", "estop", "success", "failure")
_SLACK = 1e-9  # of the action's range: 0.25 m/s over 0.2 s is 0.05 m, but for the last bit


class InputError(ValueError):
    """A joystick message that does not fit the mapping; the message says what to check."""


@dataclass(frozen=True)
class AxisBinding:
    """One axis drives one action dimension.

    ``speed``: of ``dimension`` at full deflection (+1), in its unit per second (m/s or rad/s); negative turns the axis
    around. ``modifier``: true counts only while the modifier is held; false only while it is not, where the same axis
    has a second meaning, else always.
    """

    dimension: str
    axis: int
    speed: float
    modifier: bool = False


@dataclass(frozen=True)
class Reading:
    """What the operator asks for now: ``speeds`` by dimension in m/s or rad/s, and the roles that are pressed."""

    speeds: dict[str, float]
    pressed: frozenset[str]


@dataclass(frozen=True)
class JoystickMapping:
    """A checked mapping. ``deadzone`` is the part of the deflection, 0..1, that counts as none.

    ``notes``, for people: what of this robot it does not move, and what it would move that the robot does not have.
    """

    device: str
    deadzone: float
    axes: tuple[AxisBinding, ...]
    buttons: dict[str, int]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        where = f"mapping for {self.device}"
        if not 0.0 <= self.deadzone < 1.0:
            raise ConfigError(f"{where}: deadzone {self.deadzone} must be at least 0 and below 1")
        unknown = sorted(set(self.buttons) - set(ROLES))
        if unknown:
            raise ConfigError(f"{where}: unknown button role(s) {', '.join(unknown)}; known: {', '.join(ROLES)}")
        missing = [role for role in NEEDED if role not in self.buttons]
        if missing:
            raise ConfigError(f"{where}: buttons lack {', '.join(missing)}")
        if len(set(self.buttons.values())) != len(self.buttons) or min(self.buttons.values()) < 0:
            raise ConfigError(f"{where}: every role needs a button number of its own, 0 or more, found {self.buttons}")
        if not self.axes:
            raise ConfigError(f"{where}: no axis is bound, so nothing could be moved")
        dimensions = [b.dimension for b in self.axes]
        used = [(b.axis, b.modifier) for b in self.axes]
        if len(set(dimensions)) != len(dimensions) or len(set(used)) != len(used) or min(used)[0] < 0:
            raise ConfigError(f"{where}: bind every dimension once, and every axis once with and once without modifier")
        if any(b.modifier for b in self.axes) and "modifier" not in self.buttons:
            raise ConfigError(f"{where}: axes need a modifier, but buttons name none")

    def check(self, contract: RobotContract) -> None:
        """ConfigError when a binding does not fit the action space of ``contract``."""
        largest = largest_speeds(contract)
        units = {d.name: d.unit for d in contract.action_space.dimensions}
        for binding in self.axes:
            where = f"mapping for {self.device}: {binding.dimension}"
            if binding.dimension not in largest:
                raise ConfigError(
                    f"{where}: robot {contract.robot} moves {', '.join(largest) or 'nothing'}; leave it out, or give"
                    f" fractions in place of speeds (schema 2)"
                )
            unit, top = units[binding.dimension], largest[binding.dimension]
            if not 0.0 < abs(binding.speed) <= top * (1.0 + _SLACK):
                period = contract.policy_period
                raise ConfigError(
                    f"{where}: speed {binding.speed:g} {unit}/s is {abs(binding.speed) * period:g} {unit} per policy"
                    f" step; the contract allows more than 0 and up to {top * period:g}: choose"
                    f" at most {top:g} {unit}/s, or give fractions in place of speeds (schema 2)"
                )

    def holds(self, role: str, buttons: Sequence[int]) -> bool:
        """Whether the button of ``role`` is down, whatever else the Joy message says; False where it has none."""
        number = self.buttons.get(role, -1)
        return 0 <= number < len(buttons) and bool(buttons[number])

    def read(self, axes: Sequence[float], buttons: Sequence[int]) -> Reading:
        """The meaning of one Joy message.

        InputError when it has fewer axes or buttons than the mapping names, NonFiniteError for an axis that is NaN or
        infinite. Deflections beyond 1 count as 1; the dead zone is cut out without a jump at its edge.
        """
        if len(axes) <= max(b.axis for b in self.axes) or len(buttons) <= max(self.buttons.values()):
            raise InputError(
                f"the joystick has {len(axes)} axes and {len(buttons)} buttons, the mapping for {self.device} names"
                f" more; choose the mapping that fits it"
            )
        bad = [b.axis for b in self.axes if not math.isfinite(axes[b.axis])]
        if bad:
            raise NonFiniteError(f"axis {bad[0]} of the joystick is {axes[bad[0]]}; check its driver")
        pressed = frozenset(role for role, number in self.buttons.items() if buttons[number])
        second = {b.axis for b in self.axes if b.modifier}
        speeds = {}
        for b in self.axes:
            wanted = b.modifier == ("modifier" in pressed) or (not b.modifier and b.axis not in second)
            speeds[b.dimension] = b.speed * self._deflection(axes[b.axis]) if wanted else 0.0
        return Reading(speeds, pressed)

    def _deflection(self, value: float) -> float:
        size = (min(abs(value), 1.0) - self.deadzone) / (1.0 - self.deadzone)
        return math.copysign(size, value) if size > 0.0 else 0.0


@dataclass(frozen=True)
class _Document:
    schema: int
    device: str
    deadzone: float
    axes: list[Any]
    buttons: dict[str, int]


@dataclass(frozen=True)
class _Fraction:
    """An axis in a file of schema 2; ``fraction`` of the contract's largest speed, negative turns the axis around."""

    dimension: str
    axis: int
    fraction: float
    modifier: bool = False

    def bind(self, speed: float) -> AxisBinding:
        return AxisBinding(self.dimension, self.axis, speed, self.modifier)


def mapping_path(name_or_path: str | Path) -> Path:
    """``config/nodes/<name>.yaml`` for a name, else the path itself. ConfigError names what there is."""
    path = Path(name_or_path)
    if path.suffix in (".yaml", ".yml"):
        return path
    folder = package_root() / "config" / "nodes"
    known = sorted(p.stem for p in folder.glob("teleop*.yaml"))
    if str(name_or_path) not in known:
        raise ConfigError(f"no mapping {str(name_or_path)!r} in {folder}; known: {', '.join(known) or 'none'}")
    return folder / f"{name_or_path}.yaml"


def load_joystick(name_or_path: str | Path, contract: RobotContract) -> JoystickMapping:
    """Read a joystick mapping strictly and fit it to ``contract``. ConfigError says what to change."""
    path = mapping_path(name_or_path)
    document = build(_Document, load_yaml(path), str(path))
    if document.schema not in (1, 2):
        raise ConfigError(f"{path}: schema {document.schema} is not supported; this version reads schemas 1 and 2")
    kind = AxisBinding if document.schema == 1 else _Fraction
    try:
        entries: list[Any] = [build(kind, entry, f"axes[{i}]") for i, entry in enumerate(document.axes)]
        axes = tuple(e if isinstance(e, AxisBinding) else e.bind(e.fraction) for e in entries)
        mapping = JoystickMapping(document.device, document.deadzone, axes, document.buttons)  # as it is written
        notes: tuple[str, ...] = ()
        if document.schema == 2:
            speeds, notes = fit_fractions({b.dimension: b.speed for b in axes}, contract)
            axes = tuple(replace(b, speed=speeds[b.dimension]) for b in axes if b.dimension in speeds)
        notes += unmoved([b.dimension for b in axes], contract)
        mapping = replace(mapping, axes=axes, notes=notes)
        mapping.check(contract)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return mapping
