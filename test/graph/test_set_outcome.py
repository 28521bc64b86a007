"""A person labels episodes by the service of a real recorder_node: in time, later, again, and wrongly."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import reserved_domain

from qt_ros.cli.processes import NodeGroup
from qt_ros.episodes.bag_labels import bag_labels
from qt_ros.msg import EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.demo_client import LATCHED, GraphClient
from qt_ros.srv import SetOutcome

WAIT = 60.0


class Operator(GraphClient):
    """Says what policy_node and a detector would say, and calls the service."""

    def __init__(self, group: NodeGroup) -> None:
        super().__init__(group.check, "operator")
        self.status = self.node.create_publisher(EpisodeStatus, "episode_status", LATCHED)
        self.outcome = self.node.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
        self.service = self.node.create_client(SetOutcome, "set_outcome")
        self.wait_for_links([("operator", t, "recorder_node") for t in ("episode_status", "episode_outcome")])
        self.wait_for_links([("recorder_node", "episode_record", "operator")])

    def say(self, episode_id: str, state: int, reason: int = 0) -> None:
        self.status.publish(EpisodeStatus(episode_id=episode_id, state=state, reason=reason, instruction="pick it up"))

    def run(self, episode_id: str, *, end: bool = True) -> None:
        self.say(episode_id, EpisodeStatus.STATE_RUNNING)
        if end:
            self.say(episode_id, EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_TIMEOUT)

    def label(self, episode_id: str, outcome: int, by: str, comment: str = "") -> Any:
        request = SetOutcome.Request(episode_id=episode_id, outcome=outcome, labelled_by=by, comment=comment)
        return self.call(self.service, request, WAIT, "set_outcome")

    def label_when_known(self, episode_id: str, outcome: int, by: str) -> Any:
        """Messages and calls travel apart: ask until the recorder has heard that the episode has ended."""
        answers: list[Any] = []

        def known() -> bool:
            answers.append(self.label(episode_id, outcome, by))
            return bool(answers[-1].success)

        self.wait(known, WAIT, f"the label of {episode_id}")
        return answers[-1]


@pytest.fixture(scope="module")
def operator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Operator, Path]]:
    folder = tmp_path_factory.mktemp("set_outcome")
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(folder / "logs").running() as group:
            waiting = {"outcome_timeout": 3600.0, "silence_timeout": 3600.0}
            group.start("recorder_node", {"root": str(folder / "bags"), **waiting})
            person = Operator(group)
            try:
                yield person, folder / "bags"
            finally:
                person.close()


def said(bag: Path) -> list[tuple[str, str, str]]:
    return [(label.outcome, label.by, label.comment) for label in bag_labels(bag)]


def test_a_label_in_time_closes_the_bag_and_a_later_one_corrects_it(operator: tuple[Operator, Path]) -> None:
    person, bags = operator
    person.run("first")
    assert person.label_when_known("first", EpisodeStatus.OUTCOME_SUCCESS, "anna").message == "first: success"
    assert person.record("first", WAIT).outcome == EpisodeStatus.OUTCOME_SUCCESS
    assert said(bags / "first") == [("success", "anna", "")]
    assert bag_labels(bags / "first")[0].at.endswith("Z")
    answer = person.label("", EpisodeStatus.OUTCOME_FAILURE, "bert", "it fell afterwards")
    assert answer.success and answer.message == "first: failure"
    assert said(bags / "first") == [("success", "anna", ""), ("failure", "bert", "it fell afterwards")]


def test_a_judgement_that_comes_late_still_reaches_the_bag_and_does_not_overrule_a_person(
    operator: tuple[Operator, Path],
) -> None:
    person, bags = operator
    person.run("second")
    person.run("third", end=False)  # nobody judged the second in time
    assert person.record("second", WAIT).outcome == EpisodeStatus.OUTCOME_UNKNOWN
    late = EpisodeOutcome(episode_id="second", outcome=EpisodeStatus.OUTCOME_SUCCESS, labelled_by="detector")
    person.outcome.publish(late)
    person.wait(lambda: bool(said(bags / "second")), WAIT, "the late judgement")
    assert person.label("second", EpisodeStatus.OUTCOME_FAILURE, "anna").success
    person.outcome.publish(late)
    assert person.label("second", EpisodeStatus.OUTCOME_FAILURE, "bert").success
    assert [by for _, by, _ in said(bags / "second")] == ["detector", "anna", "bert"]


@pytest.mark.parametrize(
    ("episode_id", "outcome", "by", "told"),
    [
        ("first", 7, "anna", "outcome 7 is unknown"),
        ("first", 1, "", "name of the person"),
        ("../first", 1, "anna", "no episode id"),
        ("/etc", 1, "anna", "no episode id"),
        ("never", 1, "anna", "is not in"),
        ("", 1, "anna", "still running"),
    ],
)
def test_a_bad_label_is_answered_with_the_reason(
    operator: tuple[Operator, Path], episode_id: str, outcome: int, by: str, told: str
) -> None:
    person, _ = operator
    answer = person.label(episode_id, outcome, by)
    assert not answer.success and told in answer.message


def test_an_outcome_that_nobody_knows_is_not_taken_and_the_node_lives_on(operator: tuple[Operator, Path]) -> None:
    person, bags = operator
    person.outcome.publish(EpisodeOutcome(episode_id="third", outcome=9, labelled_by="anna"))
    person.say("third", EpisodeStatus.STATE_ENDED, EpisodeStatus.REASON_TERMINATE)
    person.label_when_known("third", EpisodeStatus.OUTCOME_FAILURE, "anna")
    assert person.record("third", WAIT).outcome == EpisodeStatus.OUTCOME_FAILURE
    assert said(bags / "third") == [("failure", "anna", "")]
