"""Untrained checkpoints that decide what a test needs: all real parts, the last layer's bias chooses the action."""

from __future__ import annotations

from pathlib import Path

import torch

from qt_ros.contract.observations import Proprioception
from qt_ros.contract.robot import load_contract
from qt_ros.model.checkpoint import save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.q_transformer import QTransformer

MOVE = {"terminate": 0.0, "gripper": 1.0, "dx": 0.01, "dz": 0.01, "base_forward": 0.005}


FIELDS = {"layers": 1, "width": 64, "vision_channels": 16, "vision_blocks": 1}
"""Fields in which the models differ from the preset ``small``."""


def make_checkpoint(
    folder: Path, action: dict[str, float] | None = None, provenance: dict[str, object] | None = None
) -> str:
    """Save a small model that always chooses the bins of ``action`` (neutral where not given); returns its id."""
    contract = load_contract("mobile_manipulator")
    space = contract.action_space
    torch.manual_seed(0)
    config = ModelConfig.from_preset(
        "small",
        **FIELDS,
        action_dims=space.size,
        bins=space.bins,
        proprio_size=Proprioception.size,
    )
    model = QTransformer(config)
    values = space.neutral()
    for name, value in (MOVE if action is None else action).items():
        values[space.index(name)] = value
    with torch.no_grad():
        model.head_bias[torch.arange(space.size), torch.from_numpy(space.encode(values))] += 20.0
    return save_checkpoint(
        folder, model, contract=contract, text_encoder="minilm", provenance=provenance or {"data": "none"}
    )
