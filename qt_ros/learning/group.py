"""The processes that train together: one alone, or several launched through Accelerate (or torchrun).

Every process holds the whole model and takes an equal part of each batch. Losses are means over the decisions of the
whole batch, whatever part of them a process has (`mean_of` asks for the count of all), and gradients are averaged once
per step, so that the same batch gives the same step on any number of processes, up to the rounding of a sum. That needs
no wrapper around the networks, of which some methods have several, with losses that no single ``forward`` computes. Of
dropout, drawn per process, the same holds in distribution only. What a network gathers while it runs is not shared, so
a network that gathers batch statistics is refused (`require_nothing_gathered`).
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from contextvars import ContextVar

import torch
from torch import Tensor, nn

from qt_ros.learning.errors import TrainingError
from qt_ros.model.acting import Network
from qt_ros.model.efficientnet import FilmEfficientNet


class Group:
    """One process alone: nothing to agree on."""

    rank = 0
    size = 1

    @property
    def main(self) -> bool:
        """Whether this process writes files and reports."""
        return self.rank == 0

    def part_of(self, batch: int) -> slice:
        """Which rows of a batch are this process's. TrainingError when they cannot be dealt out equally."""
        if batch % self.size:
            raise TrainingError(
                f"a batch of {batch} cannot be split among {self.size} processes; choose a batch that they divide "
                f"(--set batch={-(-batch // self.size) * self.size})"
            )
        share = batch // self.size
        return slice(self.rank * share, (self.rank + 1) * share)

    def total(self, value: Tensor) -> Tensor:
        """Sum over the processes."""
        return value

    def any(self, flag: bool) -> bool:
        """Whether it is true for some process; all must ask at the same point."""
        return flag

    def average_gradients(self, networks: Iterable[nn.Module]) -> None:
        """Put the mean over the processes into every gradient."""

    def wait(self) -> None:
        """Until all processes are here."""

    def leave(self) -> None:
        """Wait for the others, then part."""


class AccelerateGroup(Group):
    """The processes that Accelerate knows of."""

    def __init__(self, device: str) -> None:
        from accelerate import Accelerator

        self._accelerator = Accelerator(cpu=torch.device(device).type == "cpu", mixed_precision="no")
        self.rank = self._accelerator.process_index
        self.size = self._accelerator.num_processes
        self.device = self._accelerator.device

    def total(self, value: Tensor) -> Tensor:
        found = self._accelerator.reduce(value.detach().clone(), "sum")
        assert isinstance(found, Tensor)
        return found

    def any(self, flag: bool) -> bool:
        return bool(self.total(torch.tensor(float(flag), device=self.device)) > 0)

    def average_gradients(self, networks: Iterable[nn.Module]) -> None:
        gradients = [p.grad for network in networks for p in network.parameters() if p.grad is not None]
        if not gradients:
            return
        mean = self.total(torch.cat([g.flatten() for g in gradients])) / self.size
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))

    def wait(self) -> None:
        self._accelerator.wait_for_everyone()

    def leave(self) -> None:
        self.wait()
        self._accelerator.end_training()
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


ALONE = Group()
_CURRENT: ContextVar[Group] = ContextVar("group", default=ALONE)


def require_nothing_gathered(model: Network, group: Group) -> None:
    """TrainingError where several processes would train vision whose batch statistics each would gather for itself."""
    if group.size > 1 and isinstance(model.vision, FilmEfficientNet) and not model.vision.frozen:
        raise TrainingError(
            f"batch_norm 'batch' gathers statistics in each of the {group.size} processes by itself, and those of one "
            "alone are saved; set the model's batch_norm to frozen (--set model.batch_norm=frozen, with "
            "--vision-weights), or train in one process"
        )


def join_group(device: str) -> tuple[Group, str]:
    """The group that this process was launched into, and its own device. Alone unless a launcher says otherwise."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE, device
    group = AccelerateGroup(device)
    return group, str(group.device)


@contextlib.contextmanager
def counting_in(group: Group) -> Iterator[None]:
    """Means inside are over the samples of all processes of ``group``."""
    token = _CURRENT.set(group)
    try:
        yield
    finally:
        _CURRENT.reset(token)


def shared_count(count: Tensor) -> Tensor:
    """How many samples count, per process: what a local sum is divided by so that the mean of the processes' quotients
    is the mean over all samples. At least one sample in all."""
    group = _CURRENT.get()
    if group.size == 1:
        return count.clamp(min=1.0)
    return group.total(count).clamp(min=1.0) / group.size
