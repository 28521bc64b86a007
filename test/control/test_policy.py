from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.observations import Proprioception, resize_rgb
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.limits import NonFiniteError
from qt_ros.control.policy import NotAPolicyError, Policy
from qt_ros.model.acting import VALUE_HEADS, Acting, Network
from qt_ros.model.cem import CemSettings
from qt_ros.model.checkpoint import CheckpointError, save_checkpoint
from qt_ros.model.config import ModelConfig
from qt_ros.model.language import TextEncoder
from qt_ros.model.q_transformer import QTransformer

CONTRACT = load_contract("mobile_manipulator")
HOME = CONTRACT.kinematics.home
TEXT = TextEncoder()


def tiny(history: int = 3, **changes: object) -> QTransformer:
    """A small network with untrained but lively weights: what it sees changes what it decides."""
    config = ModelConfig.from_preset(
        "small",
        image_height=32, image_width=48, vision_channels=8, vision_blocks=1, tokens_per_frame=2, token_learner_hidden=8,
        layers=2, width=32, heads=2, head_dim=16, history=history, **changes,
    )  # fmt: skip
    torch.manual_seed(0)
    model = QTransformer(config).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if any(part in name for part in ("head", "embedding", "film")):  # FiLM starts as the identity
                parameter.normal_(std=0.5)
    return model


def save(model: Network, folder: Path, contract: RobotContract = CONTRACT, acting: Acting | None = None) -> Path:
    save_checkpoint(folder, model, contract=contract, text_encoder="minilm", provenance={}, acting=acting)
    return folder


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny(), tmp_path_factory.mktemp("policy") / "tiny")


@pytest.fixture
def policy(checkpoint: Path) -> Policy:
    policy = Policy.load(checkpoint, CONTRACT, text_encoder=TEXT)
    policy.reset("pick up the red cube")
    return policy


def picture(seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (480, 640, 3), dtype=np.uint8)


def joints(seed: int) -> dict[str, float]:
    rng = np.random.default_rng(seed)
    arm = CONTRACT.kinematics.arm_joints
    return {**HOME, **{name: HOME[name] + float(rng.uniform(-0.1, 0.1)) for name in arm}}


def test_a_step_gives_a_complete_decision(policy: Policy) -> None:
    decision = policy.step(picture(0), HOME)
    space = CONTRACT.action_space
    assert (decision.values == space.decode(decision.bins)).all()
    assert decision.q.shape == (space.size,) and decision.q_all.shape == (space.size, space.bins)
    assert (decision.q == decision.q_all.max(axis=1)).all() and decision.value == decision.q[0]
    assert ((decision.q > 0) & (decision.q < 1)).all()
    assert decision.terminate == (decision.values[space.index("terminate")] >= 0.5)
    assert set(decision.timings_ms) == {"prepare", "encode", "decode", "total"}


def test_one_frame_is_encoded_per_step_whatever_the_history(tmp_path: Path) -> None:
    for history in (1, 6):
        policy = Policy.load(save(tiny(history), tmp_path / f"h{history}"), CONTRACT, text_encoder=TEXT)
        sizes: list[int] = []
        policy.model.vision.register_forward_hook(lambda module, inputs, out, sizes=sizes: sizes.append(len(inputs[0])))
        policy.reset("pick up the red cube")
        for i in range(8):
            policy.step(picture(i), HOME)
        assert policy.frames_encoded == 8 and sizes == [1] * 8


def test_the_ring_buffer_decides_as_the_whole_window_at_once(policy: Policy) -> None:
    """Same decision as encoding all frames of the window anew, while it fills and after it is full."""
    config, proprioception = policy.model.config, Proprioception(CONTRACT)
    text = TEXT.encode(["pick up the red cube"])
    for step in range(6):
        decision = policy.step(picture(step), joints(step))
        seen = list(range(max(0, step - config.history + 1), step + 1))
        tokens = torch.zeros(1, config.history, config.tokens_per_frame, config.width)
        states = torch.zeros(1, config.history, config.proprio_size)
        mask = torch.zeros(1, config.history, dtype=torch.bool)
        with torch.no_grad():
            for slot, i in zip(range(config.history - len(seen), config.history), seen, strict=True):
                image = resize_rgb(picture(i), config.image_height, config.image_width)
                tokens[0, slot] = policy.model.encode_frames(torch.from_numpy(image).permute(2, 0, 1)[None], text)[0]
                states[0, slot] = torch.from_numpy(proprioception.encode(joints(i)))
                mask[0, slot] = True
        bins, q = policy.model.decode(tokens, states, mask, use_cache=False)
        assert (decision.bins == bins[0].numpy()).all()
        assert decision.q_all == pytest.approx(q[0].numpy(), abs=1e-5)


