"""Decision Transformer: it imitates everything, and the return token says which part of it is asked for."""

from __future__ import annotations

from pathlib import Path

import torch
from tiny import tiny_trainer

from qt_ros.learning.trainer import Trainer
from qt_ros.model.acting import act


def trained(folder: Path) -> Trainer:
    """One situation in which successes take bins (1, 3) and failures (2, 0)."""
    trainer = tiny_trainer(folder, "decision_transformer", gradient_steps=120, batch=32)
    data = trainer.data
    data.images[:], data.proprio[:], data.text[:] = 100, 0.5, 0
    data.bins[:] = [2, 0]
    data.bins[data.success.repeat(data.lengths)] = [1, 3]
    trainer.run(lambda _: None)
    return trainer


def test_the_return_token_changes_the_action_and_acting_asks_for_success(tmp_path: Path) -> None:
    trainer = trained(tmp_path)
    window = trainer.batches.plain_window(trainer.model, trainer.data.starts[:1])
    for wanted, bins in ((1, [[1, 3]]), (0, [[2, 0]])):
        returns = torch.full((1, 2), wanted)
        assert trainer.model.decode(*window.seen, returns)[0].tolist() == bins
    assert act(trainer.model, trainer.config.acting, *window.seen).bins.tolist() == [[1, 3]]


def test_each_frame_is_told_the_outcome_of_its_own_episode(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "decision_transformer", batch=32, segment_steps=2)
    batch = trainer.batches.at(0)
    window = batch.window(trainer.model, 0, 2, view=1)
    assert window.returns is not None and set(window.returns.unique().tolist()) == {0, 1}
    wanted = batch.success.repeat_interleave(2)[:, None].expand(-1, 2).long()
    assert torch.equal(window.returns, wanted)


def test_failures_are_imitated_too(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "decision_transformer", batch=64)
    base = trainer.losses(0)["loss"]
    failed = ~trainer.data.success.repeat(trainer.data.lengths)
    trainer.data.bins[failed] = 0
    assert not torch.equal(trainer.losses(0)["loss"], base)
