"""From settings to a model and from a model to a checkpoint that says where it came from."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tiny import tiny_data

from qt_ros.contract.robot import load_contract
from qt_ros.learning.config import load_train_config
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.methods import make_method
from qt_ros.learning.options import OPTIONS
from qt_ros.learning.pointing import PointingConfig
from qt_ros.learning.run import build_model, require_start, save_pointing, save_run, started_from, summary_of
from qt_ros.model.checkpoint import load_checkpoint, read_info
from qt_ros.model.language import TextEncoder, bundled_minilm
from qt_ros.model.timm_weights import OWN_PARTS

CONTRACT = load_contract("mobile_manipulator")
FIELDS = {
    "preset": "small", "vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2, "token_learner_hidden": 8,
    "layers": 1, "width": 32, "heads": 2, "head_dim": 16, "image_height": 16, "image_width": 16,
}  # fmt: skip


def data(**changes: object) -> TrainingData:
    """Tiny data as if recorded under the contract."""
    made = tiny_data()
    made.proprio = np.zeros((len(made.rewards), 10), np.float32)
    made.action_space_sha256 = CONTRACT.action_space.sha256
    return dataclasses.replace(made, **changes)


def test_the_model_takes_its_sizes_from_contract_and_data() -> None:
    model, _ = build_model(FIELDS, CONTRACT, data(), None, "cpu")
    config = model.config
    assert (config.action_dims, config.bins, config.proprio_size) == (10, 256, 10)
    assert (config.image_height, config.image_width, config.width) == (16, 16, 32)


def test_data_of_another_action_space_are_refused() -> None:
    with pytest.raises(TrainingError, match="recorded in action space 0123456789ab"):
        build_model(FIELDS, CONTRACT, data(action_space_sha256="0123456789abcdef"), None, "cpu")


def test_every_method_gets_the_network_it_needs_and_its_checkpoint_says_how_it_acts(tmp_path: Path) -> None:
    for method in OPTIONS:
        settings = load_train_config(f"picking/{method}")
        model, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu", method=method)
        save_run(tmp_path / method, model, CONTRACT, encoder, settings, data(), 5, None)
        loaded, info = load_checkpoint(tmp_path / method, contract=CONTRACT)
        assert info.acting == settings.acting and info.acting.name == info.provenance["kind"] == method
        assert type(loaded) is type(model)


def test_a_field_that_does_not_go_with_the_method_is_refused_when_it_trains(tmp_path: Path) -> None:
    model, _ = build_model({**FIELDS, "value_head": "sigmoid"}, CONTRACT, data(), None, "cpu", method="rt1_bc")
    with pytest.raises(TrainingError, match="rt1_bc needs value_head softmax"):
        make_method(model, load_train_config("picking/rt1_bc"))


def test_a_warmed_up_vision_side_serves_every_method_and_seed(tmp_path: Path) -> None:
    warm, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu", seed=9)
    save_pointing(tmp_path / "warm", warm, CONTRACT, encoder, PointingConfig(), data(), 3)
    for method in ("q_transformer", "decision_transformer", "qt_opt"):
        first, second = (
            build_model(FIELDS, CONTRACT, data(), tmp_path / "warm", "cpu", method=method, seed=s)[0] for s in (0, 1)
        )
        for part in ("vision", "token_learner", "to_width"):
            for model in (first, second):
                states = (getattr(warm, part).state_dict().values(), getattr(model, part).state_dict().values())
                assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
        assert not torch.equal(first.action_embedding[0].weight if method == "qt_opt" else first.start,
                               second.action_embedding[0].weight if method == "qt_opt" else second.start)  # fmt: skip
    fields = {**FIELDS, "history": 4, "layers": 2}  # what follows behind the tokens is free
    assert build_model(fields, CONTRACT, data(), tmp_path / "warm", "cpu")[0].config.history == 4
    with pytest.raises(TrainingError, match=r"another vision side \(tokens_per_frame\)"):
        build_model({**FIELDS, "tokens_per_frame": 3}, CONTRACT, data(), tmp_path / "warm", "cpu")


def test_the_vision_side_of_a_trained_checkpoint_serves_every_method_too(tmp_path: Path) -> None:
    trained, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu", seed=9)
    save_run(tmp_path / "qt", trained, CONTRACT, encoder, load_train_config("small"), data(), 5, None)
    given = (CONTRACT, data(), tmp_path / "qt", "cpu")
    model, _ = build_model({**FIELDS, "layers": 2}, *given, method="rt1_bc", only_vision=True)
    for mine, theirs in zip(model.seeing_parts(), trained.seeing_parts(), strict=True):
        pairs = zip(mine.state_dict().values(), theirs.state_dict().values(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)
    alike, _ = build_model(FIELDS, *given, only_vision=True)
    assert not torch.equal(alike.start, trained.start), "nothing else is taken"
    assert torch.equal(build_model(FIELDS, *given)[0].start, trained.start)
    assert started_from(encoder, tmp_path / "qt") != started_from(encoder, tmp_path / "qt", only_vision=True)
    save_run(tmp_path / "own", alike, CONTRACT, encoder, load_train_config("small"), data(), 5, *given[2:3], None, True)
    assert read_info(tmp_path / "own").provenance["taken"] == "vision"
    with pytest.raises(TrainingError, match="name one with --init"):
        build_model(FIELDS, CONTRACT, data(), None, "cpu", only_vision=True)


def test_a_trained_checkpoint_goes_on_only_by_its_own_method(tmp_path: Path) -> None:
    model, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu", method="iql")
    save_run(tmp_path / "iql", model, CONTRACT, encoder, load_train_config("picking/iql"), data(), 5, None)
    build_model(FIELDS, CONTRACT, data(), tmp_path / "iql", "cpu", method="iql")
    with pytest.raises(TrainingError, match="was trained by iql, this run is rt1_bc"):
        build_model(FIELDS, CONTRACT, data(), tmp_path / "iql", "cpu", method="rt1_bc")


def test_a_model_for_privileged_state_takes_its_size_from_the_data() -> None:
    state = data(images=None, privileged=np.zeros((len(data().rewards), 11), np.float32))
    model, _ = build_model({**FIELDS, "vision": "state"}, CONTRACT, state, None, "cpu", method="cql")
    assert model.config.state_size == 11 and model.config.vision == "state"
    with pytest.raises(TrainingError, match="state_size"):
        build_model({**FIELDS, "vision": "state"}, CONTRACT, data(), None, "cpu")


def test_of_very_many_sentences_a_checkpoint_keeps_some_of_every_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qt_ros.learning.run.MOST_INSTRUCTIONS", 4)
    said = [f"{verb} it {number}" for verb in ("close", "lift", "open") for number in range(3)]
    kept = summary_of(data(instructions=said))["instructions"]
    assert len(kept) <= 4 and {text.split()[0] for text in kept} == {"close", "lift", "open"}
    assert summary_of(data(instructions=[]))["instructions"] == []


def test_a_wrong_model_field_is_named() -> None:
    with pytest.raises(TrainingError, match="layerz"):
        build_model({**FIELDS, "layerz": 2}, CONTRACT, data(), None, "cpu")


def test_a_checkpoint_says_what_it_was_made_of_and_can_be_started_from(tmp_path: Path) -> None:
    model, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu")
    settings = load_train_config("small")
    save_run(tmp_path / "first", model, CONTRACT, encoder, settings, data(), 5, None)
    first = load_checkpoint(tmp_path / "first", contract=CONTRACT)[1]
    assert first.provenance["settings"] == settings.to_dict() and first.provenance["gradient_steps"] == 5
    assert (first.provenance["episodes"], first.provenance["successes"]) == (12, 6)
    assert re.fullmatch(r"([0-9a-f]{40}(-dirty)?)?", first.provenance["commit"])
    assert first.provenance["instructions"] == sorted(data().instructions)

    again, encoder = build_model(FIELDS, CONTRACT, data(), tmp_path / "first", "cpu")
    states = (model.state_dict().values(), again.state_dict().values())
    assert all(torch.equal(a, b) for a, b in zip(*states, strict=True))
    save_run(tmp_path / "second", again, CONTRACT, encoder, settings, data(), 9, tmp_path / "first")
    assert load_checkpoint(tmp_path / "second")[1].provenance["init"] == first.id
    with pytest.raises(TrainingError, match="layers"):
        build_model({**FIELDS, "layers": 2}, CONTRACT, data(), tmp_path / "first", "cpu")


def test_another_image_size_than_the_stores_is_refused() -> None:
    fields = {key: value for key, value in FIELDS.items() if not key.startswith("image")}
    with pytest.raises(TrainingError, match="preset 'small' sees 96 x 128 pixels, the stores hold 16 x 16"):
        build_model(fields, CONTRACT, data(), None, "cpu")
    with pytest.raises(TrainingError, match="the settings ask for 32 x 16 pixels"):
        build_model({**FIELDS, "image_height": 32}, CONTRACT, data(), None, "cpu")


def test_fresh_weights_follow_the_seed() -> None:
    first, second, other = (build_model(FIELDS, CONTRACT, data(), None, "cpu", seed=s)[0] for s in (3, 3, 4))
    assert torch.equal(first.head_weight, second.head_weight)
    assert not torch.equal(first.head_weight, other.head_weight)


def test_freezing_vision_that_nobody_trained_is_refused() -> None:
    settings = load_train_config("small")
    assert settings.freeze_vision
    with pytest.raises(TrainingError, match="without --init it is random"):
        require_start(settings, None)
    require_start(settings, Path("runs/warm/checkpoint"))
    require_start(dataclasses.replace(settings, freeze_vision=False), None)


@pytest.fixture(scope="module")
def other_encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a sentence encoder with 16 numbers: the default's, followed by a random projection."""
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Dense

    folder = tmp_path_factory.mktemp("encoder") / "small"
    torch.manual_seed(0)
    bundled = SentenceTransformer(str(bundled_minilm()), device="cpu")
    SentenceTransformer(modules=[bundled[0], bundled[1], Dense(384, 16)], device="cpu").save(str(folder))
    return folder


