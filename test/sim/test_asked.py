"""What is asked of a checkpoint."""

from __future__ import annotations

from pathlib import Path

from small_checkpoint import make_checkpoint

from qt_ros.sim.asked import choose_tasks
from qt_ros.sim.tasks import default_tasks, find_task


def test_what_a_checkpoint_learned_is_asked_of_it_unless_something_is_named(tmp_path: Path) -> None:
    said = [find_task("open_drawer").instructions[2], find_task("pick_red_cube").instructions[0], "sing", 3]
    make_checkpoint(tmp_path / "both", provenance={"instructions": said})
    assert choose_tasks(tmp_path / "both", (), ()) == ("pick_red_cube", "open_drawer")
    assert choose_tasks(tmp_path / "both", ("pick_blue_ball",), ()) == ("pick_blue_ball",)
    for number, odd in enumerate(({}, {"instructions": ["sing"]}, {"instructions": {"sing": 3}})):
        make_checkpoint(tmp_path / str(number), provenance=odd)
        assert choose_tasks(tmp_path / str(number), (), ()) == default_tasks()


def test_words_kept_for_tests_are_not_what_was_learned(tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "c", provenance={"instructions": list(find_task("close_drawer").held_out)})
    assert choose_tasks(tmp_path / "c", (), ()) == default_tasks()
