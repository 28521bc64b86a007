"""Whole rounds with every real part: simulator, policy, stores, and training in a process of its own."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from episode_factory import make_episode
from small_checkpoint import make_checkpoint

from qt_ros.cli.main import main
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.episodes.store import EpisodeStore, StoreError, StoreWriter
from qt_ros.improvement.arms import arms_document, arms_of
from qt_ros.improvement.phases import Context, collect_episodes
from qt_ros.improvement.results import write_results
from qt_ros.improvement.rounds import alone, begin, run
from qt_ros.improvement.settings import ImprovementError, Interrupted, Settings
from qt_ros.improvement.state import PHASES, Round, State, load_state
from qt_ros.model.checkpoint import read_info
from qt_ros.sim.collect import collect
from qt_ros.sim.episode_maker import Plan
from qt_ros.sim.tasks import SKILLS, default_tasks, find_task

pytestmark = pytest.mark.timeout(1800)  # trainings are processes of their own: slow to start on a busy machine


class Impatient:
    """Asks to stop as soon as ``what`` is heard of the progress."""

    def __init__(self, what: str) -> None:
        self.what, self.asked = what, False

    def progress(self, what: str, done: int, total: int) -> None:
        self.asked |= self.what in what

    def stopped(self) -> bool:
        return self.asked


def go_on(folder: Path, settings: Settings | None, twin: Path | None = None, **options: object) -> State:
    state = begin(folder, settings, 1, twin)
    return run(Context(state, twin=twin, workers=0, **options), 1)  # type: ignore[arg-type]


def a_round_interrupted_in_every_phase_ends_as_if_it_had_not_been(
    runs: Path, settings: Callable[..., Settings]
) -> None:
    folder = runs / "with"
    for what in ("collect", "audit", "train", "compare new", "test"):
        person = Impatient(what)
        with pytest.raises(Interrupted):
            go_on(folder, settings(), progress=person.progress, stopped=person.stopped)
        assert person.asked
    state = go_on(folder, None)
    (this,) = state.rounds
    assert tuple(this.phases) == PHASES
    collected = EpisodeStore(folder / "round-01" / "collected")
    assert [m.seed for m in collected.meta] == [600_000, 600_001]
    assert [m.id for m in EpisodeStore(folder / "store").meta] == [m.id for m in collected.meta]
    assert (this.phases["audit"]["episodes"], this.phases["add"]["added"]) == (2, 2)
    trained = this.phases["train"]
    assert (trained["episodes"], trained["successes"]) == (4, 1), "those known before, and the new ones"
    info = read_info(Path(trained["checkpoint"]))
    assert info.provenance["init"] == state.settings.checkpoint_id == this.policy_id
    assert info.provenance["settings"]["learning_rate"] == 1e-4
    assert (this.phases["choose"]["scenes"], this.phases["choose"]["kept"]) == (2, "old")
    assert this.kept[1] == this.policy_id and state.tests[this.policy_id]["first_scene"] == 2_000_000
    page = (folder / "round-01" / "report.md").read_text()
    assert "Kept: **the old policy**" in page and "0.0% (0.0 to 65.8), 0 of 2" in page and "qt-ros train" in page
    document = json.loads((folder / "report.json").read_text())
    assert document["missing"] == [] and [s["round"] for s in document["tested"]] == [0, 1]
    assert document["tested"][1]["test"]["episodes"] == 2


def the_same_round_without_failures_learns_from_none_and_repeats_nothing(
    runs: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, twin = runs / "without", runs / "with"
    heard: list[str] = []
    state = go_on(
        folder, settings(with_failures=False), twin, progress=lambda what, done, total: heard.append(what)
    )  # fmt: skip
    (this,) = state.rounds
    assert not [what for what in heard if "collect" in what or "old" in what], "the twin had done that"
    assert (this.phases["audit"]["episodes"], this.phases["add"]["failures_left_out"]) == (2, 2)
    assert this.phases["train"]["episodes"] == 2
    for where in ("round-01/collected/store.json", f"round-01/success-{this.policy_id[:12]}-1000000.jsonl"):
        assert (folder / where).read_bytes() == (twin / where).read_bytes()


def the_results_page_shows_both_runs_and_names_no_path_of_this_machine(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    assert main(["improve", "report", str(runs / "without"), str(runs / "with"), "--out", str(out)]) == 0
    page, document = (out / "improvement.md").read_text(), json.loads((out / "improvement.json").read_text())
    (lacking,) = document["missing"]
    assert f"missing: {lacking}" in capsys.readouterr().out and "--episodes 0" in lacking, "the control"
    (contributed,) = document["contribution"]
    assert (contributed["arm"], contributed["against"], contributed["round"]) == (*document_arms(document), 1)
    (paired,) = contributed["runs"]
    assert (paired["scenes"], paired["difference"], contributed["mean"]["low"]) == (2, 0.0, None)
    assert "after round 1" in page and "What the failures contributed" in page and "not apart" in page
    for text in (page, json.dumps(document)):
        assert str(runs) not in text and "/tmp/" not in text
    svg = (out / "improvement.svg").read_bytes()
    write_results([runs / "with", runs / "without"], out)
    assert (out / "improvement.svg").read_bytes() == svg and b"<svg" in svg


def document_arms(document: dict[str, Any]) -> list[str]:
    return [arm["arm"] for arm in document["arms"]]


def the_results_page_says_what_is_missing(runs: Path, tmp_path: Path) -> None:
    state = load_state(runs / "with")
    assert state is not None
    del state.rounds[0].phases["choose"]
    state.tests.clear()
    missing = arms_document(arms_of([state]))["missing"]
    assert "round 1 is not finished (next: choose)" in missing
    assert any("start policy was not measured" in what for what in missing)
    assert any("--without-failures" in what for what in missing)
    for wrong in (["without"], ["with", "with"]):
        with pytest.raises(ImprovementError):
            write_results([runs / name for name in wrong], tmp_path)


def a_run_goes_on_only_with_its_own_settings_policy_and_scenes(
    runs: Path, tmp_path: Path, settings: Callable[..., Settings]
) -> None:
    folder = runs / "with"
    with pytest.raises(ImprovementError, match="steps is 1 there"):
        begin(folder, settings(steps=2), 1)
    with pytest.raises(ImprovementError, match="no run was begun"):
        begin(tmp_path / "new", None, 1)
    with pytest.raises(ImprovementError, match="training range"):
        begin(folder, None, 400_000)
    with pytest.raises(ImprovementError, match="the run began with"):
        begin(tmp_path / "new", settings(checkpoint_id="f00"), 1)
    with pytest.raises(ImprovementError, match="run of other rounds"):
        begin(tmp_path / "other", settings(episodes=1), 1, folder)
    with alone(folder), pytest.raises(ImprovementError, match="another process"), alone(folder):
        pass
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "improve.json").write_text("{}")
    with pytest.raises(ImprovementError, match="cannot be read"):
        load_state(tmp_path / "broken")


def test_two_runs_of_one_round_and_what_comes_of_them(
    tmp_path: Path,
    settings: Callable[..., Settings],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One test, because each part builds on the rounds that the ones before have run."""
    runs = tmp_path / "runs"
    for part in ("page", "missing", "refused", "copy"):
        (tmp_path / part).mkdir()
    a_round_interrupted_in_every_phase_ends_as_if_it_had_not_been(runs, settings)
    the_same_round_without_failures_learns_from_none_and_repeats_nothing(runs, settings, monkeypatch)
    capsys.readouterr()
    the_results_page_shows_both_runs_and_names_no_path_of_this_machine(runs, tmp_path / "page", capsys)
    the_results_page_says_what_is_missing(runs, tmp_path / "missing")
    a_run_goes_on_only_with_its_own_settings_policy_and_scenes(runs, tmp_path / "refused", settings)
    the_state_survives_json(runs, tmp_path / "copy")


