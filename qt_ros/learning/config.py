"""Settings of a training run: one strict YAML, one frozen record."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import package_root
from qt_ros.contract.strict import ConfigError, build, load_yaml
from qt_ros.learning.losses import LossConfig
from qt_ros.learning.options import CLONING, OPTIONS, WHOLE_ACTIONS, Rt1BcOptions
from qt_ros.learning.targets import Backup
from qt_ros.model.acting import Acting

SCHEDULES = ("constant", "cosine")
PRIVILEGED: dict[str, Any] = {"model.vision": "state", "model.tokens_per_frame": 2, "freeze_vision": False}
"""Overrides that put the simulator's privileged state in the place of images."""


@dataclass(frozen=True)
class TrainConfig:
    """One training run.

    model: preset name and changed fields, for `ModelConfig.from_preset`. gradient_steps, batch (segments),
    segment_steps (environment steps updated per segment). learning_rate is reached after ``warmup_steps`` and then
    follows ``schedule``. ema_decay: the target network moves to ema * target + (1 - ema) * online after each step
    (Polyak). success_share: share of segments drawn from successful episodes (None: as the data has it). freeze_vision:
    keep the vision side as it was warmed up, and encode every stored frame once before training. image_shift: random
    shift of training images in pixels, when vision is trained. save_weights: which network is kept for acting, ``ema``
    or ``online``. autocast: bfloat16 matrix products (CUDA, and CPUs that have them). threads: CPU threads, 0 =
    torch's choice. method: what is trained (`qt_ros.learning.options.OPTIONS`), with its own settings in ``options``. A
    setting that the method would not look at is refused.
    """

    model: dict[str, Any]
    gradient_steps: int
    batch: int
    learning_rate: float
    segment_steps: int = 1
    weight_decay: float = 0.01
    warmup_steps: int = 500
    schedule: str = "cosine"
    gradient_clip: float = 1.0
    ema_decay: float = 0.995
    success_share: float | None = None
    freeze_vision: bool = False
    image_shift: int = 0
    save_weights: str = "ema"
    autocast: bool = False
    threads: int = 0
    seed: int = 0
    log_every: int = 50
    save_every: int = 1000
    backup: Backup = field(default_factory=Backup)
    loss: LossConfig = field(default_factory=LossConfig)
    method: str = "q_transformer"
    options: Any = None

    def __post_init__(self) -> None:
        self._check_method()
        for name in ("gradient_steps", "batch", "segment_steps", "log_every", "save_every"):
            if getattr(self, name) < 1:
                raise ConfigError(f"train config: {name} must be at least 1, found {getattr(self, name)}")
        if self.schedule not in SCHEDULES:
            raise ConfigError(f"train config: schedule must be one of {', '.join(SCHEDULES)}, found {self.schedule!r}")
        if self.save_weights not in ("ema", "online"):
            raise ConfigError(f"train config: save_weights must be ema or online, found {self.save_weights!r}")
        if not 0 <= self.ema_decay < 1:
            raise ConfigError(f"train config: ema_decay must be in [0, 1), found {self.ema_decay}")
        for name in ("learning_rate", "gradient_clip"):
            if getattr(self, name) <= 0:
                raise ConfigError(f"train config: {name} must be positive, found {getattr(self, name)}")
        for name in ("weight_decay", "warmup_steps", "image_shift", "threads", "seed"):
            if getattr(self, name) < 0:
                raise ConfigError(f"train config: {name} must not be negative, found {getattr(self, name)}")
        if self.success_share is not None and not 0 <= self.success_share <= 1:
            raise ConfigError(f"train config: success_share must be in [0, 1], found {self.success_share}")
        if self.model.get("vision") == "state" and (self.freeze_vision or self.image_shift):
            raise ConfigError(
                "train config: vision 'state' has no images to freeze or shift; leave out freeze_vision and image_shift"
            )
        if self.freeze_vision and self.image_shift:
            raise ConfigError(
                "train config: image_shift has no effect with freeze_vision, which encodes every frame only once; "
                "set image_shift to 0 or freeze_vision to false"
            )

    def _check_method(self) -> None:
        method = self.method
        if method not in OPTIONS:
            raise ConfigError(f"train config: method must be one of {', '.join(OPTIONS)}, found {method!r}")
        options = OPTIONS[method]() if self.options is None else self.options
        if type(options) is not OPTIONS[method]:
            raise ConfigError(f"train config: options must be {OPTIONS[method].__name__}, found {options!r}")
        object.__setattr__(self, "options", options)
        if method != "q_transformer" and self.loss != LossConfig():
            raise ConfigError(f"train config: the loss settings are q_transformer's, not {method}'s; leave them out")
        if method in CLONING and self.backup != Backup(gamma=self.backup.gamma):
            raise ConfigError(f"train config: {method} has no backup; leave out all of its settings but gamma")
        if method in WHOLE_ACTIONS and self.backup.to_next_step:
            raise ConfigError(
                f"train config: {method} decides once per environment step, which always goes on to the next; "
                "leave out backup.to_next_step"
            )
        if (
            isinstance(options, Rt1BcOptions)
            and options.episodes == "successes"
            and self.success_share not in (None, 1.0)
        ):
            raise ConfigError(
                "train config: rt1_bc learns from successful episodes only; leave out success_share, or clone all "
                "(options.episodes: all)"
            )

    @property
    def acting(self) -> Acting:
        """How the trained network decides."""
        return Acting(self.method, self.options.cem if self.method == "qt_opt" else None)

    def rate_at(self, step: int) -> float:
        """Learning rate of gradient step ``step`` (0-based)."""
        warm = min(1.0, (step + 1) / max(1, self.warmup_steps))
        if self.schedule == "constant":
            return self.learning_rate * warm
        done = min(1.0, step / max(1, self.gradient_steps))
        return self.learning_rate * warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON values; `from_dict` is the inverse."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "train config") -> TrainConfig:
        """Strict: unknown or missing keys raise ConfigError."""
        values = dict(data)
        method = values.get("method", "q_transformer")
        if values.get("options") is not None and method in OPTIONS:
            values["options"] = build(OPTIONS[method], values["options"], f"{where}: options of {method}")
        if "backup" in values:
            values["backup"] = build(Backup, values["backup"], f"{where}: backup")
        if "loss" in values:
            values["loss"] = build(LossConfig, values["loss"], f"{where}: loss")
        return build(cls, values, where)


def load_train_config(name_or_path: str | Path, overrides: Mapping[str, Any] | None = None) -> TrainConfig:
    """``config/train/<name>.yaml`` or a path; ``overrides`` maps dotted keys (``loss.alpha``) to values."""
    path = Path(name_or_path)
    if path.suffix not in (".yaml", ".yml"):
        path = package_root() / "config" / "train" / f"{name_or_path}.yaml"
    data = load_yaml(path)
    for key, value in (overrides or {}).items():
        target = data
        *parents, last = key.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ConfigError(f"--set {key}: {parent} is no group of settings")
        target[last] = value
    return TrainConfig.from_dict(data, str(path))