def test_the_model_follows_the_text_encoder_and_keeps_to_it(
    other_encoder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(other_encoder.parent)
    model, encoder = build_model(FIELDS, CONTRACT, data(), None, "cpu", text_encoder="small")
    assert model.config.text_size == encoder.size == 16
    assert encoder.name == str(other_encoder)  # found again from any working folder
    save_run(tmp_path / "c", model, CONTRACT, encoder, load_train_config("small"), data(), 1, None)
    for wanted in (None, str(other_encoder)):
        again, encoder = build_model(FIELDS, CONTRACT, data(), tmp_path / "c", "cpu", text_encoder=wanted)
        assert again.config.text_size == 16 and encoder.name == str(other_encoder)
    with pytest.raises(TrainingError, match="--text-encoder asks for 'minilm'"):
        build_model(FIELDS, CONTRACT, data(), tmp_path / "c", "cpu", text_encoder="minilm")


def test_frozen_batch_statistics_need_published_weights(tmp_path: Path) -> None:
    fields = {**FIELDS, "vision": "efficientnet_b0", "vision_channels": 16}
    with pytest.raises(TrainingError, match="batch_norm to batch"):
        build_model(fields, CONTRACT, data(), None, "cpu")
    scratch, _ = build_model({**fields, "batch_norm": "batch"}, CONTRACT, data(), None, "cpu")
    published = {
        key: value + 0.25 if value.is_floating_point() else value
        for key, value in scratch.vision.state_dict().items()
        if not key.startswith(OWN_PARTS)
    }
    save_file(published, tmp_path / "model.safetensors")
    loaded, _ = build_model(fields, CONTRACT, data(), None, "cpu", vision_weights=str(tmp_path))
    state = loaded.vision.state_dict()
    assert all(torch.equal(state[key], value) for key, value in published.items())
    settings = load_train_config("paper")
    save_run(tmp_path / "c", loaded, CONTRACT, TextEncoder(), settings, data(), 1, None, "published")
    assert load_checkpoint(tmp_path / "c")[1].provenance["vision_weights"] == "published"
    with pytest.raises(TrainingError, match="leave out one of the two"):
        build_model(fields, CONTRACT, data(), tmp_path / "c", "cpu", vision_weights=str(tmp_path))
    with pytest.raises(TrainingError, match="is for EfficientNets"):
        build_model(FIELDS, CONTRACT, data(), None, "cpu", vision_weights=str(tmp_path))
