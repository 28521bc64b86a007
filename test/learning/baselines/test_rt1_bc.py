"""Cloning: the likelihood of what was done, and only of what succeeded."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import tiny_trainer

from qt_ros.learning.baselines.rt1_bc import log_probability
from qt_ros.learning.options import Rt1BcOptions


def test_the_loss_is_the_cross_entropy_of_every_dimension() -> None:
    logits = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(0))
    bins = torch.tensor([[0, 4], [2, 2], [1, 3]])
    found = log_probability(logits, bins)
    for n in range(3):
        for i in range(2):
            total = sum(math.exp(float(x)) for x in logits[n, i])
            assert float(found[n, i]) == pytest.approx(float(logits[n, i, bins[n, i]]) - math.log(total), abs=1e-5)


def test_only_successful_episodes_are_drawn_and_felt(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "rt1_bc", batch=64)
    batch = trainer.batches.at(0)
    assert bool(batch.success.all())
    base = trainer.losses(0)["loss"]
    failed = ~trainer.data.success.repeat(trainer.data.lengths)
    trainer.data.bins[failed] = 0
    assert torch.equal(trainer.losses(0)["loss"], base)
    trainer.data.bins[~failed] = 0
    assert not torch.equal(trainer.losses(0)["loss"], base)


def test_it_learns_what_successes_did_however_rare(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "rt1_bc", gradient_steps=120, batch=32)
    trainer.run(lambda _: None)
    window = trainer.batches.plain_window(trainer.model, trainer.data.starts)
    bins, probabilities = trainer.model.decode(*window.seen)
    assert bins.tolist() == [[1, 3]] * 12
    assert float(probabilities.max(-1).values.min()) > 0.9


def test_later_dimensions_depend_on_earlier_ones(tmp_path: Path) -> None:
    """Two ways to succeed, (0, 0) and (4, 4): an autoregressive policy never mixes them."""
    trainer = tiny_trainer(tmp_path, "rt1_bc", gradient_steps=200, batch=32)
    data = trainer.data
    data.images[:], data.proprio[:], data.text[:] = 0, 0, 0
    data.bins[:] = [[0, 0] if i % 2 else [4, 4] for i in range(len(data.bins))]
    trainer.run(lambda _: None)
    window = trainer.batches.plain_window(trainer.model, data.starts[:1])
    for first in (0, 4):
        logits = trainer.model.q_logits(window.tokens, torch.tensor([[first, 0]]), *window.seen[1:])
        probabilities = trainer.model.value(logits.detach())[0]
        assert float(probabilities[1, first]) > 0.9
        assert 0.2 < float(probabilities[0, first]) < 0.8


def test_it_may_be_asked_to_clone_failures_too(tmp_path: Path) -> None:
    options = Rt1BcOptions("all")
    batch = tiny_trainer(tmp_path, "rt1_bc", batch=256, options=options).batches.at(0)
    assert 0.2 < float(batch.success.float().mean()) < 0.8
    shared = tiny_trainer(tmp_path, "rt1_bc", batch=256, options=options, success_share=0.9).batches.at(0)
    assert 0.8 < float(shared.success.float().mean()) < 1.0
    with pytest.raises(ValueError, match="successes or all"):
        Rt1BcOptions("some")
