"""What was loaded does not slow later garbage collections down."""

from __future__ import annotations

import gc

from qt_ros.nodes.memory import freeze_memory, thaw_memory


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
