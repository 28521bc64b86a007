"""How far an improvement run has come, in one file that is replaced after every phase."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.episodes.files import write_atomically
from qt_ros.improvement.settings import ImprovementError, Settings

FILE = "improve.json"
SCHEMA = 1
PHASES = ("collect", "bags", "audit", "add", "train", "choose")
"""Of one round, in order. Each is a function of `improvement.phases`."""


@dataclass
class Round:
    """One round: the policy it began with, what its finished phases said, and seconds spent in each so far."""

    number: int
    policy: str
    policy_id: str
    phases: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def finished(self) -> bool:
        return all(name in self.phases for name in PHASES)

    @property
    def kept(self) -> tuple[str, str]:
        """Folder and id of the policy after the round."""
        choice = self.phases["choose"]
        return choice["kept_checkpoint"], choice["kept_id"]


@dataclass
class State:
    """A run in ``folder``: its settings, its rounds, and the test results by checkpoint id."""

    folder: Path
    settings: Settings
    rounds: list[Round] = field(default_factory=list)
    tests: dict[str, Any] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    """Spent on what belongs to no round."""
    environment: dict[str, Any] = field(default_factory=dict)
    commands: list[str] = field(default_factory=list)
    """Every command line that worked on this run."""

    @property
    def policies(self) -> list[tuple[str, str]]:
        """(folder, id) of the policy before the first round and after every finished one."""
        start = [(self.settings.checkpoint, self.settings.checkpoint_id)]
        return start + [r.kept for r in self.rounds if r.finished]

    def round_folder(self, number: int) -> Path:
        return self.folder / f"round-{number:02d}"

    @property
    def store(self) -> Path:
        """Where the episodes of all rounds go."""
        return self.folder / "store"

    def save(self) -> None:
        """Replace the file, atomically."""
        document = {
            "schema": SCHEMA,
            "settings": self.settings.to_dict(),
            "rounds": [vars(r) for r in self.rounds],
            "tests": self.tests,
            "seconds": self.seconds,
            "environment": self.environment,
            "commands": self.commands,
        }
        write_atomically(self.folder / FILE, json.dumps(document, indent=1).encode() + b"\n")

    @contextmanager
    def timed(self, seconds: dict[str, float], name: str) -> Iterator[None]:
        """Add the time inside to ``seconds[name]`` and save, also when it ends in an error or an interruption."""
        begin = time.monotonic()
        try:
            yield
        finally:
            seconds[name] = round(seconds.get(name, 0.0) + time.monotonic() - begin, 1)
            self.save()


def load_state(folder: Path) -> State | None:
    """The run in ``folder``; None when there is none yet. ImprovementError for a file that cannot be read."""
    path = folder / FILE
    try:
        document = json.loads(path.read_bytes())
        if document["schema"] != SCHEMA:
            raise ValueError(f"schema {document['schema']}, this program reads {SCHEMA}")
        settings = Settings.from_dict(document["settings"], f"{path}: settings")
        rounds = [Round(**entry) for entry in document["rounds"]]
        rest = {key: document[key] for key in ("tests", "seconds", "environment", "commands")}
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise ImprovementError(f"{path}: cannot be read ({error}); use another folder") from error
    return State(folder, settings, rounds, **rest)
