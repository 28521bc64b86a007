from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from qt_ros.contract.robot import load_contract
from qt_ros.model.checkpoint import save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.q_transformer import QTransformer
from qt_ros.sim.collect import CollectError
from qt_ros.sim.episode_maker import EpisodeResult
from qt_ros.sim.evaluation import Evaluation, evaluate, wilson
from qt_ros.sim.privileged import PRIVILEGED_NAMES

CONTRACT = load_contract("mobile_manipulator")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An untrained, tiny network."""
    config = ModelConfig.from_preset(
        "small",
        image_height=32, image_width=48, vision_channels=8, vision_blocks=1, tokens_per_frame=2, token_learner_hidden=8,
        layers=1, width=32, heads=2, head_dim=16, history=2,
    )  # fmt: skip
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("evaluation") / "tiny"
    save_checkpoint(folder, QTransformer(config).eval(), contract=CONTRACT, text_encoder="minilm", provenance={})
    return folder


def test_wilson_intervals_match_published_values() -> None:
    assert wilson(81, 263) == pytest.approx((0.2553, 0.3662), abs=1e-4)  # Newcombe, Stat. Med. 17 (1998), table I
    assert wilson(15, 148) == pytest.approx((0.0624, 0.1605), abs=1e-4)
    assert wilson(0, 20) == pytest.approx((0.0, 0.1611), abs=1e-4)
    assert wilson(1, 29) == pytest.approx((0.0061, 0.1718), abs=1e-4)


def test_wilson_holds_the_rate_in_spite_of_rounding() -> None:
    for total in range(1, 500):  # 300 of 300 would end at 1 - 2^-53, 11 of 11 misses begin above 0
        assert wilson(0, total)[0] == 0.0 and wilson(total, total)[1] == 1.0


def test_wilson_of_nothing_is_everything_and_nonsense_is_refused() -> None:
    assert wilson(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError):
        wilson(3, 2)


def test_episodes_with_broken_physics_count_neither_way() -> None:
    def result(seed: int, outcome: str) -> EpisodeResult:
        return EpisodeResult(seed, "pick_red_cube", "red_cube", "pick up the red cube", outcome, "terminate", 10)

    evaluation = Evaluation.of([result(2, "unstable"), result(1, "failure"), result(0, "success")])
    assert (evaluation.overall.success, evaluation.overall.episodes, evaluation.unstable) == (1, 2, 1)
    assert [r.seed for r in evaluation.results] == [0, 1]


def test_a_checkpoint_is_run_and_counted_per_task(checkpoint: Path) -> None:
    evaluation = evaluate(checkpoint, 2, tasks=["pick_red_cube"], workers=0)
    document = json.loads(json.dumps(evaluation.to_dict()))
    assert document["episodes"] == 2 and document["by_task"]["pick_red_cube"]["episodes"] == 2
    assert [r["seed"] for r in document["results"]] == [2_000_000, 2_000_001]
    assert all(0.0 < r["value"] < 1.0 for r in document["results"])


def test_rates_are_counted_by_skill_too() -> None:
    def result(seed: int, task: str, outcome: str) -> EpisodeResult:
        return EpisodeResult(seed, task, "x", "do it", outcome, "terminate", 10)

    evaluation = Evaluation.of(
        [
            result(0, "open_drawer", "success"),
            result(1, "pick_red_cube", "failure"),
            result(2, "pick_blue_ball", "success"),
        ]
    )
    document = evaluation.to_dict()["by_skill"]
    assert list(document) == ["pick", "open_drawer"]
    assert (document["pick"]["success"], document["pick"]["episodes"]) == (1, 2)
    assert (document["open_drawer"]["success"], document["open_drawer"]["episodes"]) == (1, 1)


def test_the_wrong_instruction_changes_what_is_said_and_not_the_scene(checkpoint: Path) -> None:
    right = evaluate(checkpoint, 1, workers=0).results[0]
    wrong = evaluate(checkpoint, 1, workers=0, wrong_instruction=True).results[0]
    assert (right.seed, right.task) == (wrong.seed, wrong.task)
    assert right.instruction != wrong.instruction
    name = right.target.replace("_", " ")
    assert name in right.instruction and name not in wrong.instruction


def test_a_policy_on_privileged_state_is_evaluated_with_the_state_of_each_scene(tmp_path: Path) -> None:
    config = ModelConfig.from_preset(
        "small", vision="state", state_size=len(PRIVILEGED_NAMES), tokens_per_frame=2, layers=1, width=32, heads=2,
        head_dim=16, history=2,
    )  # fmt: skip
    torch.manual_seed(0)
    model = QTransformer(config).eval()
    torch.nn.init.normal_(model.head_weight)
    save_checkpoint(tmp_path / "state", model, contract=CONTRACT, text_encoder="minilm", provenance={})
    results = evaluate(tmp_path / "state", 2, tasks=["pick_red_cube"], workers=0).results
    assert [r.seed for r in results] == [2_000_000, 2_000_001]
    assert results[0].value != results[1].value
    with pytest.raises(CollectError, match="hears no words"):
        evaluate(tmp_path / "state", 1, workers=0, wrong_instruction=True)
