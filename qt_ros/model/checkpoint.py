"""Checkpoints: a folder with model.safetensors and checkpoint.json, written at once and loaded strictly.

Nothing in it can run code. The SHA-256 of the weights file is the checkpoint's id; it stands in every action the policy
publishes and in every bag.
"""

from __future__ import annotations

import dataclasses
import json
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.files import sha256_file, sync
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.untrusted import load_json, read_bounded
from qt_ros.model.acting import Acting, Network
from qt_ros.model.config import ADDED_IN_FORMAT_2, ModelConfig
from qt_ros.model.critics import ContinuousCritic
from qt_ros.model.language import TextEncoder
from qt_ros.model.q_transformer import QTransformer
from qt_ros.model.tensor_files import (
    FILE_KEYS,
    CheckpointError,
    check_finite,
    describe,
    load_tensors,
    on_cpu,
    put_in_place,
)

FORMAT_VERSION = 2
"""Written by `save_checkpoint`. Version 1, which is still read, knew only the Q-Transformer: it has no ``method`` and
no model fields `ADDED_IN_FORMAT_2`."""
WEIGHTS, EXTRA, RECORD = "model.safetensors", "extra.safetensors", "checkpoint.json"
TOP_KEYS = (
    "format_version",
    "id",
    "weights",
    "extra",
    "preset",
    "model",
    "method",
    "action_space",
    "robot",
    "proprioception",
    "text_encoder",
    "provenance",
)


@dataclass(frozen=True)
class CheckpointInfo:
    """What stands beside the weights.

    id: SHA-256 (hex) of the weights file. robot, contract_sha256: the contract it was trained under. proprioception:
    names of the state vector's entries, empty when the model takes none. text_encoder: name for `TextEncoder`.
    provenance: whatever the training wrote down (data, seeds, steps, commit). acting: by which method the network
    decides. extra: the extra tensors, on the CPU.
    """

    id: str
    path: Path
    preset: str
    config: ModelConfig
    action_space: ActionSpace
    robot: str
    contract_sha256: str
    proprioception: tuple[str, ...]
    text_encoder: str
    provenance: dict[str, Any]
    acting: Acting = field(default_factory=Acting)
    extra: dict[str, Tensor] = field(default_factory=dict, repr=False)


