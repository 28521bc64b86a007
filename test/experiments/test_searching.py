"""Collecting until there are enough failures: the same scenes whatever the interruptions, and none too many."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from qt_ros.episodes.store import EpisodeStore
from qt_ros.experiments import searching
from qt_ros.experiments.recipes import MOST_SCENES, DataPart
from qt_ros.experiments.searching import search, thrown_away
from qt_ros.experiments.work import DataError
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary
from qt_ros.sim.tasks import SKILLS, draw_task

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


def fails(seed: int) -> bool:
    """What scenes come to below: some skills hardly ever fail."""
    return seed % (2 + SKILLS.index(draw_task(ALIKE.asked, seed).skill)) == 0


ALIKE = DataPart("alike", "noise", 300, 21, skills=("all",), keep="failures", balanced=True)


class Scripted:
    """In the place of `collect`: scenes fail as `fails` says; ``most`` of them, then it is stopped."""

    def __init__(self, most: int = 10_000) -> None:
        self.most, self.ran = most, list[int]()

    def __call__(self, given: Plan, workers: int, take: object, stopped: object) -> None:
        assert callable(take)
        for seed in given.seeds[: self.most - len(self.ran)]:
            self.ran.append(seed)
            outcome = "failure" if fails(seed) else "success"
            take(EpisodeResult(seed, draw_task(given.tasks, seed).name, "", "", outcome, "timeout", 9), Summary())


def scripted(monkeypatch: pytest.MonkeyPatch, store: Path, part: DataPart = ALIKE) -> list[int]:
    """Seeds that were run."""
    monkeypatch.setattr(searching, "collect", script := Scripted())
    assert search(part, Plan(part.source, tuple(part.seeds), store, tasks=part.asked, keep=part.keep), 0, ignore)
    return script.ran


def test_a_balanced_part_has_as_many_of_each_skill_from_its_first_scenes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ran = scripted(monkeypatch, tmp_path / "alike")
    skill = {seed: draw_task(ALIKE.asked, seed).skill for seed in ALIKE.seeds}
    assert Counter(skill[seed] for seed in ran if fails(seed)) == dict.fromkeys(SKILLS, 3)
    assert len(ran) == len(set(ran))
    for name in SKILLS:
        mine = sorted(seed for seed in ran if skill[seed] == name)
        assert mine == [seed for seed in ALIKE.seeds if skill[seed] == name][: len(mine)], "none is passed over"
        assert fails(mine[-1]), "none is run once there are enough"


def test_without_it_skills_come_as_their_scenes_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    part = DataPart("as_drawn", "noise", 300, 21, skills=("all",), keep="failures")
    ran = scripted(monkeypatch, tmp_path / "as_drawn", part)
    assert sorted(ran) == list(range(300, 300 + len(ran)))
    counts = Counter(draw_task(part.asked, seed).skill for seed in ran if fails(seed))
    assert sum(counts.values()) == 21 and len(set(counts.values())) > 1


def test_a_skill_that_hardly_ever_fails_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"{__name__}.fails", lambda seed: draw_task(ALIKE.asked, seed).skill != "fetch")
    with pytest.raises(DataError, match="scenes of fetch gave 0 failures and 3 are asked for"):
        scripted(monkeypatch, tmp_path / "alike")


def test_a_balanced_store_goes_on_after_a_stop_and_takes_no_episode_that_it_was_not_to_have(tmp_path: Path) -> None:
    part = DataPart("two", "demonstration", 1, 2, skills=("pick", "close_drawer"), keep="successes", balanced=True)
    store, seen = tmp_path / "two", list[int]()
    given = Plan(part.source, tuple(part.seeds), store, tasks=part.asked, keep=part.keep, image_size=(24, 32))
    note = lambda result, summary: seen.append(result.seed)  # noqa: E731
    assert not search(part, given, 0, note, lambda: len(seen) >= 1)
    assert search(part, given, 0, note)
    assert len(seen) == len(set(seen))
    skills = [draw_task(part.asked, meta.seed).skill for meta in EpisodeStore(store).meta if meta.seed is not None]
    assert sorted(skills) == ["close_drawer", "pick"]
    wrong = DataPart("two", "demonstration", 1, 1, skills=("pick",), keep="successes")
    with pytest.raises(DataError, match="its recipe does not take"):
        search(wrong, given, 0, ignore)
