from __future__ import annotations

import json
import multiprocessing
from dataclasses import replace
from pathlib import Path

import pytest

from qt_ros.episodes.labels import (
    Label,
    LabelError,
    append_label,
    in_order,
    latest,
    make_label,
    now,
    read_labels,
    take_over,
)


def test_of_two_labels_that_disagree_the_later_holds_and_both_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    first = append_label(file, make_label("e1", "success", "anna", "held it"))
    second = append_label(file, make_label("e1", "failure", "bert", "dropped it"))
    append_label(file, make_label("e2", "success", "anna"))
    assert read_labels(file)[:2] == [first, second]
    assert latest(read_labels(file))["e1"] == second
    assert (first.by, first.comment, second.by, second.comment) == ("anna", "held it", "bert", "dropped it")
    assert first.at and first.at <= second.at


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (("e1", "great", "anna"), "great"),
        (("e1", "success", ""), "name of the person"),
        (("e1", "success", "  \t"), "name of the person"),
        (("e1", "success", "an\nna"), "control characters"),
        (("e1", "success", "a" * 201), "too long"),
        (("e1", "success", "anna", "x" * 2001), "comment"),
        (("", "success", "anna"), "no episode id"),
        (("../e1", "success", "anna"), "no episode id"),
        (("a/b", "success", "anna"), "no episode id"),
        (("..", "success", "anna"), "no episode id"),
    ],
)
def test_what_is_no_label_is_refused_with_the_reason(given: tuple[str, ...], told: str) -> None:
    with pytest.raises(LabelError, match=told):
        make_label(*given)


def test_a_clock_that_is_behind_does_not_make_a_new_label_an_old_one(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    ahead = Label("e1", "success", "anna", "2199-01-01T00:00:00.000Z")
    take_over(file, [ahead])
    given = append_label(file, make_label("e1", "failure", "bert"))
    assert given.at == ahead.at and latest(read_labels(file))["e1"] == given
    other = append_label(file, make_label("e2", "failure", "bert"))
    assert other.at < ahead.at


def test_histories_of_two_places_are_joined_by_time(tmp_path: Path) -> None:
    recorded = Label("e1", "success", "sim", "")
    noon = Label("e1", "failure", "anna", "2026-01-01T12:00:00.000Z")
    evening = Label("e1", "success", "bert", "2026-01-01T18:00:00.000Z")
    file = tmp_path / "labels.jsonl"
    take_over(file, [evening])
    take_over(file, [recorded, noon])
    take_over(file, [recorded, noon, evening])
    assert read_labels(file) == [evening, recorded, noon]
    assert in_order(read_labels(file)) == [recorded, noon, evening]
    assert latest(read_labels(file))["e1"] == evening


def test_a_line_that_was_cut_off_by_a_power_cut_is_no_label_and_hides_no_other(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    first = append_label(file, make_label("e1", "success", "anna"))
    whole = file.read_bytes()
    for cut in range(1, len(whole)):
        file.write_bytes(whole + whole[:cut])
        assert read_labels(file) == [first]
    second = append_label(file, make_label("e1", "failure", "bert"))
    assert read_labels(file) == [first, second]


@pytest.mark.parametrize(
    "line",
    [
        "{}", "[]", "nonsense", '{"episode_id": "e", "outcome": "won", "by": "a", "at": ""}',
        '{"episode_id": "e", "outcome": "success", "by": "a", "at": "yesterday"}',
        '{"episode_id": "e", "outcome": "success", "by": "a", "at": "", "more": 1}',
    ],
)  # fmt: skip
def test_a_damaged_line_is_named_and_nothing_is_added_after_it(tmp_path: Path, line: str) -> None:
    file = tmp_path / "labels.jsonl"
    append_label(file, make_label("e1", "success", "anna"))
    file.write_text(file.read_text() + line + "\n")
    before = file.read_bytes()
    with pytest.raises(LabelError, match="labels.jsonl: line 2"):
        append_label(file, make_label("e1", "failure", "bert"))
    assert file.read_bytes() == before


def test_the_recorded_label_comes_first_and_only_once(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    recorded = Label("e1", "success", "sim", "")
    for outcome in ("failure", "success"):
        append_label(file, make_label("e1", outcome, "anna"), first=[recorded])
    assert [label.by for label in read_labels(file)] == ["sim", "anna", "anna"]
    file.write_text('{"episode_id": "e')  # the very first one was cut off
    append_label(file, make_label("e1", "failure", "anna"), first=[recorded])
    assert [label.by for label in read_labels(file)] == ["sim", "anna"]


def _say(file: Path, who: int) -> None:
    for number in range(20):
        append_label(file, make_label(f"e{number}", ("success", "failure")[who % 2], f"person-{who}"))


def test_several_people_may_label_at_once_and_no_label_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    people = [multiprocessing.get_context("fork").Process(target=_say, args=(file, who)) for who in range(3)]
    for person in people:
        person.start()
    for person in people:
        person.join()
    assert [person.exitcode for person in people] == [0, 0, 0]
    said = {(label.episode_id, label.by) for label in read_labels(file)}
    assert said == {(f"e{n}", f"person-{who}") for n in range(20) for who in range(3)}


def test_a_line_is_plain_json_that_other_programs_can_write(tmp_path: Path) -> None:
    file = tmp_path / "labels.jsonl"
    label = make_label("e1", "success", "Änne")
    file.write_text(json.dumps({"episode_id": "e1", "outcome": "success", "by": "Änne", "at": label.at}) + "\n")
    assert read_labels(file) == [label]
    assert replace(label, at=now()).at >= label.at
