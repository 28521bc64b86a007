from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.model.acting import VALUE_HEADS, Acting
from qt_ros.model.cem import CemSettings
from qt_ros.model.checkpoint import CheckpointError, load_checkpoint, read_info, save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.language import TextEncoder
from qt_ros.model.q_transformer import QTransformer

PROVENANCE = {"steps": 1200, "seed": 3, "data": ["store a", "store b"], "alpha": 10.0}


@pytest.fixture(scope="module")
def contract() -> RobotContract:
    return load_contract("mobile_manipulator")


def make(contract: RobotContract, **changes: Any) -> QTransformer:
    space = contract.action_space
    fields = {"width": 16, "heads": 2, "head_dim": 8, "layers": 1, "vision_channels": 8, "vision_blocks": 1}
    fields |= {"action_dims": space.size, "bins": space.bins, "proprio_size": 10}
    return QTransformer(ModelConfig.from_preset("small", **(fields | changes)))


@pytest.fixture
def saved(contract: RobotContract, tmp_path: Path) -> Path:
    save_checkpoint(tmp_path / "c", make(contract), contract=contract, text_encoder="minilm", provenance=PROVENANCE)
    return tmp_path / "c"


def alter(change: Callable[[dict[str, Any]], object], folder: Path) -> None:
    path = folder / "checkpoint.json"
    record = json.loads(path.read_text())
    change(record)
    path.write_text(json.dumps(record))


# ---- the round trip


HEADS = [{"bin_head": "linear"}, {"bin_head": "tied"}]


@pytest.mark.parametrize("head", HEADS, ids=str)
def test_a_loaded_model_is_the_saved_one_bit_for_bit(
    contract: RobotContract, tmp_path: Path, head: dict[str, Any]
) -> None:
    model = make(contract, **head).eval()
    save_checkpoint(tmp_path / "c", model, contract=contract, text_encoder="minilm", provenance={})
    loaded, info = load_checkpoint(tmp_path / "c", contract=contract)
    assert not loaded.training
    assert loaded.config == model.config == info.config
    images = torch.randint(0, 256, (2, 3, 96, 128), dtype=torch.uint8)
    args = (images[None], torch.randn(1, 384), torch.zeros(1, 10, dtype=torch.long), torch.randn(1, 2, 10))
    assert torch.equal(loaded(*args), model(*args))


@pytest.mark.parametrize(("method", "head"), [(m, h) for m, heads in VALUE_HEADS.items() for h in heads])
def test_the_network_of_every_method_comes_back(
    contract: RobotContract, tmp_path: Path, method: str, head: str
) -> None:
    acting = Acting(method, cem=CemSettings() if method == "qt_opt" else None)
    config = make(contract, value_head=head, return_token=method == "decision_transformer").config
    model = acting.make_network(config).eval()
    save_checkpoint(tmp_path / "c", model, contract=contract, text_encoder="minilm", provenance={}, acting=acting)
    loaded, info = load_checkpoint(tmp_path / "c", contract=contract)
    assert info.acting == acting and type(loaded) is type(model)
    for key, value in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[key], value), key
    assert [(n, b.device.type) for n, b in loaded.named_buffers()] == [(n, "cpu") for n, _ in model.named_buffers()]


def test_the_record_says_where_the_weights_come_from(contract: RobotContract, tmp_path: Path) -> None:
    encoder = TextEncoder("minilm")
    name = save_checkpoint(
        tmp_path / "c", make(contract), contract=contract, text_encoder=encoder, provenance=PROVENANCE
    )
    _, info = load_checkpoint(tmp_path / "c", contract=contract)
    assert info.id == name
    assert (info.preset, info.robot, info.text_encoder) == ("small", "mobile_manipulator", "minilm")
    assert info.contract_sha256 == contract.sha256
    assert info.action_space.sha256 == contract.action_space.sha256
    assert len(info.proprioception) == 10
    assert info.provenance == PROVENANCE
    assert read_info(tmp_path / "c") == dataclasses.replace(info, extra={})


def test_the_id_is_the_digest_of_the_weights_file(saved: Path) -> None:
    assert read_info(saved).id == hashlib.sha256((saved / "model.safetensors").read_bytes()).hexdigest()


