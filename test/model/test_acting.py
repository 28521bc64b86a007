"""How networks decide: greedy, the same every time, and as their method says."""

from __future__ import annotations

import json

import pytest
import torch
from small_q import BINS, D, differ, inputs, make, some_bins

from qt_ros.model.acting import VALUE_HEADS, Acting, act
from qt_ros.model.cem import CemSettings
from qt_ros.model.critics import ContinuousCritic, bins_from_unit

HEADS = pytest.mark.parametrize("head", ["sigmoid", "linear", "softmax", "hl_gauss"])
QT_OPT = Acting("qt_opt", CemSettings())


@HEADS
def test_the_action_is_the_argmax_of_training_time_values_dimension_by_dimension(head: str) -> None:
    model = make(value_head=head, value_atoms=9, value_rank=4, noise=0.5)
    seen = inputs()
    for cached in (True, False):
        bins, table = model.decode(**seen, use_cache=cached)
        with torch.no_grad():
            values = model.value(model.q_logits(bins=bins, **seen))
        assert values.shape == (4, D, BINS)
        assert torch.equal(values.argmax(-1), bins)
        torch.testing.assert_close(values, table, atol=1e-5, rtol=1e-4)


def test_probabilities_sum_to_one_and_histogram_values_lie_between_zero_and_one() -> None:
    for head in ("softmax", "hl_gauss"):
        model = make(value_head=head)
        values = model.value(model.q_logits(bins=some_bins(), **inputs())).detach()
        assert bool(((values > 0) & (values < 1)).all())
        if head == "softmax":
            torch.testing.assert_close(values.sum(-1), torch.ones(4, D))


def test_the_return_token_changes_the_action_and_acting_asks_for_success() -> None:
    model, seen = make(value_head="softmax", return_token=True, noise=0.6), inputs(8)
    ones = torch.ones(8, 3, dtype=torch.long)
    succeed, fail = model.decode(**seen, returns=ones), model.decode(**seen, returns=0 * ones)
    assert differ(succeed[1], fail[1]) and not torch.equal(succeed[0], fail[0])
    choice = act(model, Acting("decision_transformer"), **seen)
    assert torch.equal(choice.bins, succeed[0]) and torch.equal(choice.table, succeed[1])
    with pytest.raises(ValueError, match="returns must be integers"):
        model.decode(**seen)
    with pytest.raises(ValueError, match="no return_token"):
        make().decode(**inputs(8), returns=ones)


def test_the_return_of_a_frame_that_was_not_seen_does_not_count() -> None:
    model, seen = make(value_head="softmax", return_token=True), inputs()
    ones = torch.ones(4, 3, dtype=torch.long)
    other = ones.clone()
    other[~seen["frame_mask"]] = 0
    assert torch.equal(model.decode(**seen, returns=ones)[1], model.decode(**seen, returns=other)[1])


def test_cem_decides_alike_in_any_company_and_names_the_value_of_the_whole_action() -> None:
    torch.manual_seed(0)
    critic = ContinuousCritic(make().config).eval()
    torch.nn.init.normal_(critic.head.weight)
    seen = inputs()
    together = act(critic, QT_OPT, **seen)
    again = act(critic, QT_OPT, **{k: v[2:3] for k, v in seen.items()})
    assert torch.equal(together.bins[2:3], again.bins) and together.table is None
    assert bool((together.q == together.q[:, :1]).all()) and together.bins.shape == (4, D)


def test_cem_finds_the_action_that_a_trained_critic_values() -> None:
    torch.manual_seed(0)
    critic = ContinuousCritic(make(noise=0.0, action_dims=2).config)
    wanted = torch.tensor([0.5, -0.25])
    seen = {k: v[:1] for k, v in inputs().items()}
    optimiser = torch.optim.Adam(critic.parameters(), lr=3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(150):
        actions = torch.rand(1, 64, 2, generator=generator) * 2 - 1
        target = torch.exp(-2 * (actions - wanted).square().sum(-1))
        loss = (critic.value(critic.q_logits(critic.observe(**seen), actions)) - target).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    choice = act(critic.eval(), Acting("qt_opt", CemSettings(iterations=4)), **seen)
    assert (choice.bins[0] - bins_from_unit(wanted, BINS)).abs().max() <= 2


@pytest.mark.parametrize("method", VALUE_HEADS)
def test_the_way_of_acting_survives_json_and_makes_its_network(method: str) -> None:
    acting = QT_OPT if method == "qt_opt" else Acting(method)
    assert Acting.from_dict(json.loads(json.dumps(acting.to_dict()))) == acting
    fields = {"value_head": VALUE_HEADS[method][0], "return_token": method == "decision_transformer"}
    network = acting.make_network(make(**fields).config)
    choice = act(network.eval(), acting, **inputs())
    assert choice.bins.shape == choice.q.shape == (4, D)
    assert bool(((choice.bins >= 0) & (choice.bins < BINS)).all())


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"name": "ppo", "cem": None}, "method 'ppo' is none of q_transformer"),
        ({"name": "qt_opt", "cem": None}, "cem settings go with qt_opt"),
        ({"name": "iql", "cem": CemSettings().__dict__}, "cem settings go with qt_opt"),
        ({"name": "iql"}, "exactly the keys cem, name"),
        ({"name": "qt_opt", "cem": {"samples": 64}}, "exactly the keys elites, iterations, samples, seed"),
        ({"name": "qt_opt", "cem": {**CemSettings().__dict__, "samples": "64"}}, "samples must be a whole number"),
        ("iql", "exactly the keys"),
    ],
)
def test_a_wrong_record_is_refused(data: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Acting.from_dict(data)


def test_a_network_that_does_not_fit_the_method_is_refused() -> None:
    with pytest.raises(ValueError, match="rt1_bc needs value_head softmax, the model has sigmoid"):
        Acting("rt1_bc").check(make().config)
    with pytest.raises(ValueError, match="needs return_token"):
        Acting("decision_transformer").check(make(value_head="softmax").config)
    with pytest.raises(ValueError, match="has no return_token"):
        Acting("rt1_bc").check(make(value_head="softmax", return_token=True).config)
