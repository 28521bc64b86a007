"""Python's own pauses are kept short."""

from __future__ import annotations

import gc
import sys

from qt_ros.nodes.real_time import freeze_memory, take_short_turns, thaw_memory


def test_frozen_objects_are_left_alone_until_they_are_thawed() -> None:
    loaded = [[i] for i in range(1000)]
    freeze_memory()
    try:
        assert gc.get_freeze_count() >= len(loaded)
        assert not any(o is loaded for o in gc.get_objects())
    finally:
        thaw_memory()
    assert gc.get_freeze_count() == 0
    assert any(o is loaded for o in gc.get_objects())


def test_threads_take_short_turns() -> None:
    before = sys.getswitchinterval()
    try:
        take_short_turns()
        assert sys.getswitchinterval() < 0.001
    finally:
        sys.setswitchinterval(before)
