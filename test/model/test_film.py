from __future__ import annotations

import torch

from qt_ros.model.film import FiLM


def test_film_starts_as_the_identity() -> None:
    x, text = torch.randn(2, 5, 3, 4), torch.randn(2, 7)
    assert torch.equal(FiLM(7, 5)(x, text), x)


def test_film_scales_and_shifts_each_channel_by_the_text() -> None:
    film = FiLM(7, 5, text_scale=2.0)
    torch.nn.init.normal_(film.linear.weight)
    torch.nn.init.normal_(film.linear.bias)
    x, text = torch.randn(2, 5, 3, 4), torch.randn(2, 7)
    gamma, beta = (2.0 * text @ film.linear.weight.T + film.linear.bias).split(5, dim=1)
    wanted = (1.0 + gamma)[:, :, None, None] * x + beta[:, :, None, None]
    torch.testing.assert_close(film(x, text), wanted)