def test_reset_forgets_the_last_episode(policy: Policy) -> None:
    first = [policy.step(picture(i), joints(i)) for i in range(4)]
    for i in range(5):
        policy.step(picture(10 + i), joints(10 + i))
    policy.reset("pick up the red cube")
    again = [policy.step(picture(i), joints(i)) for i in range(4)]
    for a, b in zip(first, again, strict=True):
        assert (a.bins == b.bins).all() and (a.q_all == b.q_all).all()


def test_history_image_joints_and_instruction_all_matter(policy: Policy) -> None:
    def q(instruction: str, images: list[int], state: int) -> np.ndarray:
        policy.reset(instruction)
        return [policy.step(picture(i), joints(state)) for i in images][-1].q_all

    base = q("pick up the red cube", [0, 1], 0)
    assert not np.array_equal(base, q("pick up the blue ball", [0, 1], 0))
    assert not np.array_equal(base, q("pick up the red cube", [2, 1], 0))
    assert not np.array_equal(base, q("pick up the red cube", [0, 2], 0))
    assert not np.array_equal(base, q("pick up the red cube", [0, 1], 1))


def test_the_instruction_is_embedded_once_per_reset(checkpoint: Path) -> None:
    text = TextEncoder()
    calls: list[list[str]] = []
    encode = text.encode
    text.encode = lambda texts: (calls.append(list(texts)), encode(texts))[1]  # type: ignore[method-assign]
    policy = Policy.load(checkpoint, CONTRACT, text_encoder=text, warm_up=False)
    policy.reset("open the drawer")
    for i in range(3):
        policy.step(picture(i), HOME)
    assert calls == [["open the drawer"]]


def test_unknown_words_are_allowed_and_an_empty_instruction_is_not(policy: Policy) -> None:
    policy.reset("zorble the quux")
    policy.step(picture(0), HOME)
    with pytest.raises(ValueError, match="empty"):
        policy.reset("   ")


def test_before_reset_it_refuses_to_act(checkpoint: Path) -> None:
    policy = Policy.load(checkpoint, CONTRACT, text_encoder=TEXT)
    assert policy.frames_encoded == 0 and policy.instruction == ""
    with pytest.raises(RuntimeError, match="reset"):
        policy.step(picture(0), HOME)


def test_a_bad_observation_is_refused_and_leaves_the_history_as_it_was(policy: Policy) -> None:
    policy.step(picture(0), joints(0))
    with pytest.raises(ValueError, match="arm_joint_2"):
        policy.step(picture(5), {**HOME, "arm_joint_2": float("nan")})
    with pytest.raises(ValueError, match="lacks arm_joint_1"):
        policy.step(picture(5), {k: v for k, v in HOME.items() if k != "arm_joint_1"})
    with pytest.raises(ValueError, match="uint8"):
        policy.step(picture(5).astype(np.float32), HOME)  # type: ignore[arg-type]
    after = policy.step(picture(1), joints(1))
    policy.reset("pick up the red cube")
    policy.step(picture(0), joints(0))
    assert (policy.step(picture(1), joints(1)).q_all == after.q_all).all()


def test_a_non_finite_q_value_is_an_error_not_an_action(policy: Policy) -> None:
    policy.step(picture(0), HOME)
    with torch.no_grad():
        policy.model.head_bias[3, 7] = float("nan")
    with pytest.raises(NonFiniteError, match="dy"):
        policy.step(picture(1), HOME)


