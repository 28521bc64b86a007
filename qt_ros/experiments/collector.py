"""The policy that collects part of the data: cloned once from demonstrations, by fixed settings and seed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from qt_ros.contract.robot import load_contract
from qt_ros.experiments.recipes import DataRecipe, facts
from qt_ros.experiments.stores import load_whole
from qt_ros.experiments.warm_up import warmed_up
from qt_ros.experiments.work import HOW, DataError, Work, digest, finished_checkpoint, training_alone, write_json
from qt_ros.learning.config import PRIVILEGED, TrainConfig, load_train_config
from qt_ros.learning.session import train
from qt_ros.learning.tokens import Stopped, frozen_tokens


def collector_settings(recipe: DataRecipe, machine: Mapping[str, Any] | None = None) -> TrainConfig:
    """How the recipe's own policy is trained. ``machine``: settings that depend on where. ConfigError for settings that
    do not go together."""
    policy = recipe.policy
    assert policy is not None
    sight = PRIVILEGED if policy.warm_up is None else {"freeze_vision": True}
    return load_train_config(policy.config, {**sight, **(machine or {}), **policy.set, "seed": policy.seed})


def collector(recipe: DataRecipe, work: Work) -> Path | None:
    """Its checkpoint, or None while it is not finished. DataError when it was trained by another recipe."""
    folder = work.collector(recipe)
    other = (
        f"trained by another version of the data recipe {recipe.name}; use another --work folder, or delete "
        f"{folder.parent}"
    )
    return finished_checkpoint(folder, "policy.json", _identity(recipe), other)


def train_collector(
    recipe: DataRecipe,
    work: Work,
    report: Callable[[int, int, dict[str, float]], None] = lambda step, steps, metrics: None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the recipe's own policy, or go on; False when stopped before the end. Its stores must be there, and its
    warm-up finished. DataError while another process trains it."""
    if collector(recipe, work) is not None:
        return True
    with training_alone(work.collector(recipe), f"the policy that collects {recipe.name}"):
        # Another process may have ended it between the two looks.
        return collector(recipe, work) is not None or _train(recipe, work, report, stopped)


def _train(
    recipe: DataRecipe,
    work: Work,
    report: Callable[[int, int, dict[str, float]], None],
    stopped: Callable[[], bool],
) -> bool:
    assert recipe.policy is not None
    folder = work.collector(recipe)
    settings = collector_settings(recipe, {"threads": work.threads, "autocast": work.autocast})
    contract = load_contract(work.robot)
    write_json(folder / "policy.json", {"recipe": _identity(recipe), "finished": False})
    stores, warm = _stores(recipe, work), recipe.policy.warm_up
    data = load_whole(stores, settings.backup.gamma, contract, privileged=warm is None, images=False)
    init = None
    if warm is not None:
        init = warmed_up(warm, work)
        if init is None:
            raise DataError(f"{work.warm_up(warm)} is not finished; make the data of {recipe.name} from the beginning")
        try:
            data.tokens = frozen_tokens(stores, init, work.tokens, device=work.device, stopped=stopped)
        except Stopped:
            return False
    session = train(
        settings,
        contract,
        data,
        folder,
        init=init,
        device=work.device,
        report=lambda entry: report(entry.step, settings.gradient_steps, entry.metrics),
        stopped=stopped,
    )
    if session.finished:
        write_json(folder / "policy.json", {"recipe": _identity(recipe), "finished": True})
    return session.finished


def _stores(recipe: DataRecipe, work: Work) -> list[Path]:
    assert recipe.policy is not None
    every = zip(recipe.all_parts, work.stores(recipe), strict=True)
    return [store for part, store in every if part.store in recipe.policy.stores]


def _identity(recipe: DataRecipe) -> str:
    policy = recipe.policy
    assert policy is not None
    learned: list[dict[str, Any]] = [facts(part) for part in recipe.all_parts if part.store in policy.stores]
    settings = {key: value for key, value in collector_settings(recipe).to_dict().items() if key not in HOW}
    warm = {} if policy.warm_up is None else {"warm_up": facts(policy.warm_up)}
    return digest({"settings": settings, "stores": learned, **warm})
