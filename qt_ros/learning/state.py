"""Training state on disk as safetensors and JSON: all a run needs to go on exactly, and nothing that is unpickled."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qt_ros.contract.files import replacing_path
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.group import ALONE, Group


class StateError(RuntimeError):
    """A training state cannot be used; the message says why and what to do."""


class Sums:
    """Sums of metrics since the last report, on ``device`` so that no step waits for them. A saved state keeps them
    (``kept``, what `load_state` found), so that a report after an interruption is the one there would have been."""

    def __init__(
        self,
        device: torch.device,
        kept: Mapping[str, Any] | None = None,
        group: Group = ALONE,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._kind: dict[str, Any] = {"device": device, "dtype": dtype}
        kept = kept or {}
        self.count = int(kept.get("count", 0))
        self._seconds = float(kept.get("seconds", 0.0))
        self._sums: dict[str, Tensor] = {}
        for name, parts in kept.get("sums", {}).items():
            # Other processes than those that saved share equally what these had: the mean over all stays.
            mine = parts[group.rank] if len(parts) == group.size else sum(parts) / len(parts)
            self._sums[name] = torch.tensor(mine, **self._kind)
        self.go_on()

    def go_on(self) -> None:
        """Let the clock run on from the time that is kept."""
        self._since = time.perf_counter() - self._seconds

    @property
    def elapsed(self) -> float:
        """Seconds since the last report, less those in which nothing ran."""
        return time.perf_counter() - self._since

    def add(self, terms: Mapping[str, Tensor | float]) -> None:
        """Those of one more step."""
        for name, value in terms.items():
            so_far = self._sums.get(name)
            now = torch.as_tensor(value, **self._kind)
            self._sums[name] = now if so_far is None else so_far + now
        self.count += 1

    def means(self, group: Group = ALONE) -> dict[str, float]:
        """Over the steps since the last report and all processes, which must ask at the same point."""
        return {name: float(group.total(value)) / group.size / self.count for name, value in self._sums.items()}

    def clear(self) -> None:
        """What was summed up is reported."""
        self._sums, self.count, self._seconds = {}, 0, 0.0
        self.go_on()

    def kept(self, group: Group = ALONE) -> dict[str, Any]:
        """For a state: every process's own sums, as the sum of their sums is rounded in another order. All must ask at
        the same point; where nothing is summed up, nothing is asked of the others."""
        if not self.count:
            return {}
        self._seconds = self.elapsed
        own = torch.stack(list(self._sums.values()))
        parts = torch.zeros(len(own), group.size, **self._kind)
        parts[:, group.rank] = own
        sums = dict(zip(self._sums, group.total(parts).tolist(), strict=True))
        return {"count": self.count, "seconds": self._seconds, "sums": sums}


def save_state(
    folder: Path,
    step: int,
    modules: dict[str, nn.Module],
    optimiser: torch.optim.Optimizer,
    extra: dict[str, Any],
    sums: Mapping[str, Any] | None = None,
) -> None:
    """Write ``state.safetensors`` (step, ``extra`` and ``sums`` in its header) atomically; the old one stays until
    then. ``sums``: see `Sums.kept`; they say nothing of whether a run may go on from this state."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"{name}/{key}"] = value.detach().cpu().clone().contiguous()
    for index, entry in optimiser.state_dict()["state"].items():
        for key, value in entry.items():
            tensors[f"optimiser/{index}/{key}"] = torch.as_tensor(value).detach().cpu().clone().contiguous()
    with replacing_path(folder / "state.safetensors") as temporary:
        header = {"step": str(step), "extra": json.dumps(extra), "sums": json.dumps(dict(sums or {}))}
        save_file(tensors, temporary, metadata=header)


def require_same(folder: Path, found: dict[str, Any], own: dict[str, Any]) -> None:
    """TrainingError unless the settings, the data and the start noted in a state, ``found``, are those of the run that
    would go on."""
    if "start" not in found:  # saved before it was noted: what the run began from cannot be compared
        found = {**found, "start": own.get("start")}
    if found == own:
        return
    if "stores" not in found:
        raise TrainingError(
            f"the state in {folder} comes from an earlier version, which did not note what its stores held, so it "
            "cannot be continued safely; use a new --out (--init with the checkpoint beside it keeps what was learnt)"
        )
    different = ", ".join(sorted(_differences(found, own)))
    raise TrainingError(
        f"{folder} holds a run with other settings or data ({different}); continue it with its own, or use a new folder"
    )


def _differences(found: dict[str, Any], own: dict[str, Any]) -> list[str]:
    """Keys whose values differ; of the settings which, and what they were; of the start, which part of it."""
    parts = {"start", "config"}
    keys = [k for k in found.keys() | own.keys() if k not in parts and found.get(k) != own.get(k)]
    theirs, mine = _dotted(found.get("config")), _dotted(own.get("config"))
    settings = [
        f"{k} was {theirs.get(k, 'not set')}, is {mine.get(k, 'not set')}"
        for k in sorted(theirs.keys() | mine.keys())
        if theirs.get(k) != mine.get(k)
    ]
    theirs, mine = found.get("start") or {}, own.get("start") or {}
    return [*settings, *sorted(keys), *sorted(k for k in theirs.keys() | mine.keys() if theirs.get(k) != mine.get(k))]


def _dotted(value: Any, name: str = "") -> dict[str, Any]:
    """{"loss.alpha": 20, ...} of nested settings."""
    if not isinstance(value, dict) or not value:
        return {name: value}
    return {k: v for key, part in value.items() for k, v in _dotted(part, f"{name}.{key}".lstrip(".")).items()}


def load_state(
    folder: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer
) -> tuple[int, dict[str, Any], dict[str, Any]]:
    """Restore in place; returns (next step, extra, sums). Raises StateError for a damaged or foreign file."""
    path = folder / "state.safetensors"
    try:
        tensors = load_file(path)
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        step, extra = int(metadata["step"]), json.loads(metadata["extra"])
        sums = json.loads(metadata.get("sums", "{}"))  # earlier versions dropped them
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise StateError(f"{path}: cannot be read ({error}); delete it to start again") from error
    try:
        for name, module in modules.items():
            prefix = f"{name}/"
            module.load_state_dict(
                {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}, strict=True
            )
    except RuntimeError as error:
        raise StateError(f"{path}: belongs to another model ({error}); use another output folder") from error
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        if key.startswith("optimiser/"):
            _, index, field = key.split("/")
            state.setdefault(int(index), {})[field] = value
    current = optimiser.state_dict()
    optimiser.load_state_dict({"state": state, "param_groups": current["param_groups"]})
    return step, extra, sums
