from __future__ import annotations

import dataclasses
import json
import multiprocessing
from pathlib import Path

import numpy as np
import pytest

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import EpisodeStore, StoreWriter, merge_manifests
from qt_ros.sim.collect import CollectError, collect
from qt_ros.sim.demonstrator import CLEAN, NOISE
from qt_ros.sim.episode_maker import EpisodeResult, Plan, Summary, instruction_for
from qt_ros.sim.privileged import PRIVILEGED_NAMES, SKILL_STATE_NAMES
from qt_ros.sim.store_guard import simulator_sha256
from qt_ros.sim.tasks import default_tasks, draw_task, load_tasks, sample_scene, select_tasks

SIZE = (24, 32)


def plan(out: Path | None, count: int, start: int = 0, **changes: object) -> Plan:
    fields: dict[str, object] = {"source": "demonstration", "noise": CLEAN, "image_size": SIZE, "out": out}
    return Plan(seeds=tuple(range(start, start + count)), **{**fields, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store of three demonstrations, made in this process."""
    root = tmp_path_factory.mktemp("collect") / "store"
    collect(plan(root, 3), workers=0)
    return root


def test_episodes_land_in_a_store_with_seed_source_and_outcome(three: Path) -> None:
    store = EpisodeStore(three)
    assert sorted(m.id for m in store.meta) == [f"demonstration-000000{i}" for i in range(3)]
    assert [m.seed for m in store.meta] == [0, 1, 2]
    assert {m.source for m in store.meta} == {"demonstration"}
    assert {m.outcome for m in store.meta} == {"success"}
    assert store.episode(0).images.shape[1:] == (*SIZE, 3)


def test_the_privileged_state_is_kept_and_a_store_begun_without_it_goes_on_without(three: Path, tmp_path: Path) -> None:
    store = EpisodeStore(three)
    assert store.manifest.privileged_names == PRIVILEGED_NAMES
    assert store.episode(0).privileged.shape == (len(store.episode(0)), len(PRIVILEGED_NAMES))
    with StoreWriter(tmp_path, load_contract("mobile_manipulator"), SIZE, prefix="old") as writer:
        writer.add(dataclasses.replace(store.episode(0), privileged=None))
    assert collect(plan(tmp_path, 2), workers=0).skipped == 1
    assert [e.privileged for e in EpisodeStore(tmp_path)] == [None, None]


def test_collecting_again_adds_only_what_is_missing(three: Path) -> None:
    before = EpisodeStore(three).episode(0)
    summary = collect(plan(three, 4), workers=0)
    assert summary.skipped == 3 and [r.seed for r in summary.results] == [3]
    store = EpisodeStore(three)
    assert len(store) == 4 and np.array_equal(store.episode(0).images, before.images)


def test_workers_make_the_same_episodes_as_one_process(three: Path, tmp_path: Path) -> None:
    summary = collect(plan(tmp_path / "parallel", 3), workers=2)
    assert sorted(r.seed for r in summary.results) == [0, 1, 2]
    alone, parallel = EpisodeStore(three), EpisodeStore(tmp_path / "parallel")
    for meta in parallel.meta:
        a, b = alone.episode(alone.index(meta.id)), parallel.episode(parallel.index(meta.id))
        assert np.array_equal(a.images, b.images) and np.array_equal(a.bins, b.bins)


def test_stopping_keeps_what_is_finished(tmp_path: Path) -> None:
    done: list[EpisodeResult] = []
    five = plan(tmp_path / "s", 5)
    summary = collect(five, workers=0, on_result=lambda r, s: done.append(r), stopped=lambda: len(done) >= 2)
    assert summary.stopped and len(summary.results) == 2
    assert len(EpisodeStore(tmp_path / "s")) == 2
    assert collect(plan(tmp_path / "s", 3), workers=0).skipped == 2


def test_a_collection_that_goes_on_after_an_edit_of_the_simulator_says_so_and_what_is_complete_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def made_by() -> list[str]:
        found = json.loads((tmp_path / "s" / "collect.json").read_text())["simulators"]
        assert isinstance(found, list)
        return found

    collect(plan(tmp_path / "s", 1), workers=0)
    assert made_by() == [simulator_sha256()]
    monkeypatch.setattr("qt_ros.sim.collect.simulator_sha256", lambda: "edited")
    collect(plan(tmp_path / "s", 1), workers=0)
    assert made_by() == [simulator_sha256()] and not caplog.records, "nothing was added"
    collect(plan(tmp_path / "s", 2), workers=0)
    assert made_by() == [simulator_sha256(), "edited"]
    assert "MADE BY ANOTHER SIMULATOR" in caplog.text


def test_a_second_collect_into_the_same_store_is_refused_while_the_first_runs(tmp_path: Path) -> None:
    told: list[str] = []

    def another(result: EpisodeResult, summary: Summary) -> None:
        with pytest.raises(CollectError, match="another process collects into this store") as refused:
            collect(plan(tmp_path / "s", 3), workers=0)
        told.append(str(refused.value))

    collect(plan(tmp_path / "s", 1), workers=0, on_result=another)
    assert len(told) == 1
    assert len(collect(plan(tmp_path / "s", 2), workers=0).results) == 1  # free again


def test_episodes_that_an_orphaned_worker_has_not_put_on_disk_yet_are_not_made_again(
    three: Path, tmp_path: Path
) -> None:
    store, made = tmp_path / "s", EpisodeStore(three).episode(1)
    collect(plan(store, 1), workers=0)
    contract, names = load_contract("mobile_manipulator"), PRIVILEGED_NAMES
    with StoreWriter(store, contract, SIZE, prefix="demonstration-3", merge=False, privileged_names=names) as orphan:
        orphan.add(made)
        with pytest.raises(CollectError, match=r"last episodes on disk \(demonstration-3\).* run this again"):
            collect(plan(store, 2), workers=0)
    assert collect(plan(store, 2), workers=0).skipped == 2
    assert [meta.seed for meta in EpisodeStore(store).meta] == [0, 1]


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"source": "noise"}, "source is 'demonstration' there, not 'noise'"),
        ({"tasks": ("pick_red_cube",)}, "tasks is"),
        ({"noise": None}, "noise is"),
        ({"held_out": True}, "held_out is False there, not True"),
        ({"max_steps": 30}, "max_steps is 60 there, not 30"),
    ],
)
def test_one_store_holds_episodes_of_one_kind(three: Path, changes: dict[str, object], told: str) -> None:
    before = len(EpisodeStore(three))
    with pytest.raises(CollectError, match=f"other settings: .*{told}"):
        collect(plan(three, 9, **changes), workers=0)
    assert len(EpisodeStore(three)) == before


def test_a_worker_that_is_killed_is_told_and_the_others_keep_theirs(tmp_path: Path) -> None:
    killed: list[int] = []

    def kill_one(result: EpisodeResult, summary: Summary) -> None:
        if not killed:
            victim = multiprocessing.active_children()[0]
            victim.kill()
            killed.append(victim.pid or 0)

    with pytest.raises(CollectError, match="ended with status"):
        collect(plan(tmp_path / "k", 40), workers=2, on_result=kill_one)
    merge_manifests(tmp_path / "k")
    assert 1 <= len(EpisodeStore(tmp_path / "k")) < 40


def test_a_worker_that_fails_is_reported_with_its_traceback(tmp_path: Path) -> None:
    bad = plan(None, 2, source="policy", noise=None, checkpoint=tmp_path / "nothing")
    with pytest.raises(CollectError, match="nothing"):
        collect(bad, workers=1)


def test_noise_episodes_are_labelled_by_their_outcome_and_mostly_fail(tmp_path: Path) -> None:
    summary = collect(plan(tmp_path / "n", 8, 500_000, source="noise", noise=None), workers=0)
    store = EpisodeStore(tmp_path / "n")
    assert {m.source for m in store.meta} == {"noise"}
    assert sum(r.outcome == "success" for r in summary.results) <= 4
    assert all(r.detail for r in summary.results)


def test_only_the_named_flaws_occur_and_a_store_keeps_to_them(tmp_path: Path) -> None:
    few = plan(tmp_path / "n", 4, 500_000, source="noise", noise=None, flaws=("early", "open"))
    assert {r.detail for r in collect(few, workers=0).results} <= {"early", "open"}
    with pytest.raises(CollectError, match="flaws is"):
        collect(dataclasses.replace(few, flaws=("drop",)), workers=0)
    with pytest.raises(CollectError, match="flaws is"):
        collect(dataclasses.replace(few, flaws=()), workers=0)


def test_only_the_named_tasks_are_drawn() -> None:
    names = ("pick_red_cube", "pick_blue_ball")
    assert {draw_task(names, seed).name for seed in range(20)} == set(names)
    assert {draw_task((), seed).name for seed in range(200)} == set(default_tasks())


def test_without_named_tasks_a_seed_gives_the_scene_that_everyone_else_gets() -> None:
    for seed in range(5):
        assert sample_scene(draw_task((), seed), seed) == sample_scene(None, seed)


def test_a_wrong_instruction_names_another_object_that_stands_there() -> None:
    tasks = load_tasks()
    for seed in range(20):
        scene = sample_scene(None, seed)
        task = tasks[scene.task]
        told = instruction_for(task, scene, seed, wrong=True)
        meant = {t.target for t in tasks.values() if told in t.instructions}
        assert len(meant) == 1 and meant <= set(scene.objects) - {task.target}


@pytest.mark.parametrize("skill", ["fetch", "move_near", "open_drawer", "close_drawer", "place_in_drawer"])
def test_a_wrong_instruction_asks_for_something_else_that_can_be_done_there(skill: str) -> None:
    for seed in range(10):
        task = draw_task(select_tasks(skills=[skill]), seed)
        scene = sample_scene(task, seed)
        told = instruction_for(task, scene, seed, wrong=True)
        (meant,) = [t for t in load_tasks().values() if told in t.instructions]
        assert meant.name != task.name
        assert {meant.target, meant.near} <= {*scene.objects, "drawer_handle", ""}


def test_several_skills_go_into_one_store_with_the_state_that_all_of_them_need(tmp_path: Path) -> None:
    tasks = ("open_drawer", "pick_red_cube", "move_red_cube_near_yellow_box")
    summary = collect(plan(tmp_path / "s", 3, 3, tasks=tasks, max_steps=40), workers=0)
    store = EpisodeStore(tmp_path / "s")
    assert store.manifest.privileged_names == SKILL_STATE_NAMES
    assert {m.task for m in store.meta} <= set(tasks)
    assert len(set(summary.by_skill())) >= 2
    assert all(good == count for good, count in summary.by_skill().values())
    for number in range(3):
        episode = store.episode(number)
        assert episode.privileged is not None and episode.privileged.shape[1] == len(SKILL_STATE_NAMES)


def test_held_out_instructions_are_none_that_were_trained_on() -> None:
    scene = sample_scene(None, 3)
    task = load_tasks()[scene.task]
    told = instruction_for(task, scene, 3, held_out=True)
    assert told in task.held_out and told not in task.instructions


def test_paraphrases_change_the_words_of_a_demonstration_and_nothing_else(tmp_path: Path) -> None:
    stores = []
    for paraphrases in (False, True):
        collect(plan(tmp_path / str(paraphrases), 4, paraphrases=paraphrases), workers=0)
        stores.append(EpisodeStore(tmp_path / str(paraphrases)))
    for number in range(4):
        plain, other = (store.episode(number) for store in stores)
        task = load_tasks()[plain.task]
        assert plain.instruction in task.instructions and other.instruction in task.paraphrases
        assert np.array_equal(plain.images, other.images) and np.array_equal(plain.actions, other.actions)
    assert stores[0].meta[0].instruction != stores[1].meta[0].instruction
    with pytest.raises(CollectError, match="paraphrases is"):
        collect(plan(tmp_path / "True", 5), workers=0)
    with pytest.raises(CollectError, match="words to train on"):
        plan(None, 1, paraphrases=True, held_out=True)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"source": "dreams"}, "dreams"),
        ({"source": "policy"}, "checkpoint"),
        ({"tasks": ("juggle",)}, "juggle"),
        ({"wrong_instruction": True}, "wrong_instruction"),
        ({"source": "noise", "flaws": ("clumsy",)}, "clumsy"),
        ({"flaws": ("early",)}, "source 'noise'"),
        ({"source": "policy", "checkpoint": Path("c"), "noise": NOISE}, "burst, burst_steps and flip"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(CollectError, match=message):
        plan(None, 1, **changes)