def test_what_would_stop_the_first_training_is_said_before_anything_is_collected(
    tmp_path: Path, settings: Callable[..., Settings], contract: RobotContract
) -> None:
    with StoreWriter(tmp_path / "small", contract, (24, 32)) as writer:
        writer.add(make_episode(contract, 1))
    with StoreWriter(tmp_path / "tested", contract, (96, 128)) as writer:
        writer.add(make_episode(contract, 1, size=(96, 128), seed=2_000_000))
    elsewhere = load_contract("tiago")
    with StoreWriter(tmp_path / "elsewhere", elsewhere, (96, 128)) as writer:
        writer.add(make_episode(elsewhere, 1, size=(96, 128)))
    for told, changes in {
        "no finished store": {"stores": (str(tmp_path / "none"),)},
        "the policy sees 96 x 128": {"stores": (str(tmp_path / "small"),)},
        "scene 2000000 is a test scene": {"stores": (str(tmp_path / "tested"),)},
        "tiago cannot be simulated.*--choice-episodes 0": {"stores": (str(tmp_path / "elsewhere"),), "robot": "tiago"},
    }.items():
        with pytest.raises((StoreError, ImprovementError), match=told):
            begin(tmp_path / "run", settings(**changes), 1)
        assert load_state(tmp_path / "run") is None


