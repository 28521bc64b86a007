"""The cross-entropy method: the best continuous action by sampling, for a Q-function that cannot be maximised outright.

As QT-Opt uses it (Kalashnikov et al., arXiv 1806.10293): draw candidates, keep the elites, fit a Gaussian to them,
again.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class CemSettings:
    """``iterations`` rounds of ``samples`` candidates, of which the ``elites`` best shape the next round.

    The defaults are QT-Opt's. ``seed``: of the draws while acting, so that a decision is a function of what is seen.
    """

    iterations: int = 2
    samples: int = 64
    elites: int = 6
    seed: int = 0

    def __post_init__(self) -> None:
        if self.iterations < 1 or not 2 <= self.elites <= self.samples:
            raise ValueError(
                f"CEM needs iterations >= 1 and 2 <= elites <= samples, found {self.iterations}, {self.elites}, "
                f"{self.samples}"
            )
        if self.seed < 0:
            raise ValueError(f"CEM: seed must not be negative, found {self.seed}")


@torch.no_grad()
def cross_entropy_method(
    score: Callable[[Tensor], Tensor],
    batch: int,
    dims: int,
    settings: CemSettings,
    generator: torch.Generator,
    device: torch.device | str = "cpu",
    extra: Tensor | None = None,
    shared: bool = False,
    share: tuple[int, int] = (0, 1),
) -> tuple[Tensor, Tensor]:
    """The best action found for each of ``batch`` problems: actions (batch, dims) in [-1, 1], their scores (batch,).

    score: candidates (batch, n, dims) -> (batch, n), higher is better. The first round is uniform over the cube;
    ``extra`` (batch, m, dims) are candidates of somebody else (an actor) that take part in it. ``generator`` lives on
    the CPU, so that every device draws the same numbers. ``shared``: the same draws for all problems, so that the
    answer to one does not depend on what else is in the batch. ``share`` (r, n): these are part r of n equal parts of a
    batch, with the draws that they would have in the whole of it.
    """
    shape = (1 if shared else share[1] * batch, settings.samples, dims)

    def mine(drawn: Tensor) -> Tensor:
        return drawn if shared else drawn.chunk(share[1])[share[0]]

    candidates = (mine(torch.rand(shape, generator=generator)) * 2.0 - 1.0).to(device).expand(batch, -1, -1)
    if extra is not None:
        candidates = torch.cat((extra.to(candidates), candidates), dim=1)
    best = candidates[:, 0]
    highest = torch.full((batch,), -torch.inf, device=device)
    for iteration in range(settings.iterations):
        scores = score(candidates).float()
        top, index = scores.topk(settings.elites, dim=1)
        elites = candidates.gather(1, index[..., None].expand(-1, -1, dims))
        better = top[:, 0] > highest
        best = torch.where(better[:, None], elites[:, 0], best)
        highest = torch.where(better, top[:, 0], highest)
        if iteration + 1 < settings.iterations:
            noise = mine(torch.randn(shape, generator=generator)).to(device)
            mean, spread = elites.mean(1, keepdim=True), elites.std(1, keepdim=True, correction=0)
            candidates = (mean + spread * noise).clamp(-1.0, 1.0)
    return best, highest
