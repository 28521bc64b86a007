"""Training state on disk as safetensors and JSON: all a run needs to go on exactly, and nothing that is unpickled."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from qt_ros.contract.files import replacing_path
from qt_ros.learning.errors import TrainingError


class StateError(RuntimeError):
    """A training state cannot be used; the message says why and what to do."""


def save_state(
    folder: Path, step: int, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer, extra: dict[str, Any]
) -> None:
    """Write ``state.safetensors`` (step and ``extra`` in its header) atomically; the old one stays until then."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for name, module in modules.items():
        for key, value in module.state_dict().items():
            tensors[f"{name}/{key}"] = value.detach().cpu().clone().contiguous()
    for index, entry in optimiser.state_dict()["state"].items():
        for key, value in entry.items():
            tensors[f"optimiser/{index}/{key}"] = torch.as_tensor(value).detach().cpu().clone().contiguous()
    with replacing_path(folder / "state.safetensors") as temporary:
        save_file(tensors, temporary, metadata={"step": str(step), "extra": json.dumps(extra)})


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
    """Keys whose values differ; of the start, which part of it."""
    keys = [k for k in found.keys() | own.keys() if k != "start" and found.get(k) != own.get(k)]
    theirs, mine = found.get("start") or {}, own.get("start") or {}
    return keys + [k for k in theirs.keys() | mine.keys() if theirs.get(k) != mine.get(k)]


def load_state(
    folder: Path, modules: dict[str, nn.Module], optimiser: torch.optim.Optimizer
) -> tuple[int, dict[str, Any]]:
    """Restore in place; returns (next step, extra). Raises StateError for a damaged or foreign file."""
    path = folder / "state.safetensors"
    try:
        tensors = load_file(path)
        from safetensors import safe_open

        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
        step, extra = int(metadata["step"]), json.loads(metadata["extra"])
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
    return step, extra
