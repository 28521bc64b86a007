"""The cross-entropy method finds what it is asked for, the same way every time."""

from __future__ import annotations

import pytest
import torch

from qt_ros.model.cem import CemSettings, cross_entropy_method

OPTIMA = torch.tensor([[0.3, -0.6], [-0.9, 0.9], [0.0, 0.0]])


def score(actions: torch.Tensor) -> torch.Tensor:
    return -(actions - OPTIMA[:, None]).square().sum(-1)


def search(settings: CemSettings, seed: int = 0, **more: object) -> tuple[torch.Tensor, torch.Tensor]:
    return cross_entropy_method(score, 3, 2, settings, torch.Generator().manual_seed(seed), **more)  # type: ignore[arg-type]


def test_it_finds_a_known_optimum() -> None:
    best, value = search(CemSettings(iterations=8))
    torch.testing.assert_close(best, OPTIMA, atol=2e-3, rtol=0)
    torch.testing.assert_close(value, score(best[:, None])[:, 0])


def test_qt_opts_two_rounds_come_close_and_beat_one() -> None:
    two = torch.stack([search(CemSettings(), seed)[1] for seed in range(20)])
    one = torch.stack([search(CemSettings(iterations=1), seed)[1] for seed in range(20)])
    assert float(two.mean()) > float(one.mean())
    assert float(two.neg().sqrt().mean()) < 0.1


def test_the_same_seed_finds_the_same_action() -> None:
    assert torch.equal(search(CemSettings(), 3)[0], search(CemSettings(), 3)[0])
    assert not torch.equal(search(CemSettings(), 3)[0], search(CemSettings(), 4)[0])


def test_a_better_action_from_elsewhere_is_taken() -> None:
    best, value = search(CemSettings(iterations=1, samples=4, elites=2), extra=OPTIMA[:, None])
    assert torch.equal(best, OPTIMA) and torch.equal(value, torch.zeros(3))


def test_with_shared_draws_an_answer_does_not_depend_on_the_rest_of_the_batch() -> None:
    together = search(CemSettings(), shared=True)[0]
    generator = torch.Generator().manual_seed(0)
    alone = cross_entropy_method(
        lambda a: -(a - OPTIMA[1]).square().sum(-1), 1, 2, CemSettings(), generator, shared=True
    )[0]
    assert torch.equal(together[1:2], alone)


def test_candidates_stay_in_range() -> None:
    seen = []

    def outward(actions: torch.Tensor) -> torch.Tensor:
        seen.append(actions)
        return actions.sum(-1)

    best, _ = cross_entropy_method(outward, 1, 3, CemSettings(iterations=6), torch.Generator().manual_seed(0))
    assert all(float(a.abs().max()) <= 1.0 for a in seen)
    assert float(best.min()) > 0.8


@pytest.mark.parametrize("bad", [{"iterations": 0}, {"elites": 1}, {"elites": 65}, {"seed": -1}])
def test_impossible_settings_are_refused(bad: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="CEM"):
        CemSettings(**bad)