def test_a_checkpoint_of_another_action_space_is_refused(checkpoint: Path) -> None:
    space = CONTRACT.action_space
    other = dataclasses.replace(
        CONTRACT, action_space=ActionSpace([dataclasses.replace(space.dimensions[0], high=2.0), *space.dimensions[1:]])
    )
    with pytest.raises(CheckpointError, match="another action space"):
        Policy.load(checkpoint, other, text_encoder=TEXT)


def test_a_checkpoint_of_the_vision_warm_up_is_refused(tmp_path: Path) -> None:
    provenance = {"kind": "pointing"}
    save_checkpoint(tmp_path / "warm", tiny(), contract=CONTRACT, text_encoder="minilm", provenance=provenance)
    with pytest.raises(NotAPolicyError, match="qt-ros train --init"):
        Policy.load(tmp_path / "warm", CONTRACT, text_encoder=TEXT)


def test_a_device_that_is_not_there_is_named(checkpoint: Path) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    with pytest.raises(ValueError, match="no CUDA GPU"):
        Policy.load(checkpoint, CONTRACT, "cuda", text_encoder=TEXT)


@pytest.mark.gpu
def test_on_a_gpu_it_decides_as_on_the_cpu(checkpoint: Path, policy: Policy) -> None:
    gpu = Policy.load(checkpoint, CONTRACT, "cuda", text_encoder=TEXT)
    gpu.reset("pick up the red cube")
    for i in range(4):
        a, b = policy.step(picture(i), joints(i)), gpu.step(picture(i), joints(i))
        assert b.q_all[0] == pytest.approx(a.q_all[0], abs=1e-3)


def test_a_model_without_proprioception_needs_no_joints(tmp_path: Path) -> None:
    policy = Policy.load(save(tiny(proprio_size=0), tmp_path / "blind"), CONTRACT, text_encoder=TEXT)
    policy.reset("pick up the red cube")
    assert np.isfinite(policy.step(picture(0), {}).values).all()


@pytest.mark.parametrize("method", VALUE_HEADS)
def test_every_method_acts_from_its_checkpoint_alone_and_alike_each_time(tmp_path: Path, method: str) -> None:
    acting = Acting(method, CemSettings() if method == "qt_opt" else None)
    torch.manual_seed(0)
    changes = {"value_head": VALUE_HEADS[method][0], "return_token": method == "decision_transformer"}
    save(acting.make_network(tiny(**changes).config), tmp_path / "c", acting=acting)
    episodes = []
    for _ in range(2):
        policy = Policy.load(tmp_path / "c", CONTRACT, text_encoder=TEXT)
        policy.reset("pick up the red cube")
        episodes.append([policy.step(picture(i), joints(i)) for i in range(4)])
    for a, b in zip(*episodes, strict=True):
        assert (a.bins == b.bins).all() and (a.q == b.q).all()
        assert (a.values == CONTRACT.action_space.decode(a.bins)).all() and np.isfinite(a.q).all()
        assert (a.q_all is None) == (method == "qt_opt")


def test_a_policy_on_privileged_state_needs_that_state_and_drives_no_robot(tmp_path: Path) -> None:
    folder = save(tiny(vision="state", state_size=5), tmp_path / "state")
    with pytest.raises(ValueError, match="which no robot can give it"):
        Policy.load(folder, CONTRACT, text_encoder=TEXT)
    policy = Policy.load(folder, CONTRACT, text_encoder=TEXT, privileged=True)
    policy.reset("pick up the red cube")
    state = np.linspace(-1, 1, 5, dtype=np.float32)
    first = policy.step(picture(0), HOME, state)
    policy.reset("pick up the red cube")
    assert (policy.step(picture(1), HOME, state).q_all == first.q_all).all()  # the picture does not matter
    policy.reset("pick up the red cube")
    assert (policy.step(picture(0), HOME, -state).q_all != first.q_all).any()
    for wrong in (None, state[:4], state * np.nan):
        with pytest.raises(ValueError, match="privileged state of 5 finite numbers"):
            policy.step(picture(0), HOME, wrong)


def test_a_policy_on_images_takes_no_privileged_state(policy: Policy) -> None:
    with pytest.raises(ValueError, match="acts on images"):
        policy.step(picture(0), HOME, np.zeros(5, np.float32))
