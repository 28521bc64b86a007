"""What an experiment is expected to show, as its YAML says before the cells are run."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from qt_ros.contract.strict import ConfigError

KINDS = ("above", "share", "times", "quicker")
_ALONE = ("share",)


@dataclass(frozen=True)
class Goal:
    """One expectation of ``cell`` (as pages call it: METHOD or METHOD/VARIANT) against ``others``.

    kind: 'above': the lower end of its interval lies above the upper end of each of theirs. 'share': its interval holds
    the share of good episodes in the data. 'times': its success is at least ``factor`` times the best of theirs.
    'quicker': it reaches the best level of each of the others in at least ``factor`` times fewer gradient steps; of one
    that never succeeds, it succeeds at all.
    """

    kind: str
    cell: str
    others: tuple[str, ...] = ()
    factor: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ConfigError(f"goal: kind {self.kind!r}; there are {', '.join(KINDS)}")
        if bool(self.others) == (self.kind in _ALONE):
            raise ConfigError(f"goal {self.kind} of {self.cell}: name others, or none for {', '.join(_ALONE)}")

    @property
    def named(self) -> tuple[str, ...]:
        """All cells that it is about."""
        return (self.cell, *self.others)

    @property
    def wanted(self) -> str:
        """In words."""
        others = ", ".join(f"`{name}`" for name in self.others)
        return {
            "above": f"the interval of `{self.cell}` lies above those of {others}",
            "share": f"`{self.cell}` succeeds as often as the data do: its interval holds their share",
            "times": f"`{self.cell}` succeeds at least {self.factor:g} times as often as the best of {others}",
            "quicker": f"`{self.cell}` reaches the best level of {others} in {self.factor:g} times fewer steps",
        }[self.kind]


def described(goals: tuple[Goal, ...]) -> list[dict[str, Any]]:
    """For a document."""
    return [{**asdict(goal), "others": list(goal.others)} for goal in goals]