def test_a_round_of_bags_alone_needs_no_simulator_and_keeps_the_new_policy_unseen(
    tmp_path: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr("qt_ros.improvement.rounds.World")
    folder = tmp_path / "run"
    state = go_on(folder, settings(episodes=0, choice_episodes=0, test_episodes=0))
    (this,) = state.rounds
    assert this.kept[1] == this.phases["train"]["checkpoint_id"] != this.policy_id
    page = (folder / "round-01" / "report.md").read_text()
    assert "Nothing was compared" in page and this.policy in page and "qt-ros evaluate" not in page
    document = json.loads((folder / "report.json").read_text())
    assert (document["missing"], document["intervals_apart"], state.tests) == ([], None, {})
    assert "Nothing is measured in test scenes" in (folder / "report.md").read_text()

    (folder / "round-01" / "report.md").unlink()  # the power went between the round's end and its report
    go_on(folder, None)
    assert (folder / "round-01" / "report.md").read_text() == page


def test_policies_are_tested_again_when_the_simulator_has_changed(
    tmp_path: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    first = settings(episodes=0, choice_episodes=0, test_episodes=1)
    state = begin(tmp_path / "run", first, 0)
    assert list(run(Context(state, workers=0), 0).tests) == [first.checkpoint_id]
    before = state.tests[first.checkpoint_id]
    for module in ("rounds", "phases", "measuring"):
        monkeypatch.setattr(f"qt_ros.improvement.{module}.simulator_sha256", lambda: "c0ffee" * 8)
    heard: list[str] = []
    state = begin(tmp_path / "run", None, 0)
    run(Context(state, workers=0, progress=lambda what, done, total: heard.append(what)), 0)
    assert heard == ["test"] and state.tests[first.checkpoint_id] == {**before, "simulator": "c0ffee" * 8}
    assert len(list((tmp_path / "run" / "tests").iterdir())) == 2, "the first measurement is put aside"


def test_the_command_is_explained_and_refuses_what_it_cannot_begin(
    tmp_path: Path, start: Path, known: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["improve", "--help"]) == 0 and "Example: qt-ros improve" in capsys.readouterr().out
    assert main(["improve"]) == 2 and "--dir" in capsys.readouterr().err
    assert main(["improve", "--dir", str(tmp_path / "a")]) == 2
    assert "--checkpoint and --store" in capsys.readouterr().err
    given = ["improve", "--dir", str(tmp_path / "b"), "--checkpoint", str(start), "--store", str(known)]
    assert main([*given, "--seed", "999999"]) == 2 and "training range" in capsys.readouterr().err
    assert main([*given, "--device", "abacus"]) == 2 and "no such device" in capsys.readouterr().err
    assert main([*given, "--set", "luck=1"]) == 2 and "luck" in capsys.readouterr().err
    assert load_state(tmp_path / "b") is None, "what was refused is not begun"


def test_a_run_asks_in_every_round_for_what_its_first_checkpoint_learned(
    tmp_path: Path, start: Path, known: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    said = [*find_task("pick_red_cube").instructions, find_task("open_drawer").instructions[0]]
    make_checkpoint(tmp_path / "start", None, {**read_info(start).provenance, "instructions": said})
    monkeypatch.setattr("qt_ros.improvement.rounds.run", lambda context, rounds: context.state)
    given = ["--checkpoint", str(tmp_path / "start"), "--store", str(known)]

    def asked(name: str, *words: str) -> tuple[str, ...]:
        assert main(["improve", "--dir", str(tmp_path / name), *words]) == 0
        state = load_state(tmp_path / name)
        assert state is not None
        return state.settings.tasks

    assert asked("learned", *given) == ("pick_red_cube", "open_drawer")
    assert asked("drawer", *given, "--skill", "open_drawer") == ("open_drawer",)
    assert {find_task(name).skill for name in asked("all", *given, "--skill", "all")} == set(SKILLS)
    for words in ((), given, ["--task", "pick_red_cube", "--skill", "open_drawer"]):
        assert asked("learned", *words) == ("pick_red_cube", "open_drawer"), "stored once, for the whole run"
    assert main(["improve", "--dir", str(tmp_path / "learned"), "--skill", "pick"]) == 2
    assert "tasks is" in capsys.readouterr().err
    assert main(["improve", "--dir", str(tmp_path / "new"), *given, "--skill", "juggle"]) == 2
    assert "juggle" in capsys.readouterr().err and load_state(tmp_path / "new") is None


def test_episodes_that_a_twin_is_still_collecting_are_not_copied_half_and_counted_whole(
    tmp_path: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    twin, own = State(tmp_path / "with", settings()), State(tmp_path / "without", settings(with_failures=False))
    this = Round(1, twin.settings.checkpoint, twin.settings.checkpoint_id)
    theirs = twin.round_folder(1) / "collected"
    plan = Plan("policy", (600_000,), theirs, Path(this.policy), twin.settings.tasks, twin.settings.robot)
    collect(plan, 0)
    twin.rounds.append(Round(1, this.policy, this.policy_id))
    for folder in (twin, own):
        folder.folder.mkdir(exist_ok=True)
        folder.save()

    def copied_while_it_grows(source: Path, target: Path) -> None:
        shutil.copytree(source / "shards", target / "shards")
        collect(replace(plan, seeds=(600_000, 600_001)), 0)
        for name in ("parts", "collect.json", "store.json"):
            (shutil.copytree if (source / name).is_dir() else shutil.copyfile)(source / name, target / name)

    with monkeypatch.context() as patched:
        patched.setattr(
            "qt_ros.improvement.phases.shutil", SimpleNamespace(copytree=copied_while_it_grows, rmtree=shutil.rmtree)
        )
        found = collect_episodes(Context(own, twin=twin.folder, workers=0), this)
    assert found["episodes"] == len(EpisodeStore(own.round_folder(1) / "collected")) == 2


def test_the_nodes_are_asked_for_the_tasks_of_the_run(
    tmp_path: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    ran: list[list[str]] = []
    monkeypatch.setattr("qt_ros.improvement.phases.run_command", lambda words, log, **options: ran.append(list(words)))
    for tasks in (("pick_red_cube", "open_drawer"), ()):
        state = State(tmp_path / str(len(tasks)), settings(tasks=tasks, backend="ros"))
        with pytest.raises(ImprovementError, match="no judged episode"):
            collect_episodes(Context(state), Round(1, "somewhere", "c0ffee"))
        named = [task for word, task in zip(ran[-1], ran[-1][1:]) if word == "--task"]
        assert tuple(named) == (tasks or default_tasks())


def the_state_survives_json(runs: Path, tmp_path: Path) -> None:
    state = load_state(runs / "with")
    assert state is not None
    copy = replace(state, folder=tmp_path)
    copy.save()
    again = load_state(tmp_path)
    assert again == copy
