"""What several commands share in one work folder is trained by one of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from tiny_experiment import BUDGET, as_yaml, experiment

from qt_ros.experiments.collector import collector, train_collector
from qt_ros.experiments.recipes import data_recipe
from qt_ros.experiments.warm_up import warm_up, warmed_up
from qt_ros.experiments.work import DataError, Work

Train = Callable[..., bool]


def shared(kind: str, folder: Path) -> tuple[Any, Train, Callable[[Any, Work], Path | None]]:
    """Its recipe, what trains it, and what looks for its checkpoint."""
    warm = experiment(folder, images=True).warm_up
    if kind == "warm-up":
        return warm, warm_up, warmed_up
    part = {"store": "fails", "source": "policy", "first_seed": 50, "episodes": 1, "keep": "failures"}
    policy = {"config": "picking/rt1_bc", "stores": ["demos"], "set": BUDGET}
    (folder / "data" / "more.yaml").write_text(as_yaml({"base": "few", "parts": [part], "policy": policy}))
    return data_recipe("more", folder), train_collector, collector


class Late(Work):
    """A work folder in which another process trains to the end when this one has looked for a checkpoint once."""

    other: Callable[[], object]
    looked = 0

    def _look(self) -> None:
        object.__setattr__(self, "looked", self.looked + 1)
        if self.looked == 2:
            self.other()

    def warm_up(self, recipe: Any) -> Path:
        self._look()
        return super().warm_up(recipe)

    def collector(self, recipe: Any) -> Path:
        self._look()
        return super().collector(recipe)


@pytest.mark.parametrize(
    ("kind", "named"), [("warm-up", "the warm-up few"), ("policy", "the policy that collects more")]
)
def test_a_second_command_is_refused_while_the_first_trains_and_then_takes_what_it_made(
    kind: str, named: str, tmp_path: Path, work: Work
) -> None:
    recipe, train, found = shared(kind, tmp_path)
    refused: list[str] = []

    def meanwhile(*_: object) -> None:
        with pytest.raises(DataError, match=f"another process trains {named}; wait until it has ended") as error:
            train(recipe, work)
        refused.append(str(error.value))

    assert train(recipe, work, meanwhile) and refused and found(recipe, work) is not None
    assert train(recipe, work, lambda *_: pytest.fail("it is trained already"))


@pytest.mark.parametrize("kind", ["warm-up", "policy"])
def test_what_another_command_finished_just_before_the_lock_was_had_is_not_trained_again(
    kind: str, tmp_path: Path, work: Work
) -> None:
    recipe, train, found = shared(kind, tmp_path)
    late = Late(work.root)
    object.__setattr__(late, "other", lambda: train(recipe, work))
    assert train(recipe, late, lambda *_: pytest.fail("it is trained already"))
    assert late.looked > 2 and found(recipe, work) is not None
