"""Where a robot's URDF comes from: a file, a ROS package, or a topic of the running robot."""

from __future__ import annotations

import os
from pathlib import Path

from qt_ros.contract.strict import ConfigError

DESCRIPTION_TOPIC = "topic "  # `description: topic robot_description`


def package_root() -> Path:
    """Folder that holds ``config/``, ``description/`` and ``launch/``.

    ``QT_ROS_SHARE`` wins when set; then a checkout (the folder above the Python package); then ``share/qt_ros`` of the
    prefix that the package is installed in (``pip install``); then the ament share folder of an installed workspace.
    Raises ConfigError when none has a ``config`` folder.
    """
    candidates: list[Path] = []
    if os.environ.get("QT_ROS_SHARE"):
        candidates.append(Path(os.environ["QT_ROS_SHARE"]))
    here = Path(__file__).resolve()
    candidates.append(here.parents[2])
    if len(here.parents) > 5:  # PREFIX/lib/python3.x/site-packages/qt_ros/contract/robot.py
        candidates.append(here.parents[5] / "share" / "qt_ros")
    candidates += [Path(p) / "share" / "qt_ros" for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
    for path in candidates:
        if (path / "config" / "robots").is_dir():
            return path
    raise ConfigError(f"no config/robots folder in any of {', '.join(map(str, candidates))}; set QT_ROS_SHARE")


class UrdfText(str):
    """A robot description as XML text, in place of its path."""

    name = "robot_description"


def find_description(description: str) -> Path:
    """Path of a description file: absolute, below `package_root`, or package://<package>/<path> of a ROS package."""
    if description.startswith("package://"):
        package, _, inside = description[len("package://") :].partition("/")
        shares = [Path(p) / "share" / package for p in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if p]
        found = [share / inside for share in shares if share.is_dir()]
        if not found:
            raise ConfigError(f"description {description}: no package {package!r} here; source its workspace")
        return found[0]
    path = Path(description)
    return path if path.is_absolute() else package_root() / path
