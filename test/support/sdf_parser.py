"""The real SDF parser (libsdformat) behind `gz sdf` or `ign sdf`, and what it makes of a file."""

from __future__ import annotations

import os
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

Matrix = NDArray[np.float64]
NEEDED = "QT_ROS_NEED_SDF_PARSER"
"""Environment variable that .ci/run sets: a parser that could not be installed is then a failure."""


def sdf_parser() -> str:
    """The program `gz` or `ign` that has the subcommand sdf. Where there is none the test skips; in CI it fails."""
    for name in ("gz", "ign"):
        if shutil.which(name) and subprocess.run([name, "sdf", "--help"], capture_output=True).returncode == 0:
            return name
    missing = "no SDF parser: install ignition-tools and libsdformat-dev (Debian), or Gazebo"
    if os.environ.get(NEEDED):
        pytest.fail(f"{missing}; {NEEDED} is set, and tools/test_packages.sh could not install it")
    pytest.skip(missing)


def check(path: Path) -> str:
    """What `sdf -k` prints."""
    result = subprocess.run([sdf_parser(), "sdf", "-k", str(path)], capture_output=True, text=True)
    return result.stdout + result.stderr.replace("libignition-tools-backward.so not found", "")


def printed(path: Path) -> ElementTree.Element:
    """The file as the parser understands it; a URDF comes out as SDF."""
    result = subprocess.run([sdf_parser(), "sdf", "-p", str(path)], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return ElementTree.fromstring(result.stdout[result.stdout.index("<sdf") :])


def pose_matrix(values: list[float]) -> Matrix:
    """x y z roll pitch yaw -> homogeneous transform (4, 4)."""
    x, y, z, roll, pitch, yaw = values
    cr, sr, cp, sp, cy, sy = np.cos(roll), np.sin(roll), np.cos(pitch), np.sin(pitch), np.cos(yaw), np.sin(yaw)
    result = np.eye(4)
    result[:3, :3] = [
        [cy * cp, cy * sp * sr - sy * cr, cy * sp * cr + sy * sr],
        [sy * cp, sy * sp * sr + cy * cr, sy * sp * cr - cy * sr],
        [-sp, cp * sr, cp * cr],
    ]
    result[:3, 3] = (x, y, z)
    return result


def floats(element: ElementTree.Element | None, tag: str, default: str = "0 0 0 0 0 0") -> list[float]:
    text = element.findtext(tag) if element is not None else None
    return [float(word) for word in (text or default).split()]


@dataclass
class Body:
    """A link in the model's frame: pose (4, 4), mass, centre of mass (3,), inertia (3, 3) about it in model axes."""

    pose: Matrix
    mass: float
    centre: Matrix
    inertia: Matrix
    shapes: list[tuple[str, tuple[float, ...], Matrix]] = field(default_factory=list)


def bodies(model: ElementTree.Element, outer: Matrix | None = None) -> dict[str, Body]:
    """Links by name; ``outer`` places the model."""
    outer = np.eye(4) if outer is None else outer
    elements = {e.get("name"): e for e in model if e.tag in ("link", "joint", "frame")}

    def pose_of(name: str) -> Matrix:
        element = elements[name]
        tag = element.find("pose")
        relative = tag.get("relative_to") if tag is not None else None
        own = pose_matrix(floats(element, "pose"))
        if relative is None and element.tag == "joint":
            relative = element.findtext("child")
        return (pose_of(relative) if relative else outer) @ own

    found = {}
    for name, link in elements.items():
        if link.tag != "link":
            continue
        pose, inertial = pose_of(str(name)), link.find("inertial")
        at = pose @ pose_matrix(floats(inertial, "pose"))
        moments = inertial.find("inertia") if inertial is not None else None
        ixx, ixy, ixz, iyy, iyz, izz = (
            floats(moments, tag, "0")[0] for tag in ("ixx", "ixy", "ixz", "iyy", "iyz", "izz")
        )
        own = np.array([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]])
        found[str(name)] = Body(pose, floats(inertial, "mass", "0")[0], at[:3, 3], at[:3, :3] @ own @ at[:3, :3].T)
        for collision in link.findall("collision"):
            shape = collision.find("geometry")[0]  # type: ignore[index]
            words = {
                "box": "size", "cylinder": "radius length", "sphere": "radius", "plane": "size",
            }[shape.tag].split()  # fmt: skip
            size = tuple(value for word in words for value in floats(shape, word))
            found[str(name)].shapes.append((shape.tag, size, pose @ pose_matrix(floats(collision, "pose"))))
    return found
