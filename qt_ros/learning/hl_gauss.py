"""Values as classification: HL-Gauss ("Stop Regressing", Farebrother et al., arXiv 2403.03950, Sec. 3.1).

Each bin's Q-value is the mean of a histogram over [0, 1] with cells of width 1/m, centres c_k and edges e_k. A target y
becomes the mass that a Gaussian around it puts into the cells, and the temporal-difference loss is the cross-entropy to
it:

    h_k(y) = (Phi((e_{k+1} - y) / sigma) - Phi((e_k - y) / sigma)) / sum,    sigma = 0.75 / m
    td     = - sum_k h_k(y) log p_k(s, a)
    conservative = mean over the bins b not taken of - sum_k h_k(0) log p_k(s, b)

The conservative term is the same measure with the histogram of value 0, the lowest return there is, as the other losses
use theirs. Near 0 and 1 the renormalised Gaussian is cut off, so h(0) has the mean 0.9 sigma rather than 0: values of
bins that were never taken settle there (0.0135 for 51 cells). Each pass of a value through the chain of backups adds a
little of that (nothing at 3 sigma and more), which is why more than a few dozen cells are needed.

Cost: see `qt_ros.model.value_histogram`, which keeps nothing of size bins x cells.
"""

from __future__ import annotations

import torch
from torch import Tensor

from qt_ros.learning.losses import LossConfig, mean_of
from qt_ros.model.value_histogram import ValueHistogram


def gaussian_mass(values: Tensor, cells: int, sigma: float) -> Tensor:
    """Target histograms: values (...) in [0, 1] -> (..., cells), each summing to 1. ``sigma`` in cell widths."""
    edges = torch.linspace(0.0, 1.0, cells + 1, device=values.device)
    below = torch.special.ndtr((edges - values.unsqueeze(-1)) * (cells / sigma))
    mass = below[..., 1:] - below[..., :-1]
    return mass / mass.sum(-1, keepdim=True)


def histogram_losses(
    outputs: Tensor, bins: Tensor, targets: Tensor, mask: Tensor, config: LossConfig, histogram: ValueHistogram
) -> dict[str, Tensor]:
    """The terms of `q_losses` and ``agreement``, ``target`` for histogram outputs (..., D, B, rank).

    bins (..., D) long, targets (..., D) float in [0, 1], mask (..., D) bool.
    """
    count = outputs.shape[-2]
    aim = gaussian_mass(targets.float(), histogram.atoms, config.sigma)
    index = bins.unsqueeze(-1)
    taken = outputs.gather(-2, index.unsqueeze(-1).expand(*index.shape, outputs.shape[-1])).squeeze(-2)
    nothing = gaussian_mass(torch.zeros((), device=outputs.device), histogram.atoms, config.sigma)
    if config.regulariser == "none":  # only the bins taken carry a gradient
        down_taken, _ = histogram.summary(taken, nothing)
        with torch.no_grad():
            down, values = histogram.summary(outputs, nothing)
    else:
        down, values = histogram.summary(outputs, nothing)
        down_taken = down.gather(-1, index).squeeze(-1)
    td = mean_of(down_taken - histogram.expected_logit(taken, aim - nothing), mask)
    conservative = mean_of((down.sum(-1) - down_taken) / (count - 1), mask)
    with torch.no_grad():
        q_taken = values.gather(-1, index).squeeze(-1)
        q_other = (values.sum(-1) - q_taken) / (count - 1)
        same = (values.argmax(-1) == bins).float()
    return {
        "loss": td if config.regulariser == "none" else td + config.alpha * conservative,
        "td": td,
        "conservative": conservative,
        "q_taken": mean_of(q_taken, mask),
        "q_other": mean_of(q_other, mask),
        "agreement": mean_of(same, mask),
        "target": mean_of(targets, mask),
    }
