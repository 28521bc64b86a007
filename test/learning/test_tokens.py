"""Tokens of a frozen vision side on disk: what the trainer would have made itself, once for all runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from episode_factory import make_episode

from qt_ros.contract.robot import load_contract
from qt_ros.episodes.store import StoreWriter
from qt_ros.episodes.store_labels import label_episode
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import load_training_data
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.run import build_model
from qt_ros.learning.tokens import Stopped, frozen_tokens
from qt_ros.learning.trainer import Trainer
from qt_ros.model.checkpoint import save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.q_transformer import QTransformer

CONTRACT = load_contract("mobile_manipulator")


FIELDS = {
    "image_height": 24, "image_width": 32, "vision_channels": 8, "vision_blocks": 1, "tokens_per_frame": 2,
    "token_learner_hidden": 8, "layers": 1, "width": 16, "heads": 2, "head_dim": 8,
}  # fmt: skip


def warmed_up(folder: Path, seed: int = 0) -> Path:
    """A checkpoint as `qt-ros pretrain` makes it."""
    torch.manual_seed(seed)
    space = CONTRACT.action_space
    model = QTransformer(ModelConfig.from_preset("small", **FIELDS, action_dims=space.size, bins=space.bins))
    save_checkpoint(folder, model, contract=CONTRACT, text_encoder="minilm", provenance={"kind": "pointing"})
    return folder


@pytest.fixture
def init(tmp_path: Path) -> Path:
    return warmed_up(tmp_path / "init")


@pytest.fixture
def stores(tmp_path: Path) -> list[Path]:
    size = (24, 32)
    for name, numbers in (("a", (1, 2, 3)), ("b", (4, 5))):
        with StoreWriter(tmp_path / name, CONTRACT, size) as writer:
            for number in numbers:
                writer.add(make_episode(CONTRACT, number, size=size, instruction=f"pick up the thing {number % 2}"))
    return [tmp_path / "a", tmp_path / "b"]


def settings(**changes: object) -> TrainConfig:
    return TrainConfig(
        **{"model": {}, "gradient_steps": 2, "batch": 4, "learning_rate": 1e-3, "freeze_vision": True, **changes}
    )  # type: ignore[arg-type]


def test_they_are_what_the_trainer_would_have_made(tmp_path: Path, stores: list[Path], init: Path) -> None:
    seen: list[tuple[int, int]] = []
    tokens = frozen_tokens(stores, init, tmp_path / "tokens", progress=lambda *now: seen.append(now))
    data = load_training_data(stores, 0.9)
    assert seen[-1] == (len(data.rewards), len(data.rewards))
    model, encoder = build_model(FIELDS, CONTRACT, data, init, "cpu")
    text = encoder.encode(data.instructions)
    trainer = Trainer(model, data, text, settings(), tmp_path / "state")
    trainer.cache_tokens()
    every = np.arange(len(data.rewards))[:, None]
    _, held = trainer.batches.source.around(every[:, 0])
    own = trainer.batches.tokens(model, held, every)[:, 0]
    assert torch.allclose(torch.from_numpy(np.array(tokens)).float(), own, atol=2e-3)

    slim = load_training_data(stores, 0.9, images=False)
    assert slim.images is None
    slim.tokens = tokens
    other = Trainer(build_model(FIELDS, CONTRACT, slim, init, "cpu")[0], slim, text, settings(), tmp_path / "other")
    other.cache_tokens()
    assert torch.allclose(other.losses(0)["loss"], trainer.losses(0)["loss"], atol=1e-3)


def test_they_are_made_once_and_anew_for_other_stores_or_weights(
    tmp_path: Path, stores: list[Path], init: Path
) -> None:
    folder = tmp_path / "tokens"
    first = frozen_tokens(stores, init, folder)
    assert np.array_equal(first, frozen_tokens(stores, init, folder, progress=lambda *now: pytest.fail("made again")))
    frozen_tokens(stores[:1], init, folder)
    frozen_tokens(stores, warmed_up(tmp_path / "other", seed=5), folder)
    assert len(list(folder.glob("*.npy"))) == 3


def test_there_are_none_of_episodes_that_are_not_learnt_from(tmp_path: Path, stores: list[Path], init: Path) -> None:
    folder = tmp_path / "tokens"
    whole, lengths = frozen_tokens(stores, init, folder), load_training_data(stores, 0.9).lengths
    label_episode(stores[0], "episode-0002", "unknown", "anna")
    data = load_training_data(stores, 0.9, images=False)
    data.tokens = frozen_tokens(stores, init, folder)
    keep = np.repeat(np.arange(5) != 1, lengths)
    assert data.count == keep.sum() == len(data.tokens)
    assert np.allclose(data.tokens, whole[keep], atol=2e-3)


def test_a_stop_leaves_no_half_of_them(tmp_path: Path, stores: list[Path], init: Path) -> None:
    with pytest.raises(Stopped):
        frozen_tokens(stores, init, tmp_path / "tokens", stopped=lambda: True)
    assert [path.suffix for path in (tmp_path / "tokens").iterdir()] == [".lock"]


def test_tokens_that_do_not_fit_and_vision_that_is_to_be_trained_are_refused(
    tmp_path: Path, stores: list[Path], init: Path
) -> None:
    data = load_training_data(stores, 0.9, images=False)
    data.tokens = frozen_tokens(stores, init, tmp_path / "tokens")
    model, encoder = build_model(FIELDS, CONTRACT, data, init, "cpu")
    text = encoder.encode(data.instructions)
    with pytest.raises(TrainingError, match="vision is to be trained"):
        Trainer(model, data, text, settings(freeze_vision=False), tmp_path / "state")
    with pytest.raises(TrainingError, match="make them anew"):
        Trainer(model, replace(data, tokens=data.tokens[1:]), text, settings(), tmp_path / "state")