def test_the_same_weights_have_the_same_id(contract: RobotContract, tmp_path: Path) -> None:
    model = make(contract)
    first = save_checkpoint(tmp_path / "a", model, contract=contract, text_encoder="minilm", provenance={"n": 1})
    second = save_checkpoint(tmp_path / "b", model, contract=contract, text_encoder="minilm", provenance={"n": 2})
    assert first == second
    nn.init.zeros_(model.start)
    assert save_checkpoint(tmp_path / "b", model, contract=contract, text_encoder="minilm", provenance={}) != first


def test_extra_tensors_travel_along(contract: RobotContract, tmp_path: Path) -> None:
    extra = {"moment": torch.randn(3, 4).t(), "step": torch.tensor([7])}
    save_checkpoint(
        tmp_path / "c", make(contract), contract=contract, text_encoder="minilm", provenance={}, extra_tensors=extra
    )
    _, info = load_checkpoint(tmp_path / "c")
    assert set(info.extra) == set(extra)
    assert all(torch.equal(info.extra[k], v) for k, v in extra.items())


def test_a_model_without_proprioception_names_none(contract: RobotContract, tmp_path: Path) -> None:
    model = make(contract, proprio_size=0)
    save_checkpoint(tmp_path / "c", model, contract=contract, text_encoder="minilm", provenance={})
    assert load_checkpoint(tmp_path / "c", contract=contract)[1].proprioception == ()


def test_loading_leaves_the_random_numbers_alone(saved: Path) -> None:
    torch.manual_seed(5)
    wanted = torch.randn(3)
    torch.manual_seed(5)
    load_checkpoint(saved)
    assert torch.equal(torch.randn(3), wanted)


# ---- refusing to write


def test_a_model_for_another_action_space_is_not_saved(contract: RobotContract, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="4 dimensions x 256 bins, the contract of mobile_manipulator 10 x 256"):
        save_checkpoint(
            tmp_path / "c", make(contract, action_dims=4), contract=contract, text_encoder="minilm", provenance={}
        )


def test_a_model_for_another_proprioception_is_not_saved(contract: RobotContract, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="takes 3 proprioception numbers, the contract gives 10"):
        save_checkpoint(
            tmp_path / "c", make(contract, proprio_size=3), contract=contract, text_encoder="minilm", provenance={}
        )


def test_a_diverged_model_is_not_saved(contract: RobotContract, tmp_path: Path) -> None:
    model = make(contract)
    nn.init.constant_(model.start, float("nan"))
    with pytest.raises(CheckpointError, match="not finite, first start; the training diverged"):
        save_checkpoint(tmp_path / "c", model, contract=contract, text_encoder="minilm", provenance={})
    assert list(tmp_path.iterdir()) == []


def test_a_wrapped_model_is_refused_with_advice(contract: RobotContract, tmp_path: Path) -> None:
    wrapped: Any = nn.DataParallel(make(contract))
    with pytest.raises(CheckpointError, match="unwrap it"):
        save_checkpoint(tmp_path / "c", wrapped, contract=contract, text_encoder="minilm", provenance={})


@pytest.mark.parametrize("value", [float("nan"), Path("x"), {1, 2}])
def test_a_failed_save_leaves_the_earlier_checkpoint_and_nothing_else(
    contract: RobotContract, saved: Path, value: object
) -> None:
    before = read_info(saved).id
    with pytest.raises(CheckpointError, match="provenance is no plain JSON"):
        save_checkpoint(saved, make(contract), contract=contract, text_encoder="minilm", provenance={"x": value})
    assert load_checkpoint(saved)[1].id == before
    assert [p.name for p in saved.parent.iterdir()] == ["c"]


def test_a_folder_with_other_files_is_not_overwritten(contract: RobotContract, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"holds other files \(notes.txt\)"):
        save_checkpoint(tmp_path, make(contract), contract=contract, text_encoder="minilm", provenance={})
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_saving_again_replaces_all_files(contract: RobotContract, saved: Path) -> None:
    extra = {"a": torch.zeros(1)}
    save_checkpoint(saved, make(contract), contract=contract, text_encoder="minilm", provenance={}, extra_tensors=extra)
    assert sorted(p.name for p in saved.iterdir()) == ["checkpoint.json", "extra.safetensors", "model.safetensors"]
    name = save_checkpoint(saved, make(contract), contract=contract, text_encoder="minilm", provenance={})
    assert sorted(p.name for p in saved.iterdir()) == ["checkpoint.json", "model.safetensors"]
    assert read_info(saved).id == name
    assert [p.name for p in saved.parent.iterdir()] == ["c"]


