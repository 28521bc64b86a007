"""Two rounds of each kind of run, in which every new policy wins, and what is read out of them side by side."""

from __future__ import annotations

import copy
import io
from collections.abc import Callable
from contextlib import redirect_stdout
from dataclasses import replace
from pathlib import Path

import pytest

from qt_ros.cli.main import main
from qt_ros.episodes.store import EpisodeStore
from qt_ros.improvement.arms import arm_of, arms_document, arms_of, other_rounds, training_seed
from qt_ros.improvement.phases import Context
from qt_ros.improvement.results import write_results
from qt_ros.improvement.rounds import begin, run
from qt_ros.improvement.settings import ImprovementError, Settings
from qt_ros.improvement.state import State, load_state
from qt_ros.model.checkpoint import read_info

TASKS = ("pick_red_cube", "open_drawer")
KNOWN = 2  # episodes in the store of the start
pytestmark = pytest.mark.timeout(900)


class Judge:
    """In the place of `measure`: one more success for each training since the start, and for every two episodes more
    that were learnt from; remembers whom it saw in which scenes."""

    def __init__(self) -> None:
        self.trainings: dict[str, int] = {}
        self.seen: list[tuple[str, range]] = []

    def __call__(self, checkpoint: Path, checkpoint_id: str, seeds: range, file: Path, **_: object) -> dict[int, bool]:
        told = read_info(checkpoint).provenance
        before = self.trainings.get(told.get("init", ""), -1)
        self.trainings[checkpoint_id] = 0 if "init" not in told else before + 1
        self.seen.append((checkpoint_id, seeds))
        good = self.trainings[checkpoint_id] + (told.get("episodes", KNOWN) - KNOWN) // 2
        return {seed: index < good for index, seed in enumerate(seeds)}


def train_here(words: list[str], log: Path, *, on_line: Callable[[str], None], **_: object) -> None:
    """In the place of `run_command`: the same command, in this process."""
    said = io.StringIO()
    with redirect_stdout(said):
        assert main(list(words)) == 0
    for line in said.getvalue().splitlines():
        on_line(line)


def two_rounds(folder: Path, settings: Settings, twin: Path | None = None) -> State:
    return run(Context(begin(folder, settings, 2, twin), twin=twin, workers=0), 2)


def round_two_goes_on_from_what_round_one_kept(state: State, judge: Judge) -> None:
    one, two = state.rounds
    assert [r.phases["choose"]["kept"] for r in state.rounds] == ["new", "new"]
    assert two.policy_id == one.phases["train"]["checkpoint_id"] != state.settings.checkpoint_id
    for this in state.rounds:
        told = read_info(Path(this.phases["train"]["checkpoint"])).provenance
        assert told["init"] == this.policy_id and told["settings"]["seed"] == 1000 * (this.number - 1)
    collected = [EpisodeStore(state.round_folder(n) / "collected") for n in (1, 2)]
    assert [[m.seed for m in store.meta] for store in collected] == [[600_000, 600_001], [600_002, 600_003]]
    assert [{m.checkpoint for m in store.meta} for store in collected] == [{one.policy_id}, {two.policy_id}]
    everything = [m.id for store in collected for m in store.meta]
    assert [m.id for m in EpisodeStore(state.store).meta] == everything
    assert [r.phases["train"]["episodes"] for r in state.rounds] == [KNOWN + 2, KNOWN + 4]
    scenes = [seeds for _, seeds in judge.seen]
    assert (
        scenes
        == [range(1_000_000, 1_000_008)] * 2 + [range(1_000_008, 1_000_016)] * 2 + [range(2_000_000, 2_000_008)] * 3
    )
    assert len(state.tests) == 3


def the_reports_tell_success_by_skill(state: State) -> None:
    page, summary = ((state.folder / name / "report.md").read_text() for name in ("round-02", "."))
    for text in (page, summary):
        assert "| pick |" in text and "| open_drawer |" in text and "| mean over skills |" in text
    tested = state.tests[state.rounds[1].kept[1]]
    assert sum(r["success"] for r in tested["by_skill"].values()) == sum(tested["success"].values()) == 4
    assert sum(r["episodes"] for r in tested["by_skill"].values()) == 8


