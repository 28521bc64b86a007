"""Keeps Python itself from making a node late: its garbage collector and the turns its threads take."""

from __future__ import annotations

import gc
import sys

SWITCH_INTERVAL = 0.0005  # s


def freeze_memory() -> None:
    """Leave everything that exists now out of later collections; call it when a node is set up.

    Python's full collection looks at every object: with torch and a sentence encoder loaded that is half a second in
    which no callback runs and no action is published, at a moment nobody chose. What was loaded stays anyway.
    """
    gc.collect()
    gc.freeze()


def thaw_memory() -> None:
    """Let later collections see everything again; call it before what was loaded is given up."""
    gc.unfreeze()


def take_short_turns() -> None:
    """Let a waiting thread have the interpreter after half a millisecond instead of five.

    A network that has to take the interpreter back after each of its hundreds of operations else waits for whatever
    callback the executor is in.
    """
    sys.setswitchinterval(SWITCH_INTERVAL)
