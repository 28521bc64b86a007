"""From settings to a model, and from a trained model to a checkpoint with its provenance."""

from __future__ import annotations

import dataclasses
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qt_ros.contract.robot import RobotContract
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.pointing import PointingConfig
from qt_ros.model.checkpoint import load_checkpoint, read_info, save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.language import TextEncoder
from qt_ros.model.q_transformer import QTransformer


def build_model(
    fields: Mapping[str, Any], contract: RobotContract, data: TrainingData, init: Path | None, device: str
) -> tuple[QTransformer, TextEncoder]:
    """A model for the contract's action space and the data's image size, from ``init`` when given, else freshly drawn.

    ``fields``: ``preset`` and changed fields of ModelConfig. Raises TrainingError for a wrong field, when the data was
    recorded in another action space (its bins would mean other motions), and when ``init`` has another shape.
    """
    space = contract.action_space
    if data.action_space_sha256 and data.action_space_sha256 != space.sha256:
        raise TrainingError(
            f"the stores were recorded in action space {data.action_space_sha256[:12]}, robot {contract.robot} has "
            f"{space.sha256[:12]}; give the contract they were recorded under, or rebuild them from their bags"
        )
    changes = dict(fields)
    preset = changes.pop("preset", "small")
    height, width = data.images.shape[1:3]
    given = {
        "action_dims": space.size,
        "bins": space.bins,
        "image_height": height,
        "image_width": width,
        "proprio_size": data.proprio.shape[1],
    }
    try:
        config = ModelConfig.from_preset(preset, **{**given, **changes})
    except ValueError as error:
        raise TrainingError(str(error)) from error
    if init is None:
        torch.manual_seed(0)
        return QTransformer(config), TextEncoder()
    model, info = load_checkpoint(init, contract=contract, device=device)
    if model.config != config:
        different = [k for k, v in config.to_dict().items() if model.config.to_dict()[k] != v]
        raise TrainingError(
            f"{init} was made with other model settings ({', '.join(different)}); "
            "change the settings or leave out --init"
        )
    return model, TextEncoder(info.text_encoder)


def save_run(
    folder: Path,
    model: QTransformer,
    contract: RobotContract,
    encoder: TextEncoder,
    config: TrainConfig,
    data: TrainingData,
    step: int,
    init: Path | None,
) -> None:
    """Checkpoint of a training run, with settings, data and code version."""
    provenance = {"kind": "q_transformer", "gradient_steps": step, "settings": config.to_dict(), **_common(data)}
    if init is not None:
        provenance["init"] = read_info(init).id
    save_checkpoint(folder, model, contract=contract, text_encoder=encoder.name, provenance=provenance)


def save_pointing(
    folder: Path,
    model: QTransformer,
    contract: RobotContract,
    encoder: TextEncoder,
    config: PointingConfig,
    data: TrainingData,
    step: int,
) -> None:
    """Checkpoint after the vision warm-up; not yet a policy."""
    settings = dataclasses.asdict(config)
    provenance = {"kind": "pointing", "gradient_steps": step, "settings": settings, **_common(data)}
    save_checkpoint(folder, model, contract=contract, text_encoder=encoder.name, provenance=provenance)


def _common(data: TrainingData) -> dict[str, Any]:
    return {
        "stores": data.provenance,
        "episodes": len(data.lengths),
        "successes": int(data.success.sum()),
        "steps": len(data.rewards),
        "torch": torch.__version__,
        "machine": platform.machine(),
        "commit": _commit(),
    }


def _commit() -> str:
    """Commit of this code, with ``-dirty`` when the package was changed since; '' when it is not in a git checkout."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", "--no-optional-locks", *words],
            cwd=Path(__file__).resolve().parents[1],
            capture_output=True,
            text=True,
            timeout=5,
            check=True,
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "learning/run.py")  # else it is the repository of somebody else around us
        return git("rev-parse", "HEAD") + ("-dirty" if git("status", "--porcelain", "--", ".") else "")
    except (OSError, subprocess.SubprocessError):
        return ""
