"""All methods by name."""

from __future__ import annotations

from typing import Any

from qt_ros.learning.baselines.aw_opt import AwOpt
from qt_ros.learning.baselines.cql import Cql
from qt_ros.learning.baselines.decision_transformer import DecisionTransformer
from qt_ros.learning.baselines.iql import Iql
from qt_ros.learning.baselines.qt_opt import QtOpt
from qt_ros.learning.baselines.rt1_bc import Rt1Bc
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.method import Method
from qt_ros.learning.q_transformer import QTransformerMethod
from qt_ros.model.acting import VALUE_HEADS, Network

METHODS: dict[str, type[Method]] = {
    method.name: method for method in (QTransformerMethod, Rt1Bc, DecisionTransformer, Iql, Cql, QtOpt, AwOpt)
}


def make_method(model: Network, config: TrainConfig) -> Method:
    """The method that ``config`` names around ``model``; TrainingError when the model is not made for it."""
    return METHODS[config.method](model, config)


def model_fields(method: str) -> dict[str, Any]:
    """Fields of ModelConfig that a method's network needs, where the settings say nothing else."""
    return {"value_head": VALUE_HEADS[method][0], "return_token": method == "decision_transformer"}
