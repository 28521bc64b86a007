#!/usr/bin/env python3
"""Cost of one policy step as the history grows, and what ROS adds to it.

    . ./env.sh
    python benchmarks/policy_latency.py                    history 1, 2, 4, 6, 8; preset small, untrained weights
    python benchmarks/policy_latency.py --ros              also image stamp to published PolicyAction, over DDS
    python benchmarks/policy_latency.py --json out.json    ... --json alone prints JSON only

Every round takes one step with each history length and times all variants right after one another, so that a busy
machine slows all of them alike; compare ratios rather than milliseconds of different runs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
import torch
from rich.table import Table

from benchmarks.report import Idle, add_json_option, context, emit, spread
from qt_ros.contract.robot import RobotContract, load_contract
from qt_ros.control.policy import Policy
from qt_ros.model.checkpoint import save_checkpoint
from qt_ros.model.config import PRESETS, ModelConfig
from qt_ros.model.language import TextEncoder
from qt_ros.model.q_transformer import QTransformer

HISTORIES = (1, 2, 4, 6, 8)
CAMERA = (480, 640)
INSTRUCTION = "pick up the red cube"


def untrained_checkpoint(folder: Path, contract: RobotContract, preset: str, history: int) -> Path:
    """A checkpoint with random weights for the contract's action space; its step costs what a trained one does."""
    from qt_ros.contract.observations import PROPRIOCEPTION_NAMES

    space = contract.action_space
    state = len(PROPRIOCEPTION_NAMES) if PRESETS[preset].proprio_size else 0
    changes = {"history": history, "action_dims": space.size, "bins": space.bins, "proprio_size": state}
    torch.manual_seed(0)
    model = QTransformer(ModelConfig.from_preset(preset, **changes))
    with torch.no_grad():
        model.head_bias[space.index("terminate"), : space.bins // 2] += 4.0  # so that it does not end at once
    save_checkpoint(folder, model, contract=contract, text_encoder="minilm", provenance={"untrained": True})
    return folder


class Subject:
    """One policy under test and its samples in ms."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.samples: dict[str, list[float]] = defaultdict(list)
        self.steps = self.frames = 0
        config = policy.model.config
        generator = torch.Generator().manual_seed(0)
        shape = (config.history, 3, config.image_height, config.image_width)
        self.images = torch.randint(0, 256, shape, generator=generator, dtype=torch.uint8)
        self.text = torch.randn(config.history, config.text_size, generator=generator)
        self.tokens = torch.randn(1, config.history, config.tokens_per_frame, config.width, generator=generator)
        self.states = torch.randn(1, config.history, config.proprio_size, generator=generator)

    def round(self, image: np.ndarray, joints: dict[str, float]) -> None:
        """One step, then the same decoding with and without key/value cache and the whole window encoded anew."""
        before = self.policy.frames_encoded
        decision = self.policy.step(image, joints)
        self.steps += 1
        self.frames += self.policy.frames_encoded - before
        for part, milliseconds in decision.timings_ms.items():
            self.samples[part].append(milliseconds)
        model: Any = self.policy.model
        states = self.states if model.config.proprio_size else None
        with torch.inference_mode():
            for name, use_cache in (("decode_cached", True), ("decode_uncached", False)):
                start = time.perf_counter()
                model.decode(self.tokens, states, use_cache=use_cache)
                self.samples[name].append((time.perf_counter() - start) * 1e3)
            start = time.perf_counter()
            model.encode_frames(self.images, self.text)
            self.samples["encode_window"].append((time.perf_counter() - start) * 1e3)

    def report(self) -> dict[str, Any]:
        """Numbers of one history length; ratios are medians of ratios taken within the same round."""
        s = {name: np.asarray(values) for name, values in self.samples.items()}
        return {
            "history": self.policy.model.config.history,
            "steps": self.steps,
            "frames_encoded": self.frames,
            "frames_encoded_per_step": self.frames / self.steps,
            **{f"{name}_ms": spread(values) for name, values in s.items()},
            "no_cache_over_cache": round(float(np.median(s["decode_uncached"] / s["decode_cached"])), 3),
            "window_over_frame": round(float(np.median(s["encode_window"] / s["encode"])), 3),
        }


def measure(
    policies: Sequence[Policy], contract: RobotContract, steps: int, seed: int = 0
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """``steps`` rounds over all policies: a report per policy, and the median ratio of the last policy to the first
    for the parts of the step.

    Each round begins with another policy, so that none is always the first after a pause.
    """
    rng = np.random.default_rng(seed)
    subjects = [Subject(policy) for policy in policies]
    for subject in subjects:
        subject.policy.reset(INSTRUCTION)
    joints = dict(contract.kinematics.home)
    for number in range(steps):
        image = rng.integers(0, 256, (*CAMERA, 3), dtype=np.uint8)
        start = number % len(subjects)
        for subject in (*subjects[start:], *subjects[:start]):
            subject.round(image, joints)
    first, last = subjects[0].samples, subjects[-1].samples
    growth = {part: float(np.median(np.divide(last[part], first[part]))) for part in ("total", "encode", "decode")}
    return [s.report() for s in subjects], {part: round(ratio, 3) for part, ratio in growth.items()}


def table(reports: Sequence[dict[str, Any]], growth: dict[str, float], title: str) -> Table:
    """One row per history length."""
    ratios = ", ".join(f"{part} x{ratio:.2f}" for part, ratio in growth.items())
    result = Table(title=title, caption=f"Times in ms; p50 unless named. Last over first history: {ratios}")
    columns = ("history", "frames\nencoded\nper step", "step", "step\np95", "encode", "decode", "decode\nno cache")
    for column in (*columns, "no cache /\ncache", "window /\none frame"):
        result.add_column(column, justify="right")
    for r in reports:
        result.add_row(
            str(r["history"]),
            f"{r['frames_encoded_per_step']:g}",
            f"{r['total_ms']['p50']:.2f}",
            f"{r['total_ms']['p95']:.2f}",
            f"{r['encode_ms']['p50']:.2f}",
            f"{r['decode_ms']['p50']:.2f}",
            f"{r['decode_uncached_ms']['p50']:.2f}",
            f"{r['no_cache_over_cache']:.2f}",
            f"{r['window_over_frame']:.2f}",
        )
    return result


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--history", type=int, nargs="+", default=list(HISTORIES), help="frames in the window")
    parser.add_argument("--steps", type=int, default=200, help="measured steps per history length")
    parser.add_argument("--preset", choices=tuple(PRESETS), default="small", help="model preset, untrained")
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cuda: times include waiting for the device)")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads of torch")
    parser.add_argument("--robot", default="mobile_manipulator", help="robot contract")
    ros = parser.add_argument_group("over DDS")
    ros.add_argument("--ros", action="store_true", help="also run policy_node with 640x480 images over DDS")
    ros.add_argument("--ros-steps", type=int, default=100, help="policy steps to measure over DDS")
    ros.add_argument("--ros-checkpoint", type=Path, help="checkpoint for it; absent: untrained, history 2")
    ros.add_argument("--camera-qos", choices=("best_effort", "reliable"), default="best_effort", help="of the images")
    ros.add_argument("--dds-default", action="store_true", help="Fast DDS as it comes, without config/fastdds.xml")
    add_json_option(parser)
    return parser.parse_args(arguments)


def run(options: argparse.Namespace) -> tuple[dict[str, Any], list[Table]]:
    """Measure as told; the JSON document and the tables."""
    contract = load_contract(options.robot)
    torch.set_num_threads(options.threads)
    plain = {k: v if v is None or isinstance(v, (int, list)) else str(v) for k, v in vars(options).items()}
    settings = {k: v for k, v in plain.items() if k != "json"}
    result = context("policy_latency", {**settings, "torch": torch.__version__, "image": [CAMERA[1], CAMERA[0]]})
    encoder = TextEncoder()
    tables = []
    with tempfile.TemporaryDirectory(prefix="policy_latency_") as folder:
        policies = []
        for history in options.history:
            checkpoint = untrained_checkpoint(Path(folder) / f"history_{history}", contract, options.preset, history)
            policies.append(Policy.load(checkpoint, contract, options.device, text_encoder=encoder))
        idle = Idle()
        result["policy_step"], result["growth"] = measure(policies, contract, options.steps)
        result["machine_idle_cores"] = idle.cores()
        title = f"one policy step, preset {options.preset}, {options.device}, {options.threads} thread(s)"
        tables.append(table(result["policy_step"], result["growth"], title))
        if options.ros:
            from benchmarks.policy_over_dds import measure_ros, table_ros

            checkpoint = options.ros_checkpoint
            if checkpoint is None:
                checkpoint = untrained_checkpoint(Path(folder) / "ros", contract, options.preset, 2)
            result["over_dds"] = measure_ros(checkpoint, contract, options)
            tables.append(table_ros(result["over_dds"]))
    return result, tables


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; exit status 1 when a step did not encode exactly one frame."""
    options = parse(arguments)
    result, tables = run(options)
    emit(result, tables, options.json)
    return 0 if all(r["frames_encoded"] == r["steps"] for r in result["policy_step"]) else 1


if __name__ == "__main__":
    raise SystemExit(main())
