"""QT-Opt: cross-entropy to a clipped target that two lagged critics and a search agree on."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from tiny import tiny_trainer

from qt_ros.learning.options import QtOptOptions
from qt_ros.learning.targets import Backup
from qt_ros.learning.trainer import Trainer
from qt_ros.model.acting import act

PLAIN = Backup(gamma=0.9, monte_carlo=False)


def critic_says(network: torch.nn.Module, q: float) -> None:
    with torch.no_grad():
        network.head.weight.zero_()
        network.head.bias.fill_(math.log(q / (1 - q)))


def targets(trainer: Trainer) -> tuple[torch.Tensor, torch.Tensor]:
    batch = trainer.batches.at(0)
    last = batch.remaining[:, 0] == 0
    assert bool(last.any()) and not bool(last.all())
    found, known = trainer.method.whole_action_targets(
        batch, lambda w: trainer.method.best_value(w, torch.Generator().manual_seed(0)), trainer.target
    )
    assert bool(known.all())
    return found[~last], found[last] - batch.rewards[last, 0]


@pytest.mark.parametrize(("first", "second"), [(0.3, 0.7), (0.7, 0.3)])
def test_the_target_takes_the_smaller_of_two_lagged_critics_and_stops_at_the_end(
    tmp_path: Path, first: float, second: float
) -> None:
    trainer = tiny_trainer(tmp_path, "qt_opt", batch=64, backup=PLAIN)
    critic_says(trainer.method.lagged["online"], first)
    critic_says(trainer.method.second, second)
    inside, at_the_end = targets(trainer)
    torch.testing.assert_close(inside, torch.full_like(inside, 0.9 * 0.3))
    torch.testing.assert_close(at_the_end, torch.zeros_like(at_the_end))


def test_the_loss_is_the_cross_entropy_to_the_target(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "qt_opt", batch=64, backup=PLAIN)
    q = float(torch.sigmoid(trainer.model.head.bias[0].detach()))
    batch = trainer.batches.at(0)
    wanted = []
    for reward, remaining in zip(batch.rewards[:, 0].tolist(), batch.remaining[:, 0].tolist(), strict=True):
        y = reward + (0.9 * q if remaining else 0.0)
        wanted.append(-(y * math.log(q) + (1 - y) * math.log(1 - q)))
    assert float(trainer.losses(0)["loss"].detach()) == pytest.approx(sum(wanted) / len(wanted), rel=1e-4)


def test_the_second_critic_is_an_older_copy_of_the_first(tmp_path: Path) -> None:
    trainer = tiny_trainer(tmp_path, "qt_opt", options=QtOptOptions(samples=8, elites=3, second_target_every=3))

    def agree() -> bool:
        pairs = zip(trainer.target.parameters(), trainer.method.second.parameters(), strict=True)
        return all(torch.equal(a, b) for a, b in pairs)

    seen = []
    for _ in range(6):
        trainer.train_step()
        seen.append(agree())
    assert seen == [False, False, True, False, False, True]


def test_it_learns_to_take_the_action_that_succeeded(tmp_path: Path) -> None:
    """Every bin of both dimensions is tried in one situation; only those near (1, 3) pay."""
    trainer = tiny_trainer(
        tmp_path, "qt_opt", gradient_steps=300, batch=64, options=QtOptOptions(), backup=PLAIN, log_every=100
    )
    data = trainer.data
    data.images[:], data.proprio[:], data.text[:] = 0, 0, 0
    n = len(data.bins)
    data.bins[:] = [[i % 5, (i // 5) % 5] for i in range(n)]
    good = (data.bins == [1, 3]).all(1)
    assert 1 <= good.sum() < n
    data.rewards[:], data.remaining[:] = good, 0
    trainer.run(lambda _: None)
    window = trainer.batches.plain_window(trainer.model, data.starts[:1])
    assert act(trainer.model, trainer.config.acting, *window.seen).bins.tolist() == [[1, 3]]
