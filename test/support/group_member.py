"""One of the processes that train together in `test_group`: started by a launcher, told what to do by its arguments.

group_member.py FOLDER STORE JOB     the main one prints a JSON document as its last line
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

from store_factory import trainer_on
from tiny import METHODS, tiny_config, tiny_data, tiny_model, tiny_text

from qt_ros.episodes.roots import StoreUnreachable
from qt_ros.learning import trainer as trainer_module
from qt_ros.learning.dataset import load_training_data
from qt_ros.learning.errors import DataLost
from qt_ros.learning.group import Group, join_group
from qt_ros.learning.streaming import stream_training_data
from qt_ros.learning.trainer import StepReport, Trainer

CHANGES: dict[str, Any] = {"gradient_steps": 6, "log_every": 1, "save_every": 3, "segment_steps": 2}


def member(folder: Path, group: Group, method: str = "q_transformer", **changes: Any) -> Trainer:
    """A trainer of tiny everything, with augmented images."""
    config = tiny_config(method, **(CHANGES | {"image_shift": 2} | changes))
    return Trainer(tiny_model(method=method), tiny_data(), tiny_text(), config, folder, "cpu", group)


def curve(trainer: Trainer, **options: Any) -> dict[str, Any]:
    """Run; what was reported, and where the run ended."""
    reports: list[StepReport] = []
    saved: list[int] = []
    finished = trainer.run(reports.append, saved=lambda: saved.append(trainer.step), **options)
    return {
        "metrics": [{k: v for k, v in r.metrics.items() if k != "samples_per_second"} for r in reports],
        "finished": finished,
        "step": trainer.step,
        "saved": saved,
    }


def main(folder: Path, store: Path) -> dict[str, Any]:
    group, _ = join_group("cpu")
    if not group.main:  # whatever it may be asked for, it writes nothing

        def refuse(*_: Any) -> None:
            raise AssertionError("another than the main process wrote the state")

        trainer_module.save_state = refuse
    results: dict[str, Any] = {"processes": group.size}
    results |= {method: curve(member(folder / method, group, method)) for method in METHODS}
    frozen = {"freeze_vision": True, "image_shift": 0}
    results["frozen"] = curve(member(folder / "frozen", group, **frozen))
    for name, data in (
        ("memory", load_training_data([store], 0.9)),
        ("streamed", stream_training_data([store], 0.9)),
    ):
        trainer = trainer_on(data, folder / name, group=group, freeze_vision=True, **CHANGES)
        results[name] = curve(trainer)
        data.close()
    halved = member(folder / "halved", group)
    results["halved"] = curve(halved, stop=lambda: group.rank == 1 and halved.step == 3)
    results["continued"] = curve(member(folder / "alone", group))
    lost = member(folder / "lost", group)
    plain = lost.batches.at

    def away(step: int) -> Any:
        if step == 2 and group.rank == 1:
            raise StoreUnreachable("the URL of process 1 went away")
        return plain(step)

    lost.batches.at = away  # type: ignore[method-assign]
    try:
        curve(lost)
    except (DataLost, StoreUnreachable) as error:
        results["lost"] = [type(error).__name__, lost.step]
    group.leave()
    return results if group.main else {}


if __name__ == "__main__":
    if document := main(Path(sys.argv[1]), Path(sys.argv[2])):
        print(json.dumps(document), flush=True)
