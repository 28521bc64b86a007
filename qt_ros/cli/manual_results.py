"""A person's judgements of episodes as a file: added to one by one, gone on with later, and summed up."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract.files import write_atomically
from qt_ros.contract.strict import ConfigError, build, load_yaml, one_of, read_config
from qt_ros.sim.evaluation import Rate

MISHAP = "mishap"
OUTCOMES = ("success", "failure", "unknown", MISHAP)


@dataclass(frozen=True)
class Assignment:
    """What the robot is asked, and what the operator sets up for it ('': as the instruction says)."""

    instruction: str
    setup: str = ""

    def __post_init__(self) -> None:
        if not self.instruction.strip():
            raise ConfigError("an instruction is empty; write what the robot is to do")


@dataclass(frozen=True)
class Judgement:
    """One episode. ``outcome`` 'mishap': something that is not the policy's spoilt it (``mishap`` says what) and it was
    run again. ``value``: the policy's value of the first state, None where nothing was heard."""

    instruction: str
    episode_id: str
    outcome: str
    reason: str
    steps: int
    labelled_by: str
    at: str
    value: float | None = None
    mishap: str = ""
    bag: str = ""

    def __post_init__(self) -> None:
        one_of(self.outcome, OUTCOMES, "outcome")


@dataclass
class ManualResults:
    """Episodes that were judged so far of ``episodes``, of one checkpoint and one list of instructions in turn.

    The rate counts every episode but the mishaps; unknown is no success.
    """

    checkpoint: str
    instructions: tuple[str, ...]
    episodes: int
    done: list[Judgement] = field(default_factory=list)

    @property
    def counted(self) -> list[Judgement]:
        """All but the mishaps."""
        return [j for j in self.done if j.outcome != MISHAP]

    @property
    def complete(self) -> bool:
        return len(self.counted) >= self.episodes

    @property
    def overall(self) -> Rate:
        return _rate(self.counted)

    def next_instruction(self) -> int:
        """Index of the instruction of the next episode: one after the other, so that a part is balanced too."""
        return len(self.counted) % len(self.instructions)

    def by_instruction(self) -> dict[str, Rate]:
        """Rate of every instruction, in the order given."""
        return {text: _rate([j for j in self.counted if j.instruction == text]) for text in self.instructions}

    def mishaps(self) -> dict[str, int]:
        """{what happened: how often}."""
        return dict(sorted(Counter(j.mishap for j in self.done if j.outcome == MISHAP).items()))

    def to_dict(self) -> dict[str, Any]:
        """For JSON: overall, per instruction, reasons of ending, mean steps, mishaps, and every episode."""
        steps = [j.steps for j in self.counted]
        return {
            **self.overall.to_dict(),
            "unknown": sum(j.outcome == "unknown" for j in self.counted),
            "mishaps": self.mishaps(),
            "complete": self.complete,
            "mean_steps": round(sum(steps) / len(steps), 2) if steps else None,
            "reasons": dict(sorted(Counter(f"{j.outcome}/{j.reason}" for j in self.counted).items())),
            "by_instruction": {text: rate.to_dict() for text, rate in self.by_instruction().items()},
            "results": [asdict(j) for j in self.done],
        }

    def write(self, path: Path) -> None:
        """Write all of it in place of what the file held."""
        document = {"schema": 1, "checkpoint": self.checkpoint, "instructions": list(self.instructions)}
        text = json.dumps({**document, "done": [asdict(j) for j in self.done]}, indent=1)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, (text + "\n").encode())


@dataclass(frozen=True)
class _Document:
    schema: int
    checkpoint: str
    instructions: tuple[str, ...]
    done: list[Any]


def resume(path: Path, checkpoint: str, instructions: Sequence[str], episodes: int) -> ManualResults:
    """What the file at ``path`` holds, or a new beginning where there is none.

    ConfigError when it is about another checkpoint (by id) or other instructions, or cannot be read.
    """
    results = ManualResults(checkpoint, tuple(instructions), episodes)
    if not path.exists():
        return results
    try:
        document = build(_Document, json.loads(read_config(path)), str(path))
    except (ValueError, RecursionError) as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: no JSON ({error}); choose another --results") from error
    if document.schema != 1:
        raise ConfigError(f"{path}: schema {document.schema} is not supported; this version reads schema 1")
    if document.checkpoint != checkpoint:
        raise ConfigError(f"{path}: is about checkpoint {document.checkpoint[:12]}; choose another --results")
    if document.instructions != results.instructions:
        raise ConfigError(f"{path}: has the instructions {', '.join(document.instructions)}; choose another --results")
    results.done = [build(Judgement, j, f"{path}: done[{i}]") for i, j in enumerate(document.done)]
    if strange := {j.instruction for j in results.done} - set(instructions):
        raise ConfigError(f"{path}: episodes of an unknown instruction {sorted(strange)[0]!r}")
    return results


def load_assignments(path: Path) -> list[Assignment]:
    """``instructions`` of a YAML file: a list of {instruction: ..., setup: ...}, the setup optional."""
    data = load_yaml(path)
    if set(data) != {"instructions"} or not isinstance(data["instructions"], list):
        raise ConfigError(f"{path}: needs the key instructions with a list of {{instruction: ..., setup: ...}}")
    return [build(Assignment, entry, f"{path}: instructions[{i}]") for i, entry in enumerate(data["instructions"])]


def rounded(value: float) -> float | None:
    """A value as it stands in JSON, which knows no NaN."""
    return None if math.isnan(value) else round(value, 4)


def _rate(judgements: Sequence[Judgement]) -> Rate:
    return Rate(sum(j.outcome == "success" for j in judgements), len(judgements))
