"""Keeps Python's garbage collector from stopping a node in mid-episode."""

from __future__ import annotations

import gc


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
