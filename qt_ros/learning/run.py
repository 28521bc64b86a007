"""From settings to a model, and from a trained model to a checkpoint with its provenance."""

from __future__ import annotations

import dataclasses
import math
import platform
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qt_ros.contract.robot import RobotContract
from qt_ros.learning.config import TrainConfig
from qt_ros.learning.dataset import StepData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.methods import model_fields
from qt_ros.learning.pointing import PointingConfig
from qt_ros.model.acting import Network, network_class
from qt_ros.model.checkpoint import load_checkpoint, read_info, save_checkpoint
from qt_ros.model.config import VISION_FIELDS, ModelConfig
from qt_ros.model.efficientnet import FilmEfficientNet
from qt_ros.model.language import DEFAULT, TextEncoder
from qt_ros.model.q_transformer import QTransformer
from qt_ros.model.timm_weights import load_timm_weights

MOST_INSTRUCTIONS = 1000  # that a checkpoint keeps; of more, every second or third and so on


def build_model(
    fields: Mapping[str, Any],
    contract: RobotContract,
    data: StepData,
    init: Path | None,
    device: str,
    *,
    method: str = "q_transformer",
    seed: int = 0,
    text_encoder: str | None = None,
    vision_weights: str | None = None,
    only_vision: bool = False,
) -> tuple[Network, TextEncoder]:
    """The network that ``method`` trains, for the contract's action space and the data's image size.

    Fresh, or from ``init``: a checkpoint of `qt-ros pretrain` gives its vision side, a trained one everything, or with
    ``only_vision`` that side alone.
    ``fields``: ``preset`` and changed fields of ModelConfig. ``seed``: of the fresh weights. ``text_encoder``: see
    `TextEncoder`; None is its default, or that of ``init``. ``vision_weights``: published weights for a fresh
    EfficientNet, see `load_timm_weights`. Raises TrainingError for a wrong field, when the data was recorded in another
    action space (its bins would mean other motions) or at another image size than the preset's and the fields do not
    say that this is meant, when ``init`` has another shape, method or text encoder, and when a vision network that
    keeps its batch statistics would start from random weights.
    """
    space = contract.action_space
    if data.action_space_sha256 and data.action_space_sha256 != space.sha256:
        raise TrainingError(
            f"the stores were recorded in action space {data.action_space_sha256[:12]}, robot {contract.robot} has "
            f"{space.sha256[:12]}; give the contract they were recorded under, or rebuild them from their bags"
        )
    encoder = TextEncoder(_encoder_name(init, text_encoder))
    changes = dict(fields)
    preset = changes.pop("preset", "small")
    given = {"action_dims": space.size, "bins": space.bins, "proprio_size": data.proprio_size}
    given |= model_fields(method)
    if changes.get("vision") == "state":
        given["state_size"] = data.privileged_size
    if init is not None:
        given["text_size"] = read_info(init).config.text_size
    elif encoder.name != DEFAULT:  # the presets have the size of the default, which need not be loaded for that
        given["text_size"] = encoder.size
    try:
        config = ModelConfig.from_preset(preset, **{**given, **changes})
    except ValueError as error:
        raise TrainingError(str(error)) from error
    _check_image_size(config, data, changes)
    if init is not None and vision_weights is not None:
        raise TrainingError(f"--vision-weights is for a fresh model; {init} brings its own: leave out one of the two")
    if only_vision and init is None:
        raise TrainingError("--only-vision says what to take of a checkpoint; name one with --init")
    if init is not None and not only_vision and read_info(init).provenance.get("kind") != "pointing":
        return _continued(init, config, method, contract, device), encoder
    torch.manual_seed(seed)
    model = network_class(method)(config)
    if init is None:
        _start_vision(model, vision_weights)
    else:
        _take_vision(model, init)
    return model, encoder


def _continued(init: Path, config: ModelConfig, method: str, contract: RobotContract, device: str) -> Network:
    """All of a trained checkpoint; TrainingError unless it has that shape and was trained by that method."""
    model, info = load_checkpoint(init, contract=contract, device=device)
    if info.acting.name != method:
        raise TrainingError(
            f"{init} was trained by {info.acting.name}, this run is {method}; take its vision side alone "
            "(--only-vision), which serves every method"
        )
    if model.config != config:
        different = [k for k, v in config.to_dict().items() if model.config.to_dict()[k] != v]
        raise TrainingError(
            f"{init} was made with other model settings ({', '.join(different)}); "
            "change the settings, take its vision side alone (--only-vision), or leave out --init"
        )
    return model


def _take_vision(model: Network, init: Path) -> None:
    """The vision side of a checkpoint into a fresh network, whatever follows behind it: another action space changes
    nothing about it."""
    source, info = load_checkpoint(init)
    own, theirs = model.config.to_dict(), info.config.to_dict()
    different = [name for name in VISION_FIELDS if own[name] != theirs[name]]
    if different:
        raise TrainingError(
            f"{init} has another vision side ({', '.join(different)}); change the settings or leave out --init"
        )
    for mine, warm in zip(model.seeing_parts(), source.seeing_parts()):
        mine.load_state_dict(warm.state_dict())


