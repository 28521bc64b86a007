"""Decision Transformer (Chen et al., arXiv 2106.01345): imitate everything, told how it ended, and ask for success.

    loss = - mean over dimensions i of log pi(a_t[i] | R, s_t, a_t[0..i-1]),    all episodes

With a reward of 0 or 1 at the end, the return-to-go R of every step is the episode's outcome: 1 for success, 0 for
failure. It is one more token per frame of the window (``return_token`` of the model). Acts with R = 1. Past
actions, part of the source's sequence, are not in the window: as for every method here it holds observations only.
"""

from __future__ import annotations

from qt_ros.learning.baselines.rt1_bc import Cloning


class DecisionTransformer(Cloning):
    """`Cloning` on all episodes; the model's return token is what tells them apart."""

    name = "decision_transformer"
    needs_failures = True
