"""How fast a person may drive each dimension: fractions of what the robot's contract lets one action say.

A mapping in fractions fits every robot: what the robot does not have is left out, and said.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from qt_ros.contract.robot import DIMENSIONS, RobotContract
from qt_ros.contract.strict import ConfigError


def largest_speeds(contract: RobotContract) -> dict[str, float]:
    """Largest speed of every dimension of arm and base, both ways alike, in its unit per second (m/s or rad/s).

    It is what one action of the contract can say, divided by the policy's period; 0 where an action can only say one
    way. The limits of command_node hold on top of it.
    """
    return {
        d.name: max(0.0, min(-d.low, d.high)) / contract.policy_period
        for d in contract.action_space.dimensions
        if d.target in ("arm", "base")
    }


def fit_fractions(fractions: Mapping[str, float], contract: RobotContract) -> tuple[dict[str, float], tuple[str, ...]]:
    """``fractions`` {dimension: -1..1, not 0} as speeds of this robot, and what is left out, in words for people.

    Raises ConfigError for a dimension that no robot has, and for a fraction out of range.
    """
    known = DIMENSIONS["arm"] + DIMENSIONS["base"]
    for name, fraction in fractions.items():
        if name not in known:
            raise ConfigError(f"{name!r} is no dimension that moves; known: {', '.join(known)}")
        if not 0.0 < abs(fraction) <= 1.0:
            raise ConfigError(
                f"{name}: fraction {fraction:g} must be above 0 and at most 1 (or negative: turned round)"
            )
    largest = largest_speeds(contract)
    speeds = {name: fraction * largest[name] for name, fraction in fractions.items() if largest.get(name)}
    absent = [name for name in fractions if name not in largest]
    note = f"robot {contract.robot} has no {', '.join(absent)}: what is mapped to it does nothing"
    return speeds, (note,) if absent else ()


def unmoved(mapped: Collection[str], contract: RobotContract) -> tuple[str, ...]:
    """In words, the dimensions of the robot that a mapping of ``mapped`` does not move; empty where it moves all."""
    left = {name: speed for name, speed in largest_speeds(contract).items() if name not in mapped}
    told = [name if speed else f"{name} (its actions go one way only)" for name, speed in left.items()]
    return (f"this mapping does not move {', '.join(told)} of robot {contract.robot}",) if told else ()
