"""The warmed-up vision side that all cells of an experiment from images share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from torch.utils.tensorboard import SummaryWriter

from qt_ros.contract.robot import load_contract
from qt_ros.experiments.recipes import WarmUpRecipe, facts
from qt_ros.experiments.stores import load_whole
from qt_ros.experiments.work import Work, digest, finished_checkpoint, training_alone, write_json
from qt_ros.learning.pointing import PointingConfig, PointingTrainer
from qt_ros.learning.run import build_model, save_pointing
from qt_ros.model.q_transformer import QTransformer


def warmed_up(recipe: WarmUpRecipe, work: Work) -> Path | None:
    """Its checkpoint, or None while it is not finished. DataError when one of that name was made by another recipe."""
    folder = work.warm_up(recipe)
    other = (
        f"made by another version of the warm-up recipe {recipe.name} or of its data; use another --work folder, or "
        "delete that one"
    )
    return finished_checkpoint(folder, "warm-up.json", _identity(recipe), other)


def warm_up(
    recipe: WarmUpRecipe,
    work: Work,
    report: Callable[[int, dict[str, float]], None] = lambda step, metrics: None,
    stopped: Callable[[], bool] = lambda: False,
) -> bool:
    """Train it, or go on; False when stopped before the end. DataError while another process trains it."""
    if warmed_up(recipe, work) is not None:
        return True
    with training_alone(work.warm_up(recipe), f"the warm-up {recipe.name}"):
        # Another process may have ended it between the two looks.
        return warmed_up(recipe, work) is not None or _train(recipe, work, report, stopped)


def _train(
    recipe: WarmUpRecipe,
    work: Work,
    report: Callable[[int, dict[str, float]], None],
    stopped: Callable[[], bool],
) -> bool:
    folder, contract = work.warm_up(recipe), load_contract(work.robot)
    write_json(folder / "warm-up.json", {"recipe": _identity(recipe), "finished": False})
    episodes = load_whole(work.stores(recipe.data), 1.0, contract)
    model, encoder = build_model(recipe.model, contract, episodes, None, work.device, seed=recipe.seed)
    assert isinstance(model, QTransformer)  # what build_model makes unless told otherwise
    settings = PointingConfig(
        gradient_steps=recipe.gradient_steps,
        batch=recipe.batch,
        learning_rate=recipe.learning_rate,
        seed=recipe.seed,
        threads=work.threads,
    )
    text = encoder.encode(episodes.instructions)
    trainer = PointingTrainer(model, episodes, text, settings, folder / "state", work.device)
    last: dict[str, float] = {}
    with SummaryWriter(str(folder / "log"), purge_step=trainer.step + 1) as writer:

        def log(step: int, metrics: dict[str, float]) -> None:
            last.update(metrics)
            for key, value in metrics.items():
                writer.add_scalar(f"pointing/{key}", value, step)
            report(step, metrics)

        if not trainer.run(log, stopped):
            return False
    save_pointing(folder / "checkpoint", model, contract, encoder, settings, episodes, trainer.step)
    metrics = {key: round(value, 5) for key, value in sorted(last.items())}
    write_json(folder / "warm-up.json", {"recipe": _identity(recipe), "finished": True, "metrics": metrics})
    return True


def _identity(recipe: WarmUpRecipe) -> str:
    return digest(facts(recipe))
