#!/usr/bin/env python3
"""Makes docs/images/demo.jpg: one pick in the simulator, from beside the robot and through its head camera.

    . ./env.sh
    python tools/make_picture.py                                 the scripted demonstrator picks
    python tools/make_picture.py --checkpoint FOLDER             a trained policy picks

Same seed, same picture (up to the OpenGL renderer). Fails when the object was not lifted.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import cv2
import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.robot import load_contract, package_root
from qt_ros.sim.demonstrator import Demonstrator
from qt_ros.sim.rollout import Rollout
from qt_ros.sim.scene import OVERVIEW
from qt_ros.sim.tasks import find_task, sample_scene
from qt_ros.sim.world import World

LARGE, SMALL = (960, 720), (320, 240)  # width, height in pixels
QUALITY = 88


class Photographer:
    """Acts as ``actor`` does, and takes a picture of every step from both cameras."""

    def __init__(self, world: World, actor: Any) -> None:
        self.world, self.actor = world, actor
        self.frames: list[tuple[NDArray[np.uint8], NDArray[np.uint8]]] = []

    def __call__(self, image: NDArray[np.uint8], joints: Mapping[str, float]) -> Any:
        self.take()
        return self.actor(image, joints)

    def take(self) -> None:
        """A pair of pictures: overview and head camera."""
        head = cv2.resize(self.world.render(640, 480), SMALL, interpolation=cv2.INTER_AREA)
        self.frames.append((self.world.render(*LARGE, OVERVIEW), np.asarray(head, dtype=np.uint8)))


def shoot(task_name: str, seed: int, checkpoint: Path | None) -> tuple[list[Any], str]:
    """One episode; its pictures and its instruction. RuntimeError when it fails."""
    contract = load_contract("mobile_manipulator")
    world = World(contract)
    world.model.vis.global_.offwidth, world.model.vis.global_.offheight = LARGE  # the nodes need no more than 640x480
    task = find_task(task_name)
    scene = sample_scene(task, seed)
    size = (96, 128)
    if checkpoint is None:
        demonstrator = Demonstrator(world, task)
        actor: Any = lambda image, joints: demonstrator.act()  # noqa: E731
    else:
        from qt_ros.control.policy import Policy

        policy = Policy.load(checkpoint, contract)
        policy.reset(scene.instruction)
        size, actor = policy.image_size, policy.step
    camera = Photographer(world, actor)
    episode = Rollout(world, contract, size).run(task, scene, camera)
    camera.take()
    world.close()
    if episode.outcome != "success":
        raise RuntimeError(f"task {task_name}, seed {seed}: {episode.reason} without success; try another seed")
    return camera.frames, scene.instruction


def montage(frames: list[Any], instruction: str) -> NDArray[np.uint8]:
    """Overview at the end; beside it the head camera at the beginning, half-way and at the end."""
    moments = (0, len(frames) // 2, len(frames) - 1)
    column = np.vstack([frames[i][1] for i in moments])
    picture = np.ascontiguousarray(np.hstack([frames[-1][0], column]))
    for index in range(len(moments)):
        corner = (LARGE[0], index * SMALL[1])
        cv2.rectangle(picture, corner, (corner[0] + SMALL[0] - 1, corner[1] + SMALL[1] - 1), (255, 255, 255), 2)
    bar = np.full((44, picture.shape[1], 3), 32, dtype=np.uint8)
    text = f'"{instruction}"'
    cv2.putText(bar, text, (16, 30), cv2.FONT_HERSHEY_SIMPLEX, 0.8, (255, 255, 255), 1, cv2.LINE_AA)
    return np.vstack([picture, bar])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--task", default="pick_red_cube")
    parser.add_argument("--seed", type=int, default=1_000_007, help="scene")
    parser.add_argument("--checkpoint", type=Path, help="policy that acts; absent: the scripted demonstrator")
    parser.add_argument("--out", type=Path, default=package_root() / "docs" / "images" / "demo.jpg")
    options = parser.parse_args()
    picture = montage(*shoot(options.task, options.seed, options.checkpoint))
    options.out.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(options.out), cv2.cvtColor(picture, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, QUALITY]):
        raise SystemExit(f"{options.out} could not be written")
    print(f"{options.out}: {picture.shape[1]}x{picture.shape[0]}, {options.out.stat().st_size // 1000} kB")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
