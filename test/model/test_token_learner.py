from __future__ import annotations

import torch

from qt_ros.model.token_learner import TokenLearner, expected_position


def test_each_attention_map_is_a_distribution_over_positions() -> None:
    tokens, attention = TokenLearner(6, 3, 8)(torch.randn(2, 6, 4, 5))
    assert tokens.shape == (2, 3, 6)
    assert attention.shape == (2, 3, 4, 5)
    torch.testing.assert_close(attention.sum((-2, -1)), torch.ones(2, 3))
    assert bool((attention > 0).all())


def test_tokens_are_weighted_sums_of_the_inputs_as_they_came_in() -> None:
    """RT-1 normalises only what the weights are computed from."""
    x = 100.0 + 10.0 * torch.randn(2, 6, 4, 5)
    tokens, attention = TokenLearner(6, 3, 8)(x)
    torch.testing.assert_close(tokens, torch.einsum("nkhw,nchw->nkc", attention, x))


def test_tokens_do_not_depend_on_the_memory_layout() -> None:
    learner, x = TokenLearner(6, 3, 8), torch.randn(2, 6, 4, 5)
    torch.testing.assert_close(learner(x)[0], learner(x.contiguous(memory_format=torch.channels_last))[0])


def test_the_weighted_sums_are_not_rounded_under_bfloat16_autocast_but_the_linear_map_behind_them_rounds_them() -> None:
    x = torch.full((1, 6, 4, 5), 0.123456789)  # the weighted mean of a constant is that constant
    same = torch.nn.Linear(6, 6, bias=False)
    torch.nn.init.eye_(same.weight)
    with torch.autocast("cpu", torch.bfloat16):
        tokens, attention = TokenLearner(6, 3, 8)(x)
        read = same(tokens)
    assert tokens.dtype == attention.dtype == torch.float32
    torch.testing.assert_close(tokens, torch.full((1, 3, 6), 0.123456789))
    assert torch.equal(read, tokens.bfloat16()) and not torch.equal(read.float(), tokens)


def test_expected_position_of_a_peak_is_the_centre_of_its_cell() -> None:
    attention = torch.zeros(1, 2, 4, 5)
    attention[0, 0, 3, 1] = 1.0
    attention[0, 1] = 1.0 / 20
    wanted = torch.tensor([[[1.5 / 5, 3.5 / 4], [0.5, 0.5]]])
    torch.testing.assert_close(expected_position(attention), wanted)


def test_supervising_the_expected_position_moves_the_attention() -> None:
    torch.manual_seed(0)
    learner, x = TokenLearner(6, 1, 8), torch.randn(1, 6, 4, 5)
    optimiser, goal = torch.optim.Adam(learner.parameters(), lr=0.05), torch.tensor([0.8, 0.2])
    errors = []
    for _ in range(60):
        error = (expected_position(learner(x)[1])[0, 0] - goal).square().sum()
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        errors.append(error.item())
    assert errors[-1] < 0.05 * errors[0]