def started_from(
    encoder: TextEncoder, init: Path | None, vision_weights: str | None = None, only_vision: bool = False
) -> dict[str, str]:
    """What a training run begins from, for its saved state: ids and names, the same wherever the files lie.

    ``init``: id of its checkpoint ('' without one); ``text_encoder``: its name; ``vision_weights``: as they were given;
    ``taken``: "vision" where no more than that was.
    """
    taken = {"taken": "vision"} if only_vision else {}
    return {
        **taken,
        "init": "" if init is None else read_info(init).id,
        "text_encoder": encoder.name,
        "vision_weights": vision_weights or "",
    }


def require_start(config: TrainConfig, init: Path | None) -> None:
    """TrainingError when a vision side that nobody trained would be frozen: the policy would be as good as blind."""
    if config.freeze_vision and init is None:
        raise TrainingError(
            "freeze_vision keeps the vision side as it is, and without --init it is random; take that of a policy "
            "(--init checkpoints/default --only-vision), run `qt-ros pretrain` and give its checkpoint (--init "
            "runs/warm/checkpoint), or train vision too (--set freeze_vision=false)"
        )


def _encoder_name(init: Path | None, wanted: str | None) -> str:
    # A folder is kept as a full path, because the checkpoint will be used from other working folders.
    if wanted is not None and wanted != DEFAULT and Path(wanted).expanduser().is_dir():
        wanted = str(Path(wanted).expanduser().resolve())
    if init is None:
        return wanted or DEFAULT
    own = read_info(init).text_encoder
    if wanted is not None and wanted != own:
        raise TrainingError(
            f"{init} was trained with text encoder {own!r}, --text-encoder asks for {wanted!r}, whose vectors it "
            "cannot read; leave out --text-encoder, or start afresh without --init"
        )
    return own


def _check_image_size(config: ModelConfig, data: StepData, changes: Mapping[str, Any]) -> None:
    if data.image_size is None:  # trained from privileged state, or the trainer will ask for them
        return
    height, width = data.image_size
    if (config.image_height, config.image_width) == (height, width):
        return
    meant = {"image_height", "image_width"} <= changes.keys()
    what = "the settings ask for" if meant else f"preset {config.preset!r} sees"
    raise TrainingError(
        f"{what} {config.image_height} x {config.image_width} pixels, the stores hold {height} x {width}; make stores "
        f"with `qt-ros collect --image-size {config.image_height}x{config.image_width}`, or set the model's "
        f"image_height to {height} and its image_width to {width} (--set)"
    )


def _start_vision(model: Network, weights: str | None) -> None:
    """Published weights into a fresh vision network. TrainingError where they are needed or cannot be used."""
    config = model.config
    if isinstance(model.vision, FilmEfficientNet):
        if weights is not None:
            load_timm_weights(model.vision, weights)
        elif config.batch_norm == "frozen":
            raise TrainingError(
                f"{config.vision} with batch_norm 'frozen' keeps statistics that random weights do not have; give "
                "ImageNet weights (--vision-weights timm/efficientnet_b3.ra2_in1k for the B3), or set the model's "
                "batch_norm to batch (--set) to train it from scratch"
            )
    elif weights is not None:
        raise TrainingError(f"--vision-weights is for EfficientNets, the model's vision is {config.vision!r}")


def save_run(
    folder: Path,
    model: Network,
    contract: RobotContract,
    encoder: TextEncoder,
    config: TrainConfig,
    data: StepData,
    step: int,
    init: Path | None,
    vision_weights: str | None = None,
    only_vision: bool = False,
) -> None:
    """Checkpoint of a training run, with settings, data, code version and what it started from."""
    provenance = {"kind": config.method, "gradient_steps": step, "settings": config.to_dict(), **summary_of(data)}
    if init is not None:
        provenance["init"] = read_info(init).id
    if only_vision:
        provenance["taken"] = "vision"
    if vision_weights is not None:
        provenance["vision_weights"] = vision_weights
    save_checkpoint(
        folder, model, contract=contract, text_encoder=encoder.name, provenance=provenance, acting=config.acting
    )


def save_pointing(
    folder: Path,
    model: QTransformer,
    contract: RobotContract,
    encoder: TextEncoder,
    config: PointingConfig,
    data: StepData,
    step: int,
    vision_weights: str | None = None,
) -> None:
    """Checkpoint after the vision warm-up; not yet a policy."""
    settings = dataclasses.asdict(config)
    provenance = {"kind": "pointing", "gradient_steps": step, "settings": settings, **summary_of(data)}
    if vision_weights is not None:
        provenance["vision_weights"] = vision_weights
    save_checkpoint(folder, model, contract=contract, text_encoder=encoder.name, provenance=provenance)


def summary_of(data: StepData) -> dict[str, Any]:
    """What a checkpoint notes of the data: of what was trained on, without what was left out; and the code's commit."""
    return {
        "stores": data.provenance,
        "instructions": sorted(data.instructions)[:: math.ceil(len(data.instructions) / MOST_INSTRUCTIONS) or 1],
        "episodes": len(data.lengths),
        "successes": int(data.success.sum()),
        "steps": data.count,
        "steps_of_successes": int(data.lengths[data.success].sum()),
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
