"""With which settings a round trains, and what its batches are drawn from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from qt_ros.contract.strict import ConfigError
from qt_ros.episodes.manifest import Manifest
from qt_ros.improvement.settings import ImprovementError
from qt_ros.learning.config import TrainConfig
from qt_ros.model.checkpoint import read_info


def train_settings(policy: Path, steps: int, changes: Sequence[str]) -> dict[str, Any]:
    """Settings of training that the checkpoint ``policy`` was made with, for ``steps`` more, with ``changes`` made.

    ``changes``: ``key=value`` with dotted keys. ImprovementError when one is wrong, and when the checkpoint does not
    say how it was trained.
    """
    info = read_info(policy)
    settings = info.provenance.get("settings")
    if not isinstance(settings, dict) or "model" not in settings:
        raise ImprovementError(f"{policy} does not say with which settings it was trained, so it cannot be trained on")
    data = json.loads(json.dumps(settings))
    if data.get("options") in ({}, None):
        data.pop("options", None)
    data["gradient_steps"] = steps
    for change in changes:
        key, equals, value = change.partition("=")
        if not equals:
            raise ImprovementError(f"--set needs key=value, found {change!r}")
        target = data
        *parents, last = key.split(".")
        for parent in parents:
            target = target.setdefault(parent, {})
            if not isinstance(target, dict):
                raise ImprovementError(f"--set {change}: {parent} is no group of settings")
        target[last] = yaml.safe_load(value)
    try:
        TrainConfig.from_dict(data, str(policy))
    except ConfigError as error:
        raise ImprovementError(str(error)) from error
    return {key: value for key, value in data.items() if value is not None}


def success_share_for(share: float | None, known: Sequence[Manifest]) -> float | None:
    """``share`` as success_share of a training on ``known``; None where these reach it by themselves.

    In rounds it says how many of the steps drawn are of successes at least. A run that learns from successes only has
    nothing to fill the rest of a batch with, or next to nothing, which it would then see over and over.
    """
    steps = {"success": 0, "failure": 0}
    for episode in (e for manifest in known for e in manifest.episodes):
        if episode.outcome in steps:  # training leaves the others out
            steps[episode.outcome] += episode.length
    return share if share is not None and steps["success"] < share * sum(steps.values()) else None


def drawn_from(trained_on: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Of what the batches of a training with ``settings`` were drawn: all ``steps``, those of successes, and
    ``success_share``, the share of a batch that comes from successes.

    ``trained_on``: what the checkpoint notes of its data. One that an earlier version made does not tell the steps of
    successes: None then, and so is a share that is theirs.
    """
    steps, good = trained_on["steps"], trained_on.get("steps_of_successes")
    share = settings.get("success_share")
    if (settings.get("options") or {}).get("episodes") == "successes":  # a clone of nothing else
        share = 1.0
    if share is None and steps and good is not None:
        share = good / steps
    return {"steps": steps, "success_steps": good, "success_share": None if share is None else round(share, 4)}