def test_a_saver_killed_in_the_middle_leaves_a_whole_checkpoint(saved: Path) -> None:
    code = """
import sys, torch
from qt_ros.contract.robot import load_contract
from qt_ros.model.checkpoint import load_checkpoint, save_checkpoint
contract = load_contract("mobile_manipulator")
model, _ = load_checkpoint(sys.argv[1])
for step in range(100000):
    torch.nn.init.constant_(model.start, step)
    save_checkpoint(sys.argv[1], model, contract=contract, text_encoder="minilm", provenance={"step": step})
    print(step, flush=True)
"""
    with subprocess.Popen([sys.executable, "-c", code, str(saved)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for _ in range(5):
            assert process.stdout.readline()
        os.kill(process.pid, signal.SIGKILL)
    # Between the two renames the whole earlier checkpoint stands under another name, which the error tells.
    if not saved.exists():
        with pytest.raises(CheckpointError, match="an interrupted save left .* rename that back"):
            load_checkpoint(saved)
        next(saved.parent.glob(".c.*.old")).rename(saved)
    model, info = load_checkpoint(saved)
    assert info.provenance["step"] >= 4
    assert float(model.start[0].detach()) == info.provenance["step"]


# ---- refusing to load


def test_a_truncated_weights_file_is_named(saved: Path) -> None:
    path = saved / "model.safetensors"
    os.truncate(path, path.stat().st_size - 100)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: \d+ bytes instead of \d+: cut short"):
        load_checkpoint(saved)


def test_a_flipped_byte_is_found(saved: Path) -> None:
    path = saved / "model.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CheckpointError, match="SHA-256 differs from the record"):
        load_checkpoint(saved)


def test_weights_of_another_checkpoint_are_refused(contract: RobotContract, saved: Path, tmp_path: Path) -> None:
    save_checkpoint(tmp_path / "d", make(contract), contract=contract, text_encoder="minilm", provenance={})
    (saved / "model.safetensors").write_bytes((tmp_path / "d" / "model.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="SHA-256 differs"):
        load_checkpoint(saved)


@pytest.mark.parametrize("name", ["model.safetensors", "checkpoint.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(saved)


def test_a_truncated_record_is_named(saved: Path) -> None:
    path = saved / "checkpoint.json"
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(CheckpointError, match=r"checkpoint\.json: no valid JSON"):
        load_checkpoint(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda r: r.update(colour="red"), r"unknown keys \['colour'\], missing keys \[\]"),
        (lambda r: r.pop("provenance"), r"missing keys \['provenance'\]"),
        (lambda r: r["model"].update(depth=3), r"unknown keys \['depth'\]"),
        (lambda r: r["model"].pop("width"), r"missing keys \['width'\]"),
        (lambda r: r["model"].update(width="16"), "width must be int"),
        (lambda r: r["robot"].update(colour="red"), r"robot: unknown keys \['colour'\]"),
        (lambda r: r["weights"].pop("bytes"), r"weights: unknown keys \[\], missing keys \['bytes'\]"),
        (lambda r: r["action_space"]["dimensions"][0].update(colour="red"), "colour"),
        (lambda r: r["action_space"]["dimensions"][0].update(high=2.0), "does not have the SHA-256 written beside it"),
        (lambda r: r.update(format_version=3), "format_version 3, this version of qt_ros reads 1 and 2"),
        (lambda r: r.update(format_version=1), r"unknown keys \['method'\]"),
        (lambda r: r.pop("method"), r"missing keys \['method'\]"),
        (lambda r: r["method"].update(name="ppo"), "method 'ppo' is none of q_transformer"),
        (lambda r: r["method"].update(temperature=1), "exactly the keys cem, name"),
        (lambda r: r["method"].update(name="rt1_bc"), "rt1_bc needs value_head softmax, the model has sigmoid"),
        (lambda r: r.update(id="0" * 64), "id is not the SHA-256 of the weights"),
        (lambda r: r.update(proprioception=["x"]), "1 proprioception names for 10 inputs"),
        (lambda r: r.update(provenance=[]), "provenance must be a dict"),
        (lambda r: r["weights"].update(file="../other.safetensors"), "names the file '../other.safetensors'"),
        (lambda r: r["model"].update(layers=2), "tensors missing, unknown or of another shape"),
    ],
)
def test_an_altered_record_is_refused(saved: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    alter(change, saved)
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(saved)


def reseal(folder: Path, name: str = "model.safetensors") -> None:
    """Make the record agree with the weights file, as a careless tool would."""
    path = folder / name
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    alter(lambda r: r.update(id=digest, weights={"file": name, "sha256": digest, "bytes": path.stat().st_size}), folder)


@pytest.mark.parametrize("kind", ["missing", "unknown", "shape", "type"])
def test_weights_must_fit_the_model_exactly(saved: Path, kind: str) -> None:
    tensors = load_file(str(saved / "model.safetensors"))
    if kind == "missing":
        del tensors["start"]
    elif kind == "unknown":
        tensors["strat"] = torch.zeros(3)
    elif kind == "shape":
        tensors["start"] = torch.zeros(3)
    else:
        tensors["start"] = tensors["start"].double()
    save_file(tensors, str(saved / "model.safetensors"))
    reseal(saved)
    name = "strat" if kind == "unknown" else "start"
    with pytest.raises(CheckpointError, match=f"1 tensors missing, unknown or of another shape or type, first {name}"):
        load_checkpoint(saved)


def test_weights_that_are_not_finite_are_refused(saved: Path) -> None:
    tensors = load_file(str(saved / "model.safetensors"))
    tensors["start"][0] = float("inf")
    save_file(tensors, str(saved / "model.safetensors"))
    reseal(saved)
    with pytest.raises(CheckpointError, match="not finite, first start"):
        load_checkpoint(saved)


def test_a_pickle_in_place_of_the_weights_is_not_opened(saved: Path) -> None:
    torch.save({"start": torch.zeros(3)}, saved / "model.safetensors")
    reseal(saved)
    with pytest.raises(CheckpointError, match="not a safetensors file"):
        load_checkpoint(saved)


# ---- the robot it may drive


def test_a_robot_with_another_action_space_is_refused_and_the_difference_named(
    contract: RobotContract, saved: Path
) -> None:
    dims = list(contract.action_space.dimensions)
    i = contract.action_space.index("dx")
    dims[i] = dataclasses.replace(dims[i], high=0.06)
    other = dataclasses.replace(contract, robot="other_robot", action_space=ActionSpace(dims))
    with pytest.raises(
        CheckpointError, match=r"another action space \(of mobile_manipulator\) than other_robot has.*0\.06"
    ):
        load_checkpoint(saved, contract=other)


def test_the_same_dimensions_in_another_order_are_another_action_space(contract: RobotContract, saved: Path) -> None:
    other = dataclasses.replace(contract, action_space=ActionSpace(contract.action_space.dimensions[::-1]))
    with pytest.raises(CheckpointError, match="another action space"):
        load_checkpoint(saved, contract=other)


def test_fewer_dimensions_are_another_action_space(contract: RobotContract, saved: Path) -> None:
    other = dataclasses.replace(contract, action_space=ActionSpace(contract.action_space.dimensions[:-1]))
    with pytest.raises(CheckpointError, match="10 and 9 dimensions"):
        load_checkpoint(saved, contract=other)


def test_another_proprioception_is_refused(contract: RobotContract, saved: Path) -> None:
    alter(lambda r: r["proprioception"].reverse(), saved)
    with pytest.raises(CheckpointError, match="trained on the proprioception gripper_closedness"):
        load_checkpoint(saved, contract=contract)


def test_other_limits_with_the_same_action_space_are_allowed(contract: RobotContract, saved: Path) -> None:
    other = dataclasses.replace(contract, text=contract.text + "\n# slower today\n")
    _, info = load_checkpoint(saved, contract=other)
    assert info.contract_sha256 == contract.sha256 != other.sha256


@pytest.mark.parametrize("umask", [0o022, 0o027, 0o077])
def test_files_are_readable_as_the_umask_says(contract: RobotContract, tmp_path: Path, umask: int) -> None:
    before = os.umask(umask)
    try:
        extra = {"x": torch.zeros(2)}
        save_checkpoint(
            tmp_path / "c", make(contract), contract=contract, text_encoder="minilm", provenance={}, extra_tensors=extra
        )
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "c").iterdir()}
    assert len(modes) == 3 and set(modes.values()) == {0o666 & ~umask}, modes
    assert (tmp_path / "c").stat().st_mode & 0o777 == 0o777 & ~umask
