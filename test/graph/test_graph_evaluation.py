"""`qt-ros evaluate --backend ros` on real nodes: the same scenes and words, and every missing part by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from domains import reserved_domain
from lifecycle_msgs.msg import Transition
from rcl_interfaces.srv import SetParameters
from rclpy.parameter import Parameter
from small_checkpoint import make_checkpoint

from qt_ros.cli.processes import NodeGroup
from qt_ros.episodes import bag_metadata as keys
from qt_ros.nodes import graph_evaluation
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.graph_evaluation import GraphEvaluation, GraphNotReady, Interrupted, evaluate_graph
from qt_ros.nodes.manual_evaluation import ManualEvaluation
from qt_ros.sim.collect import draw_task
from qt_ros.sim.tasks import find_task, sample_scene

SEED = 2_000_000
NAMESPACE = "robot1"


def start(group: NodeGroup, name: str, **parameters: Any) -> None:
    group.start(name, {"use_sim_time": name != "sim_node", **parameters}, {"__ns": f"/{NAMESPACE}", "/clock": "clock"})


@pytest.fixture(scope="module")
def graph(checkpoint: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[NodeGroup]:
    """Everything but the simulator, active, in a namespace."""
    logs = tmp_path_factory.mktemp("logs")
    with reserved_domain() as domain, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ROS_DOMAIN_ID", str(domain))
        patch.setenv("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
        with NodeGroup(logs).running() as group:
            start(group, "policy_node", checkpoint=str(checkpoint), threads=1, max_duration=1.0, outcome_wait=5.0)
            start(group, "command_node")
            start(group, "servo_node")
            client = GraphClient(group.check, namespace=NAMESPACE)
            try:
                for name in ("servo_node", "command_node", "policy_node"):
                    client.activate(name)
            finally:
                client.close()
            yield group


@pytest.fixture(scope="module")
def simulated(graph: NodeGroup) -> NodeGroup:
    """The same with the simulator."""
    start(graph, "sim_node", real_time_factor=0.3)  # so slow that a busy machine keeps up with its camera
    return graph


def configured(client: GraphClient, motion: bool) -> None:
    """Configure command_node anew, with or without a dry run."""
    for transition in (Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP):
        assert client.change_state("command_node", transition)
    service = client.node.create_client(SetParameters, "command_node/set_parameters")
    request = SetParameters.Request(parameters=[Parameter("enable_motion", value=motion).to_parameter_msg()])
    assert client.call(service, request, 60.0, "the parameter").results[0].successful
    client.node.destroy_client(service)
    client.activate("command_node")


def test_without_a_scoring_service_it_says_so_by_name(graph: NodeGroup, checkpoint: Path) -> None:
    with GraphEvaluation(checkpoint, NAMESPACE, find=2.0) as evaluation, pytest.raises(GraphNotReady) as missing:
        evaluation.require()
    assert "no scoring service: nobody serves /robot1/reset_scene" in str(missing.value)


def test_by_hand_no_scoring_service_is_asked_for_but_one_that_takes_labels(graph: NodeGroup, checkpoint: Path) -> None:
    with ManualEvaluation(checkpoint, NAMESPACE, find=2.0) as evaluation, pytest.raises(GraphNotReady) as missing:
        evaluation.require()
    assert "nobody serves /robot1/set_outcome" in str(missing.value) and "record:=true" in str(missing.value)


@pytest.mark.parametrize("kind", [GraphEvaluation, ManualEvaluation])
def test_a_robot_that_cannot_move_is_not_measured(
    simulated: NodeGroup, checkpoint: Path, kind: type[GraphEvaluation], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kind, "_require_verdicts", lambda self: None)  # no recorder runs here
    with kind(checkpoint, NAMESPACE, find=120.0) as evaluation:
        configured(evaluation.client, False)
        try:
            with pytest.raises(GraphNotReady, match="/robot1/command_node is in a dry run.*enable_motion:=true"):
                evaluation.require()
        finally:
            configured(evaluation.client, True)
        evaluation.require()


def test_it_runs_the_scenes_and_words_of_the_embedded_evaluation(simulated: NodeGroup, checkpoint: Path) -> None:
    seen: list[int] = []
    with GraphEvaluation(checkpoint, NAMESPACE, find=120.0) as evaluation:
        evaluation.require()
        for seed in (SEED, SEED + 1):
            result = evaluation.run(seed, max_duration=1.0)
            scene = sample_scene(find_task(result.task), seed)
            assert (result.instruction, result.target) == (scene.instruction, scene.target)
            assert result.outcome == "failure"  # an untrained checkpoint, and a second to act in
            assert result.steps > 0 and 0.0 <= result.value <= 1.0
            assert "target lifted" in result.detail
            seen.append(result.seed)
    assert seen == [SEED, SEED + 1]


def test_another_checkpoint_than_the_running_one_is_refused(simulated: NodeGroup, tmp_path: Path) -> None:
    make_checkpoint(tmp_path / "other", {"dx": -0.01})
    with GraphEvaluation(tmp_path / "other", NAMESPACE, find=120.0) as evaluation:
        with pytest.raises(GraphNotReady, match="checkpoint:=FOLDER"):
            evaluation.require()


def test_an_interruption_stops_the_robot_and_keeps_what_is_finished(simulated: NodeGroup, checkpoint: Path) -> None:
    done: list[int] = []

    evaluation = evaluate_graph(
        checkpoint,
        50,
        seed=SEED,
        namespace=NAMESPACE,
        on_result=lambda result, summary: done.append(result.seed),
        stopped=lambda: bool(done),
    )
    assert [result.seed for result in evaluation.results] == done == [SEED]
    client = GraphClient(simulated.check, namespace=NAMESPACE)
    try:
        client.reset_scene(SEED)  # refused while an episode runs
    finally:
        client.close()


def test_an_episode_that_cannot_be_followed_any_more_is_cancelled(
    simulated: NodeGroup, checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(graph_evaluation, "STANDSTILL", 0.0)
    with GraphEvaluation(checkpoint, NAMESPACE) as evaluation:
        evaluation.require()
        monkeypatch.setattr(evaluation, "_on_status", lambda message: None)
        with pytest.raises(GraphNotReady, match="the episode to end; is /robot1/policy_node alive"):
            evaluation.run(SEED, max_duration=600.0)

        def over() -> bool:
            try:
                evaluation.client.reset_scene(SEED)  # refused until the simulator has heard of the end
            except RuntimeError:
                return False
            return True

        evaluation.client.wait(over, 60.0, "the episode to be over")


def test_bags_say_of_which_scene_they_are_the_one_cut_short_too(
    simulated: NodeGroup, checkpoint: Path, tmp_path: Path
) -> None:
    start(simulated, "recorder_node", root=str(tmp_path / "bags"))

    def in_the_second() -> bool:
        return len(list(tmp_path.glob("bags/*"))) > 1

    with GraphEvaluation(checkpoint, NAMESPACE, in_the_second, find=120.0) as evaluation:
        evaluation.require()
        links = [
            ("policy_node", "episode_status", "recorder_node"),
            ("recorder_node", "episode_record", "evaluation_client"),
        ]
        evaluation.client.wait_for_links(links)
        evaluation.run(SEED + 2, max_duration=1.0)
        with pytest.raises(Interrupted):
            evaluation.run(SEED + 3, max_duration=10.0)
    bags = [keys.read_metadata(path).custom_data for path in tmp_path.glob("bags/*")]
    assert {bag[keys.SEED]: bag[keys.TASK] for bag in bags} == {
        str(seed): draw_task((), seed).name for seed in (SEED + 2, SEED + 3)
    }
