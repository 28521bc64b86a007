"""Critics of whole actions: what they may see, and that asking for many actions at once changes no value."""

from __future__ import annotations

import pytest
import torch
from small_q import BINS, D, differ, inputs, make, some_bins

from qt_ros.model.critics import ContinuousCritic, JointCritic, bins_from_unit, unit_from_bins


def lively(critic: torch.nn.Module) -> torch.nn.Module:
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in critic.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return critic.eval()


@pytest.fixture
def joint() -> JointCritic:
    return lively(JointCritic(make().config))  # type: ignore[return-value]


@pytest.fixture
def continuous() -> ContinuousCritic:
    return lively(ContinuousCritic(make().config))  # type: ignore[return-value]


def test_q_depends_on_every_bin_and_v_on_none(joint: JointCritic) -> None:
    seen, bins = inputs(), some_bins()
    v, q = joint(bins=bins, **seen)
    assert v.shape == q.shape == (4,)
    for i in range(D):
        other = bins.clone()
        other[:, i] = (other[:, i] + 5) % BINS
        v_other, q_other = joint(bins=other, **seen)
        assert torch.equal(v, v_other) and differ(q, q_other)


def test_v_alone_is_the_same_v(joint: JointCritic) -> None:
    torch.testing.assert_close(joint.state_value(**inputs()), joint(bins=some_bins(), **inputs())[0])


def test_a_candidates_value_does_not_depend_on_the_others(continuous: ContinuousCritic) -> None:
    actions = torch.rand(4, 7, D) * 2 - 1
    observed = continuous.observe(**inputs())
    together = continuous.q_logits(observed, actions)
    alone = torch.cat([continuous.q_logits(observed, actions[:, i : i + 1]) for i in range(7)], dim=1)
    torch.testing.assert_close(together, alone)
    assert differ(together[:, 0], together[:, 1])


@pytest.mark.parametrize("kind", ["joint", "continuous"])
def test_frames_not_seen_yet_do_not_count(kind: str, request: pytest.FixtureRequest) -> None:
    critic, seen = request.getfixturevalue(kind), inputs()

    def values() -> torch.Tensor:
        if kind == "joint":
            return torch.stack(critic(bins=some_bins(), **seen))
        return critic.q_logits(critic.observe(**seen), torch.ones(4, 2, D))

    before = values()
    seen["tokens"][2:, :2] = float("nan")
    seen["proprio"][2:, 1] = 7.0
    assert torch.equal(before, values())
    seen["tokens"][:, 2] += 1.0
    assert differ(before, values())


def test_critics_without_vision_say_so(joint: JointCritic) -> None:
    with pytest.raises(RuntimeError, match="another network's tokens"):
        joint.encode_frames(torch.zeros(1, 3, 16, 24, dtype=torch.uint8), torch.zeros(1, 8))
    assert joint.seeing_parts() == []


def test_values_start_at_the_initial_value() -> None:
    config = make(initial_q=0.2).config
    torch.manual_seed(0)
    v, q = JointCritic(config)(bins=some_bins(), **inputs())
    critic = ContinuousCritic(config)
    c = critic.value(critic.q_logits(critic.observe(**inputs()), torch.zeros(4, 1, D)))
    for values in (v, q, c):
        assert values.detach().flatten().tolist() == pytest.approx([0.2] * 4)


def test_bins_and_unit_actions_are_inverse() -> None:
    bins = torch.arange(BINS)[:, None].expand(-1, D)
    unit = unit_from_bins(bins, BINS)
    assert torch.equal(bins_from_unit(unit, BINS), bins)
    assert unit[0, 0] == -1 + 1 / BINS and unit[-1, 0] == 1 - 1 / BINS
    assert bins_from_unit(torch.tensor([-1.0, 1.0, -3.0, 3.0]), BINS).tolist() == [0, BINS - 1, 0, BINS - 1]


def test_an_action_of_another_size_is_refused(continuous: ContinuousCritic) -> None:
    with pytest.raises(ValueError, match=rf"actions must be \(B, n, {D}\)"):
        continuous.q_logits(continuous.observe(**inputs()), torch.zeros(4, D))