def save_checkpoint(
    directory: str | Path,
    model: Network,
    *,
    contract: RobotContract,
    text_encoder: str | TextEncoder,
    provenance: Mapping[str, Any],
    acting: Acting | None = None,
    extra_tensors: Mapping[str, Tensor] | None = None,
) -> str:
    """Write a checkpoint folder and return its id. An earlier checkpoint at the same place is replaced.

    ``acting``: how the network decides; the Q-Transformer's way when None. All files are complete and on disk before
    the folder gets its name, so a reader never sees half a checkpoint. CheckpointError when the model does not fit the
    contract or its way of acting, a weight is not finite, the provenance is no JSON, or the folder holds other files.
    """
    target = Path(directory).absolute()
    if not isinstance(model, (QTransformer, ContinuousCritic)):
        raise CheckpointError(
            f"{target}: model is a {type(model).__name__}; unwrap it (torch.compile, DDP) to QTransformer"
        )
    config, space = model.config, contract.action_space
    acting = Acting() if acting is None else acting
    try:
        acting.check(config)
    except ValueError as error:
        raise CheckpointError(f"{target}: {error}") from error
    if not isinstance(model, acting.network_class):
        raise CheckpointError(f"{target}: {acting.name} does not act with a {type(model).__name__}")
    proprioception = _proprioception_names(config, target)
    if (config.action_dims, config.bins) != (space.size, space.bins):
        raise CheckpointError(
            f"{target}: the model has {config.action_dims} dimensions x {config.bins} bins, the contract of "
            f"{contract.robot} {space.size} x {space.bins}; build the model from the contract's action space"
        )
    weights = on_cpu(model.state_dict(), target)
    extra = on_cpu(extra_tensors, target) if extra_tensors is not None else None
    foreign = (
        sorted(p.name for p in target.iterdir() if p.name not in (WEIGHTS, EXTRA, RECORD)) if target.is_dir() else []
    )
    if foreign:
        raise CheckpointError(f"{target}: holds other files ({', '.join(foreign[:3])}); give a folder of its own")

    target.parent.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=f".{target.name}.", suffix=".part", dir=target.parent))
    try:
        # The identifiers come from the files as written, so that the record can only describe what is on disk.
        save_file(weights, str(staging / WEIGHTS))
        record: dict[str, Any] = {
            "format_version": FORMAT_VERSION,
            "id": sha256_file(staging / WEIGHTS),
            "weights": describe(staging / WEIGHTS),
            "extra": None,
            "preset": config.preset,
            "model": config.to_dict(),
            "method": acting.to_dict(),
            "action_space": {"sha256": space.sha256, "dimensions": space.to_config()},
            "robot": {"name": contract.robot, "contract_sha256": contract.sha256},
            "proprioception": list(proprioception),
            "text_encoder": text_encoder.name if isinstance(text_encoder, TextEncoder) else text_encoder,
            "provenance": dict(provenance),
        }
        if extra is not None:
            save_file(extra, str(staging / EXTRA))
            record["extra"] = describe(staging / EXTRA)
        try:
            text = json.dumps(record, indent=2, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise CheckpointError(
                f"{target}: provenance is no plain JSON ({error}); give strings, numbers, lists"
            ) from error
        (staging / RECORD).write_text(text, encoding="utf-8")
        # mkdtemp and safetensors make things private; the record has the mode that the umask asks for.
        mode = (staging / RECORD).stat().st_mode & 0o777
        for path in staging.iterdir():
            path.chmod(mode)
        staging.chmod(mode | (mode & 0o444) >> 2)  # who may read may also enter
        for path in (*staging.iterdir(), staging):
            sync(path)
        put_in_place(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise
    return str(record["id"])


def load_checkpoint(
    directory: str | Path, *, contract: RobotContract | None = None, device: str | torch.device = "cpu"
) -> tuple[Network, CheckpointInfo]:
    """The network that acts, in evaluation mode on `device`, and what is known about it.

    CheckpointError on anything unexpected: files missing, cut short or altered, unknown or missing keys, another format
    version, weights that do not fit. With a contract, its action space and proprioception must be those of the
    checkpoint; other differences in the contract (limits, topics) are allowed, see `CheckpointInfo.contract_sha256`.
    """
    target = Path(directory).absolute()
    info, record = _read_record(target)
    if contract is not None:
        _check_contract(info, contract, target)
    weights = load_tensors(target, record["weights"], WEIGHTS)
    if record["id"] != record["weights"]["sha256"]:
        raise CheckpointError(f"{target / RECORD}: id is not the SHA-256 of the weights; the record was altered")
    extra = load_tensors(target, record["extra"], EXTRA) if record["extra"] is not None else {}
    _check_fit(info, weights, target)
    with torch.random.fork_rng(devices=[]):  # the random weights that are overwritten leave no trace in the generator
        model = info.acting.make_network(info.config)
    check_finite(weights, target / WEIGHTS)
    model.load_state_dict(weights, strict=True)
    return model.to(device).eval(), dataclasses.replace(info, extra=extra)


def _check_fit(info: CheckpointInfo, weights: Mapping[str, Tensor], target: Path) -> None:
    """CheckpointError unless the weights are exactly those of the record's network.

    The network is planned without memory for it: a made-up size costs nothing.
    """
    try:
        with torch.device("meta"), torch.random.fork_rng(devices=[]):
            planned = info.acting.make_network(info.config).state_dict()
    except (ArithmeticError, IndexError, MemoryError, RuntimeError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{target / RECORD}: no network can be built from it ({error}); it was altered"
        ) from error
    wrong = sorted(
        name
        for name in planned.keys() | weights.keys()
        if name not in planned
        or name not in weights
        or planned[name].shape != weights[name].shape
        or planned[name].dtype != weights[name].dtype
    )
    if wrong:
        raise CheckpointError(
            f"{target / WEIGHTS}: {len(wrong)} tensors missing, unknown or of another shape or type, first {wrong[0]}; "
            "the weights belong to another model or version"
        )


def read_info(directory: str | Path) -> CheckpointInfo:
    """The record alone, checked but without reading the weights."""
    return _read_record(Path(directory).absolute())[0]


def _read_record(target: Path) -> tuple[CheckpointInfo, dict[str, Any]]:
    path = target / RECORD
    try:
        record = load_json(read_bounded(path))
    except OSError as error:
        left = sorted(p.name for p in target.parent.glob(f".{target.name}.*.old"))
        hint = f"; an interrupted save left {left[-1]} beside it: rename that back" if left else ""
        raise CheckpointError(
            f"{path}: cannot be read ({error.strerror}); is this a checkpoint folder?{hint}"
        ) from error
    except ValueError as error:
        raise CheckpointError(f"{path}: no valid JSON ({error}); copy the checkpoint again") from error
    if not isinstance(record, dict):
        raise CheckpointError(f"{path}: must hold a mapping")
    version = record.get("format_version")
    if version not in (1, FORMAT_VERSION):
        raise CheckpointError(
            f"{path}: format_version {version!r}, this version of qt_ros reads 1 and {FORMAT_VERSION}; "
            "use the version that wrote it"
        )
    if version == 1:
        _strict(record, tuple(key for key in TOP_KEYS if key != "method"), f"{path}")
        if isinstance(record["model"], dict) and not ADDED_IN_FORMAT_2.keys() & record["model"].keys():
            record["model"] = {**record["model"], **ADDED_IN_FORMAT_2}
        record["method"] = Acting().to_dict()
    _strict(record, TOP_KEYS, f"{path}")
    _strict(record["weights"], FILE_KEYS, f"{path}: weights")
    if record["extra"] is not None:
        _strict(record["extra"], FILE_KEYS, f"{path}: extra")
    _strict(record["action_space"], ("sha256", "dimensions"), f"{path}: action_space")
    _strict(record["robot"], ("name", "contract_sha256"), f"{path}: robot")
    for key in ("name", "contract_sha256"):
        if not isinstance(record["robot"][key], str):
            raise CheckpointError(f"{path}: robot: {key} must be text, found {record['robot'][key]!r:.80}")
    for key, kind in (
        ("id", str),
        ("preset", str),
        ("text_encoder", str),
        ("proprioception", list),
        ("provenance", dict),
    ):
        if not isinstance(record[key], kind):
            raise CheckpointError(f"{path}: {key} must be a {kind.__name__}, found {record[key]!r}")
    try:
        config = ModelConfig.from_dict(record["model"])
        acting = Acting.from_dict(record["method"])
        acting.check(config)
        space = ActionSpace.from_config(record["action_space"]["dimensions"], f"{path}: action_space")
    except (ValueError, TypeError, AttributeError, KeyError, OverflowError) as error:
        raise CheckpointError(f"{path}: {error}") from error
    if not all(isinstance(name, str) for name in record["proprioception"]):
        raise CheckpointError(f"{path}: proprioception must be a list of names")
    if space.sha256 != record["action_space"]["sha256"]:
        raise CheckpointError(
            f"{path}: the action space does not have the SHA-256 written beside it; the record was altered"
        )
    if (config.action_dims, config.bins) != (space.size, space.bins):
        raise CheckpointError(f"{path}: model and action space differ in dimensions or bins; the record was altered")
    if len(record["proprioception"]) != config.proprio_size:
        raise CheckpointError(
            f"{path}: {len(record['proprioception'])} proprioception names for {config.proprio_size} inputs"
        )
    info = CheckpointInfo(
        id=record["id"],
        path=target,
        preset=record["preset"],
        config=config,
        action_space=space,
        robot=record["robot"]["name"],
        contract_sha256=record["robot"]["contract_sha256"],
        proprioception=tuple(record["proprioception"]),
        text_encoder=record["text_encoder"],
        provenance=record["provenance"],
        acting=acting,
    )
    return info, record


def _check_contract(info: CheckpointInfo, contract: RobotContract, target: Path) -> None:
    space = contract.action_space
    if space.sha256 != info.action_space.sha256:
        pairs = zip(info.action_space.dimensions, space.dimensions)
        first = next(
            (f"{a} there, {b} here" for a, b in pairs if a != b),
            f"{info.action_space.size} and {space.size} dimensions",
        )
        raise CheckpointError(
            f"{target}: trained for another action space (of {info.robot}) than {contract.robot} has: {first}; "
            "use a checkpoint trained under this contract"
        )
    names = _proprioception_names(info.config, target)
    if names != info.proprioception:
        raise CheckpointError(
            f"{target}: trained on the proprioception {', '.join(info.proprioception)}, this version gives "
            f"{', '.join(names)}; use the version that trained it"
        )


def _proprioception_names(config: ModelConfig, target: Path) -> tuple[str, ...]:
    if config.proprio_size == 0:
        return ()
    from qt_ros.contract.observations import PROPRIOCEPTION_NAMES  # needs Pinocchio, a model without state does not

    if len(PROPRIOCEPTION_NAMES) != config.proprio_size:
        raise CheckpointError(
            f"{target}: the model takes {config.proprio_size} proprioception numbers, the contract gives "
            f"{len(PROPRIOCEPTION_NAMES)}; set proprio_size to that or to 0"
        )
    return tuple(PROPRIOCEPTION_NAMES)


def _strict(found: Any, keys: tuple[str, ...], where: str) -> None:
    if not isinstance(found, dict):
        raise CheckpointError(f"{where}: must be a mapping")
    unknown, missing = sorted(set(found) - set(keys)), sorted(set(keys) - set(found))
    if unknown or missing:
        raise CheckpointError(f"{where}: unknown keys {unknown}, missing keys {missing}; use the version that wrote it")
