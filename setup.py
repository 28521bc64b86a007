"""Installs the Python package on machines without ROS, such as training clusters: `pip install .`

On a robot and on a workstation use `make setup` instead: it also builds the ROS interfaces.
"""

from __future__ import annotations

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).resolve().parent
VERSION = re.search(r'__version__ = "(.+)"', (ROOT / "qt_ros" / "__init__.py").read_text()).group(1)  # type: ignore[union-attr]


def requirements(name: str) -> list[str]:
    """Requirements of one file in tools/ with their exact versions loosened to lower bounds."""
    lines = [line.split("#")[0].strip() for line in (ROOT / "tools" / name).read_text().splitlines()]
    return [line.replace("==", ">=", 1) for line in lines if line and not line.startswith("-")]


def share_files() -> list[tuple[str, list[str]]]:
    """checkpoints/, config/, description/ and launch/ go to share/qt_ros of the prefix, as on a ROS installation."""
    folders: dict[str, list[str]] = {}
    for top in ("checkpoints", "config", "description", "launch"):
        for path in sorted((ROOT / top).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT)
                folders.setdefault(f"share/qt_ros/{inside.parent}", []).append(str(inside))
    return sorted(folders.items())


setup(
    name="qt_ros",
    version=VERSION,
    description="Q-Transformer for mobile manipulators on ROS 2",
    license="Apache-2.0",
    packages=find_packages(include=["qt_ros", "qt_ros.*"]),
    package_data={"qt_ros": ["py.typed", "**/*.html", "**/*.css", "**/*.js"]},
    data_files=share_files(),
    python_requires=">=3.11",
    install_requires=requirements("requirements-python.txt"),
    entry_points={"console_scripts": ["qt-ros = qt_ros.cli.main:main"]},
)
