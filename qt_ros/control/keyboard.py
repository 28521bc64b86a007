"""A keyboard in a terminal as a joystick: characters in, axes and buttons of a virtual sensor_msgs/Joy out.

A terminal tells that a key was typed, never that it was let go. A key therefore counts as held for a fixed time after
its last character: one tap is one short nudge, a key held down repeats and moves on, and a line that goes dead stops
the robot by itself. Whatever moves something is its own dead-man button.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import ConfigError, build, load_yaml
from qt_ros.control.fractions import fit_fractions, unmoved
from qt_ros.control.joystick import NEEDED, ROLES, AxisBinding, JoystickMapping, mapping_path

_BUTTONS = {role: number for number, role in enumerate(ROLES)}
_GRIPPER = ("close", "open")


@dataclass(frozen=True)
class KeyboardMapping:
    """Which key does what.

    ``hold``: seconds that a key counts as held after its last character. ``speeds``: of each dimension while its key
    is held, m/s or rad/s. ``moves``: {key: '+dx' or '-dx'}; ``roles``: {key: role of a button}. ``notes``: as of a
    JoystickMapping.
    """

    device: str
    hold: float
    speeds: dict[str, float]
    moves: dict[str, str]
    roles: dict[str, str]
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if odd := [key for key in (*self.moves, *self.roles) if not isinstance(key, str)]:
            raise ConfigError(f"key {odd[0]!r} is no text; YAML takes y, n and digits for something else: quote them")
        if not 0.05 <= self.hold <= 1.0:
            raise ConfigError(f"hold {self.hold} s must be 0.05 to 1: longer, and the robot runs on after the key")
        if both := sorted(set(self.moves) & set(self.roles)):
            raise ConfigError(f"key(s) {', '.join(both)} move something and are buttons; choose one")
        for key, move in self.moves.items():
            if move[:1] not in ("+", "-") or move[1:] not in self.speeds:
                raise ConfigError(f"moves: {key}: {move!r} is no + or - and one of {', '.join(self.speeds)}")
        choices = [role for role in ROLES if role not in ("deadman", "modifier")]
        if unknown := sorted(set(self.roles.values()) - set(choices)):
            raise ConfigError(f"roles: unknown {', '.join(unknown)}; known: {', '.join(choices)}")
        missing = [r for r in NEEDED if r != "deadman" and r not in self.roles.values()]
        if missing:
            raise ConfigError(f"roles: no key for {', '.join(missing)}")

    @property
    def joystick(self) -> JoystickMapping:
        """The virtual joystick: one axis per entry of ``speeds``, one button per role, no dead zone."""
        axes = tuple(AxisBinding(name, i, speed) for i, (name, speed) in enumerate(self.speeds.items()))
        return JoystickMapping(self.device, 0.0, axes, _BUTTONS)

    def help(self) -> list[tuple[str, str]]:
        """(keys, what they do), for people; a pair of opposite moves is one line."""
        lines = [
            ("  ".join(key for sign in "+-" for key, move in self.moves.items() if move == sign + name), f"+/- {name}")
            for name in self.speeds
        ]
        return [*lines, *((key, role) for key, role in self.roles.items())]


class VirtualStick:
    """The keys that are down, as far as a terminal can tell. Times in s of one clock, passed in."""

    def __init__(self, mapping: KeyboardMapping) -> None:
        self.mapping = mapping
        self._names = list(mapping.speeds)
        self._until: dict[str, float] = {}

    def type(self, key: str, now: float) -> None:
        """A key was typed. One that means nothing lets go of all others: whatever is hit in a hurry stops motion.

        Only the emergency stop stays: nobody has read it yet when both come at once.
        """
        if key not in self.mapping.moves and key not in self.mapping.roles:
            self._until = {k: t for k, t in self._until.items() if self.mapping.roles.get(k) == "estop"}
            return
        move = self.mapping.moves.get(key)
        if move is not None:  # the last of two opposite keys counts
            other = "-+"["+-".index(move[0])] + move[1:]
            self._until = {k: t for k, t in self._until.items() if self.mapping.moves.get(k) != other}
        self._until[key] = now + self.mapping.hold

    def release(self) -> None:
        """Let go of everything."""
        self._until.clear()

    def read(self, now: float) -> tuple[list[float], list[int]]:
        """Axes and buttons as of ``now``, for the mapping's ``joystick``."""
        self._until = {key: until for key, until in self._until.items() if until > now}
        axes, buttons = [0.0] * len(self._names), [0] * len(_BUTTONS)
        moving = False
        for key in self._until:
            if (move := self.mapping.moves.get(key)) is not None:
                axes[self._names.index(move[1:])] = 1.0 if move[0] == "+" else -1.0
                moving = True
            else:
                role = self.mapping.roles[key]
                buttons[_BUTTONS[role]] = 1
                moving = moving or role in _GRIPPER
        buttons[_BUTTONS["deadman"]] = int(moving)
        return axes, buttons


@dataclass(frozen=True)
class _Document:
    schema: int
    device: str
    hold: float
    moves: dict[str, str]
    roles: dict[str, str]


@dataclass(frozen=True)
class _Speeds(_Document):
    """Schema 1: m/s and rad/s."""

    speeds: dict[str, float]


@dataclass(frozen=True)
class _Fractions(_Document):
    """Schema 2: fractions of the contract's largest speeds."""

    fractions: dict[str, float]


def load_keyboard(name_or_path: str | Path, contract: RobotContract) -> KeyboardMapping:
    """Read a keyboard mapping strictly and fit it to ``contract``. ConfigError says what to change.

    The keys of dimensions that the robot does not have mean nothing: they let go of all others.
    """
    path = mapping_path(name_or_path)
    try:
        data = load_yaml(path)
        if data.get("schema") not in (1, 2):
            raise ConfigError(f"schema {data.get('schema')} is not supported; this version reads schemas 1 and 2")
        notes: tuple[str, ...] = ()
        if data["schema"] == 1:
            old = build(_Speeds, data, "keyboard")
            mapping = KeyboardMapping(old.device, old.hold, old.speeds, old.moves, old.roles)
        else:
            new = build(_Fractions, data, "keyboard")
            mapping = KeyboardMapping(new.device, new.hold, new.fractions, new.moves, new.roles)  # as it is written
            speeds, notes = fit_fractions(new.fractions, contract)
            moves = {key: move for key, move in new.moves.items() if move[1:] in speeds}
            mapping = replace(mapping, speeds=speeds, moves=moves)
        reached = {move[1:] for move in mapping.moves.values()}
        mapping = replace(mapping, notes=notes + unmoved(reached, contract))
        mapping.joystick.check(contract)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from error
    return mapping


def is_keyboard(name_or_path: str | Path) -> bool:
    """Whether a mapping file is one for the keyboard."""
    return load_yaml(mapping_path(name_or_path)).get("device") == "keyboard"
