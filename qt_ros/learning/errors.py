"""What a person at the keyboard is told when training cannot begin or go on."""

from __future__ import annotations


class TrainingError(ValueError):
    """Data, settings or a saved state do not go together; the message says what, where and what to do."""


class Diverged(TrainingError, FloatingPointError):
    """The loss is not finite any more."""