def a_round_that_begins_where_the_last_one_did_trains_another_policy(
    folder: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("qt_ros.improvement.phases.measure", lambda *_, **__: {0: False})
    state = two_rounds(folder, settings(episodes=0))
    assert [r.phases["choose"]["kept"] for r in state.rounds] == ["old", "old"]
    assert len({r.phases["train"]["checkpoint_id"] for r in state.rounds}) == 2


def what_the_failures_contributed_is_told_beside_a_control(arms: dict[str, State], out: Path) -> None:
    document = write_results([arms[key].folder for key in ("nothing_new", "with_failures", "without_failures")], out)
    assert document["missing"] == []
    gains = {
        (found["arm"], found["against"], found["round"]): [paired["difference"] for paired in found["runs"]]
        for found in document["contribution"]
    }
    assert gains == {
        ("with_failures", "without_failures", 1): [0.125],
        ("with_failures", "without_failures", 2): [0.25],
        ("with_failures", "nothing_new", 1): [0.125],
        ("with_failures", "nothing_new", 2): [0.25],
        ("without_failures", "nothing_new", 1): [0.0],
        ("without_failures", "nothing_new", 2): [0.0],
    }
    page = (out / "improvement.md").read_text()
    for text in (
        "### Without any new episode", "What the batches of each round were drawn from",
        "Runs: 1 with all new episodes, 1 without the failures, 1 without any new episode.",
        "With one run of each kind that is not known at all.",
    ):  # fmt: skip
        assert text in page
    shares = {arm["arm"]: [r["train"]["success_share"] for r in arm["runs"][0]["rounds"]] for arm in document["arms"]}
    first, second = shares["with_failures"]
    assert 0 < second < first < 0.5, "ever more failures"
    assert shares["without_failures"] == shares["nothing_new"] == [0.5, 0.5]


def runs_of_other_training_seeds_are_taken_together(state: State, without: State) -> None:
    def again(run: State, seed: int, gained: int) -> State:
        other = copy.deepcopy(run)
        other.settings = replace(run.settings, changes=(f"seed={seed}",))
        other.rounds[0].phases["train"]["checkpoint_id"] = f"{seed} {run.folder.name}"
        for scene in range(gained):
            other.tests[run.rounds[1].kept[1]]["success"][str(2_000_007 - scene)] = True
        return other

    assert training_seed(again(state, 2, 0).settings) == "2" and training_seed(state.settings) == ""
    arms = arms_of([without, again(state, 2, 2), state, again(without, 2, 0)])
    document = arms_document(arms)
    assert [(arm.key, sorted(arm.runs)) for arm in arms] == [
        ("with_failures", ["", "2"]),
        ("without_failures", ["", "2"]),
    ]
    pooled = document["arms"][0]["pooled"][2]
    assert (pooled["runs"], pooled["rate"]) == (2, (0.5 + 0.75) / 2) and pooled["high"] == 1.0 and pooled["low"] == 0.0
    found = next(f for f in document["contribution"] if f["round"] == 2)
    assert sorted(paired["difference"] for paired in found["runs"]) == [0.25, 0.5]
    assert (found["mean"]["runs"], found["mean"]["difference"]) == (2, 0.375)
    lonely = arms_document(arms_of([state, without, again(state, 3, 0)]))
    assert any("training seed 3" in what for what in lonely["missing"])
    shorter = copy.deepcopy(without)
    del shorter.rounds[1]
    assert "without the failures: round 2 was not begun" in arms_document(arms_of([state, shorter]))["missing"]


def what_cannot_be_compared_is_refused(state: State, without: State) -> None:
    same = copy.deepcopy(state)
    same.settings = replace(state.settings, changes=("seed=5",))
    longer = copy.deepcopy(without)
    longer.settings = replace(without.settings, steps=2)
    for runs, told in (
        ([state, state], "is the same as"), ([state, same], "is the same as"), ([without], "all new episodes"),
        ([state, longer], "steps"),
    ):  # fmt: skip
        with pytest.raises(ImprovementError, match=told):
            arms_of(runs)


def test_two_rounds_with_and_without_the_failures_and_with_nothing_new(
    tmp_path: Path, settings: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One test, because the comparison is made of the runs before it."""
    monkeypatch.setattr("qt_ros.improvement.phases.run_command", train_here)
    monkeypatch.setattr("qt_ros.cli.train.stop_on_interrupt", lambda launched=False: lambda: False)
    same = {"tasks": TASKS, "choice_episodes": 8, "test_episodes": 8}
    kinds: dict[str, dict[str, object]] = {
        "with_failures": {}, "without_failures": {"with_failures": False}, "nothing_new": {"episodes": 0},
    }  # fmt: skip
    arms: dict[str, State] = {}
    for key, changes in kinds.items():
        judge = Judge()
        monkeypatch.setattr("qt_ros.improvement.phases.measure", judge)
        twin = tmp_path / "with_failures" if arms else None
        arms[key] = two_rounds(tmp_path / key, settings(**same, **changes), twin)
        assert arm_of(arms[key]) == key and load_state(tmp_path / key) == arms[key]
        if key == "with_failures":
            round_two_goes_on_from_what_round_one_kept(arms[key], judge)
            the_reports_tell_success_by_skill(arms[key])
    a_round_that_begins_where_the_last_one_did_trains_another_policy(tmp_path / "kept", settings, monkeypatch)
    control = arms["nothing_new"]
    assert [r.phases["train"]["episodes"] for r in control.rounds] == [KNOWN, KNOWN] and not control.store.exists()
    assert control.rounds[1].policy_id == control.rounds[0].phases["train"]["checkpoint_id"]
    what_the_failures_contributed_is_told_beside_a_control(arms, tmp_path / "results")
    runs_of_other_training_seeds_are_taken_together(arms["with_failures"], arms["without_failures"])
    what_cannot_be_compared_is_refused(arms["with_failures"], arms["without_failures"])


def test_arms_may_differ_in_what_they_learn_from_and_in_the_training_seed_alone(
    settings: Callable[..., Settings],
) -> None:
    one = settings(changes=("loss.alpha=3", "seed=1"))
    for alike in ({"episodes": 0}, {"with_failures": False}, {"changes": ("seed=2", "loss.alpha=3")}):
        assert other_rounds(one, replace(one, **alike)) == []  # type: ignore[arg-type]
    for other in ({"episodes": 7}, {"steps": 9}, {"changes": ("seed=1",)}, {"tasks": ("open_drawer",)}):
        assert other_rounds(one, replace(one, **other)) == list(other)  # type: ignore[arg-type]
