"""What a training method is: its networks, its losses, and which network acts.

The trainer around it is the same for all: sampling, observation windows, optimiser, lagged copies, saving and resuming.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import ClassVar

import torch
from torch import Tensor, nn

from qt_ros.learning.batches import LAGGED, Batch, Window
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import StepData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.targets import td_targets
from qt_ros.model.acting import Network


class Method:
    """Base of all methods.

    ``model``: the network that acts, whose vision makes the tokens of all. ``networks``: all that are trained, by name
    ('online' is the model); ``lagged``: their Polyak averages, which give targets and, with ``save_weights: ema``, act.
    """

    name: ClassVar[str]
    needs_failures: ClassVar[bool] = False
    """Whether training means nothing when every episode succeeds."""

    def __init__(self, model: Network, config: TrainConfig) -> None:
        self.config = config
        acting = config.acting
        try:
            acting.check(model.config)
        except ValueError as error:
            raise TrainingError(f"{error}; build the model for this method") from error
        if not isinstance(model, acting.network_class):
            raise TrainingError(f"{self.name} trains a {acting.network_class.__name__}, not a {type(model).__name__}")
        self.model = model
        self.dims = model.config.action_dims
        self.networks: dict[str, nn.Module] = {"online": model}
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(config.seed + 1)  # the model's own weights were drawn with the seed itself
            self.networks.update(self.other_networks())
        self.lagged = {
            name: copy.deepcopy(network).eval().requires_grad_(False) for name, network in self.networks.items()
        }

    # ---- what a method defines

    def other_networks(self) -> dict[str, nn.Module]:
        """Networks beside the model, fresh."""
        return {}

    def losses(self, batch: Batch) -> dict[str, Tensor]:
        """Scalars of one batch; ``loss`` carries the gradient, the others are for logs."""
        raise NotImplementedError

    def first_values(self, window: Window) -> Tensor | None:
        """What the method expects of N situations, (N,), of which the spread is logged; None where it learns no
        values."""
        return None

    @property
    def lookahead(self) -> int:
        """Environment steps after the learnt ones that a batch must hold."""
        return self.config.backup.lookahead(1)

    @property
    def success_share(self) -> float | None:
        """Share of segments from successful episodes; see `SegmentSampler`."""
        return self.config.success_share

    def after_step(self, step: int) -> None:
        """Called after gradient step ``step``: move the lagged copies."""
        with torch.no_grad():
            for name, network in self.networks.items():
                lagged = self.lagged[name]
                for slow, fast in zip(lagged.parameters(), network.parameters(), strict=True):
                    slow.lerp_(fast, 1 - self.config.ema_decay)
                for kept, new in zip(lagged.buffers(), network.buffers(), strict=True):
                    kept.copy_(new)

    # ---- what they share

    def to(self, device: torch.device) -> None:
        """Move all networks."""
        for module in self.state().values():
            module.to(device)

    def state(self) -> dict[str, nn.Module]:
        """Everything that must be saved to go on exactly, by name."""
        names = {name: "target" if name == "online" else f"{name}_target" for name in self.lagged}
        return self.networks | {names[name]: module for name, module in self.lagged.items()}

    @property
    def lagged_model(self) -> Network:
        """Lagged copy of the model."""
        lagged: Network = self.lagged["online"]  # type: ignore[assignment]
        return lagged

    def check(self, data: StepData) -> None:
        """TrainingError when there is nothing to learn from these episodes."""
        if not data.success.any():
            raise TrainingError(
                f"none of the {len(data.success)} episodes is a success, so every return is 0 and there is nothing to "
                "learn; add successful episodes"
            )
        if self.needs_failures and data.success.all():
            raise TrainingError(
                f"all {len(data.success)} episodes are successes, and {self.name} learns from what failures do "
                "differently; add failed episodes, or clone the successes (--method rt1_bc)"
            )

    def whole_action_targets(
        self, batch: Batch, values: Callable[[Window], Tensor], network: Network
    ) -> tuple[Tensor, Tensor]:
        """r + gamma * V(s') and its n-step and Monte-Carlo variants, for methods with one decision per environment
        step.

        values: V (N,) of windows as ``network`` sees them. Returns targets (B * steps,) in [0, 1] and mask, False where
        there is none.
        """
        backup, steps, count = self.config.backup, batch.steps, len(batch.bins)
        first = backup.n_step
        found = batch.rewards.new_zeros(count, batch.length, 1)
        with torch.no_grad():
            window = batch.window(network, first, batch.length, LAGGED)
            found[:, first:, 0] = values(window).float().clamp(0.0, 1.0).unflatten(0, (count, batch.length - first))
        targets, known = td_targets(
            found, batch.rewards, batch.returns, batch.remaining, batch.terminated, steps, 1, backup
        )
        return targets.flatten(), (known[..., 0] & batch.valid[:, :steps]).flatten()
