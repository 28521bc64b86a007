"""Collecting until there are enough failures: the same scenes whatever the interruptions, and none too many."""

from __future__ import annotations

from pathlib import Path

import pytest

from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments import searching
from qt_ros.experiments.recipes import MOST_SCENES, DataPart
from qt_ros.experiments.searching import search, thrown_away
from qt_ros.experiments.work import DataError
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary

PART = DataPart("mixed", "noise", 20, 3, flaws=("early", "sloppy"), keep="failures")


def plan(store: Path, part: DataPart = PART) -> Plan:
    return Plan(part.source, tuple(part.seeds), store, flaws=part.flaws, keep=part.keep)


def ignore(result: EpisodeResult, summary: Summary) -> None:
    pass


@pytest.fixture(scope="module")
def told() -> list[tuple[int, int]]:
    """Kept and thrown away as they were told while ``whole`` was collected."""
    return []


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, told: list[tuple[int, int]]) -> Path:
    """A store that was collected without a stop."""
    store = tmp_path_factory.mktemp("whole") / "mixed"
    assert search(PART, plan(store), 0, lambda result, s: told.append((len(s.results), s.thrown)))
    return store


def kept(store: Path) -> dict[int | None, str]:
    return {meta.seed: meta.outcome for meta in EpisodeStore(store).meta}


def test_it_runs_on_until_it_has_so_many_failures_and_counts_the_rest(whole: Path) -> None:
    assert list(kept(whole).values()) == ["failure"] * 3
    thrown = thrown_away(whole)
    assert thrown and set(thrown.values()) == {"success"}, "these flaws do not spoil every episode"
    run = sorted([*kept(whole), *thrown])
    assert run == list(range(20, 20 + len(run))), "scene by scene from the first one on"


def test_what_was_stopped_goes_on_to_the_same_episodes(whole: Path, tmp_path: Path) -> None:
    seen: list[int] = []
    store = tmp_path / "mixed"
    note = lambda result, summary: seen.append(result.seed)  # noqa: E731
    assert not search(PART, plan(store), 0, note, lambda: len(seen) >= 2)
    assert len(seen) == 2
    assert search(PART, plan(store), 0, note)
    assert len(seen) == len(set(seen)), "no scene is run twice"
    assert kept(store) == kept(whole) and thrown_away(store) == thrown_away(whole)
    assert search(PART, plan(store), 0, note) and len(seen) == len(set(seen)), "what is there is not run again"


def test_progress_tells_what_is_kept_and_what_was_thrown_away(whole: Path, told: list[tuple[int, int]]) -> None:
    assert told[-1] == (3, len(thrown_away(whole))) and [sum(pair) for pair in told] == list(range(1, len(told) + 1))


def test_what_another_policy_threw_away_is_run_again(whole: Path) -> None:
    assert thrown_away(whole, "") == thrown_away(whole) and thrown_away(whole, "another") == {}


def test_a_policy_that_hardly_ever_fails_is_told_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[int] = []

    def succeed(given: Plan, workers: int, take: object, stopped: object) -> None:
        for seed in given.seeds:
            run.append(seed)
            assert callable(take)
            take(EpisodeResult(seed, "pick_red_cube", "red_cube", "", "success", "terminate", 9), Summary())

    monkeypatch.setattr(searching, "collect", succeed)
    with pytest.raises(DataError, match=f"{3 * MOST_SCENES} scenes gave 0 failures and 3 are asked for"):
        search(PART, plan(tmp_path / "mixed"), 0, ignore)
    assert run == list(PART.seeds)
