"""Histograms over values in [0, 1] as network outputs ("Stop Regressing", arXiv 2403.03950), one per bin.

Every one of D x bins Q-values is the mean of a categorical distribution over ``atoms`` equal cells of [0, 1]. A
separate output per atom would make the head ``atoms`` times as large: 10 x 256 x 51 outputs per sample, and at width
512 a head of 67 million parameters, more than the rest of the network. So the log-probabilities of a bin are a sum of
``rank`` cosines,

    log p_k = base_k + sum_j z_j cos(pi j c_k) - log Z,   c_k = (k + 1/2) / atoms,  j = 1..rank:

the first rows of the discrete cosine transform of the log-histogram. rank = atoms - 1 is every histogram there is. With
coefficients up to 5, rank 8 comes within 0.22 nats (and 0.003 in the mean) of every Gaussian target of 51 atoms, rank
12 within 0.03 nats, rank 4 only within 1.0 (found by fitting them). The network's outputs are the z. Nothing of size
samples x D x bins x atoms is ever kept: the normaliser is computed in pieces, and its gradient, the mean of the
cosines, has the size of z.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

PIECE = {"cpu": 1 << 15, "cuda": 1 << 20}
"""Histograms expanded at once: 7 MB at 51 atoms on a CPU, 200 MB on a GPU."""
STEEPEST = 12.0


class ValueHistogram(nn.Module):
    """Turns outputs z (..., rank) into histograms over the ``atoms`` cells of [0, 1] and into their means. No weights.

    ``initial``: the mean that z = 0 stands for, but not below 0.08: base_k = -slope c_k with a slope of at most 12, so
    that high values are not too far away to be learnt.
    """

    centres: Tensor
    basis: Tensor
    base: Tensor

    def __init__(self, atoms: int, rank: int, initial: float) -> None:
        super().__init__()
        self.atoms, self.rank = atoms, rank
        # On the CPU wherever the network is made: the slope is read back, which the meta device cannot.
        centres = (torch.arange(atoms, dtype=torch.float64, device="cpu") + 0.5) / atoms
        order = torch.arange(1, rank + 1, dtype=torch.float64, device="cpu")
        base = -_slope(centres, initial) * centres
        self.register_buffer("centres", centres.float(), persistent=False)
        self.register_buffer("basis", torch.cos(math.pi * order[:, None] * centres).float(), persistent=False)
        self.register_buffer("base", base.float(), persistent=False)

    def logits(self, z: Tensor) -> Tensor:
        """z (..., rank) -> unnormalised log-probabilities (..., atoms), float32. For few histograms only."""
        with torch.autocast(z.device.type, enabled=False):
            return z.float() @ self.basis + self.base

    def mean(self, z: Tensor) -> Tensor:
        """z (..., rank) -> values (...) in (0, 1), float32. Not differentiable: what is trained are the histograms."""
        flat = z.detach().reshape(-1, self.rank)
        out = torch.empty(len(flat), device=z.device)
        with torch.autocast(z.device.type, enabled=False):
            for piece in _pieces(flat):
                out[piece] = torch.softmax(self.logits(flat[piece]), -1) @ self.centres
        return out.reshape(z.shape[:-1])

    def summary(self, z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        """z (..., rank), target (atoms,) that sums to 1 -> cross-entropy of the target and the histogram
        (- sum_k target_k log p_k), and `mean`, both (...) float32, in one go and at the memory of z.

        The first is differentiable, the second is not. For a target of each histogram's own see `expected_logit`.
        """
        cross_entropy, mean = _CrossEntropy.apply(z.float(), self.basis, self.base, self.centres, target)
        return cross_entropy, mean

    def expected_logit(self, z: Tensor, target: Tensor) -> Tensor:
        """sum_k target_k logit_k: z (..., rank), target (..., atoms) or (atoms,) -> (...).

        The cross-entropy of a target is that of another one minus this of their difference.
        """
        with torch.autocast(z.device.type, enabled=False):
            return (z.float() * (target @ self.basis.T)).sum(-1) + target @ self.base


class _CrossEntropy(torch.autograd.Function):
    """log sum_k exp(logit_k) - sum_k target_k logit_k with logits z @ basis + base, and the histogram's mean.

    The gradient, which is kept, is the basis' mean under the histogram minus that under the target.
    """

    @staticmethod
    def forward(
        ctx: Any, z: Tensor, basis: Tensor, base: Tensor, centres: Tensor, target: Tensor
    ) -> tuple[Tensor, Tensor]:
        flat = z.reshape(-1, z.shape[-1])
        total, value = torch.empty(len(flat), device=z.device), torch.empty(len(flat), device=z.device)
        slope = torch.empty_like(flat)
        moments = torch.cat((basis, centres[None], torch.ones_like(centres)[None])).T
        with torch.autocast(z.device.type, enabled=False):
            wanted, constant = basis @ target, base @ target
            for piece in _pieces(flat):
                logits = torch.addmm(base, flat[piece], basis)
                highest = logits.amax(-1, keepdim=True)
                found = logits.sub_(highest).exp_() @ moments
                mass = found[:, -1:]
                total[piece] = (mass.log() + highest).squeeze(-1) - (flat[piece] @ wanted + constant)
                torch.div(found[:, :-2], mass, out=slope[piece]).sub_(wanted)
                value[piece] = found[:, -2] / mass[:, 0]
        ctx.save_for_backward(slope.reshape(z.shape))
        value = value.reshape(z.shape[:-1])
        ctx.mark_non_differentiable(value)
        return total.reshape(z.shape[:-1]), value

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None, None, None]:
        (slope,) = ctx.saved_tensors
        return gradients[0].unsqueeze(-1) * slope, None, None, None, None


def _pieces(flat: Tensor) -> list[slice]:
    size = PIECE.get(flat.device.type, PIECE["cpu"])
    return [slice(first, first + size) for first in range(0, len(flat), size)]


def _slope(centres: Tensor, mean: float) -> float:
    """The s in [-12, 12] for which probabilities proportional to exp(-s c) have that mean, by bisection."""
    low, high = -STEEPEST, STEEPEST
    for _ in range(60):
        middle = (low + high) / 2
        if float(torch.softmax(-middle * centres, 0) @ centres) > mean:
            low = middle
        else:
            high = middle
    return (low + high) / 2
