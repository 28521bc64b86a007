"""package.xml names every ROS package that the code imports, and every interface package that the build needs."""

from __future__ import annotations

import ast
import importlib.metadata
import re
import sys
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from qt_ros.contract.commands import COMMANDS

ROOT = Path(__file__).resolve().parents[1]
MANIFEST = ElementTree.parse(ROOT / "package.xml").getroot()
SOURCES = [*sorted((ROOT / "qt_ros").rglob("*.py")), *sorted((ROOT / "launch").glob("*.py"))]


def declared(*tags: str) -> set[str]:
    return {element.text or "" for tag in tags for element in MANIFEST.findall(tag)}


def imported(path: Path) -> set[str]:
    """First words of all absolute imports of a file."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            found.add(node.module.split(".")[0])
    return found


def from_pip() -> set[str]:
    """Modules that distributions bring which are not ROS packages as wheels."""
    owners = importlib.metadata.packages_distributions()
    # Pinocchio's wheel (pin) keeps its modules where nobody looks; a ROS installation has it as a ROS package.
    return {module for module, names in owners.items() if not any(re.match(r"ros-|cv-bridge", n) for n in names)}


def ros_imports() -> dict[str, str]:
    """ROS packages that the code imports, and one file that does."""
    known = set(sys.stdlib_module_names) | from_pip() | {"qt_ros"}
    return {name: str(path.relative_to(ROOT)) for path in SOURCES for name in imported(path) if name not in known}


def test_every_imported_ros_package_is_a_dependency() -> None:
    pytest.importorskip("rclpy")
    wanted = ros_imports()
    assert {"rclpy", "sensor_msgs", "launch_ros"} <= set(wanted)
    missing = {name: path for name, path in wanted.items() if name not in declared("depend", "exec_depend")}
    assert missing == {}, "add <exec_depend> to package.xml"


def test_every_dependency_is_used_or_belongs_to_the_interfaces() -> None:
    pytest.importorskip("rclpy")
    of_interfaces = {"action_msgs", "builtin_interfaces", "std_msgs", "rosidl_default_runtime"}
    used = set(ros_imports()) | of_interfaces | set(of_commands())
    assert declared("depend", "exec_depend") - used == set()


def of_commands() -> dict[str, str]:
    """Packages of the types that a contract's commands may have; they are imported by name, when a robot has them."""
    return {name.partition("/")[0]: name for names, _ in COMMANDS.values() for name in names}


def test_every_type_that_a_contract_may_command_is_a_dependency() -> None:
    wanted = of_commands()
    assert {"control_msgs", "geometry_msgs", "trajectory_msgs"} <= set(wanted)
    missing = {name: kind for name, kind in wanted.items() if name not in declared("depend", "exec_depend")}
    assert missing == {}, "add <exec_depend> to package.xml"


def test_interfaces_build_against_what_the_manifest_says() -> None:
    packages = {"rosidl_default_generators", "ament_cmake"}
    for folder in ("msg", "srv", "action"):
        for path in (ROOT / folder).iterdir():
            packages |= set(re.findall(r"^(\w+)/\w+", path.read_text(encoding="utf-8"), re.MULTILINE))
    assert packages <= declared("depend", "buildtool_depend")


def test_a_missing_dependency_would_be_seen() -> None:
    names = imported(ROOT / "qt_ros" / "nodes" / "command_node.py")
    assert {"rclpy", "geometry_msgs"} <= names


def test_launch_files_and_configuration_are_installed() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    installed = re.search(r"foreach\(folder ([\w ]+)\)\n.*\n\s+install\(DIRECTORY \$\{folder\}", text)
    assert installed is not None
    assert {"config", "description", "launch"} <= set(installed[1].split())


def test_every_node_has_an_executable() -> None:
    text = (ROOT / "CMakeLists.txt").read_text(encoding="utf-8")
    listed = re.search(r"set\(QT_ROS_NODES ([\w ]+)\)", text)
    assert listed is not None
    nodes = {path.stem for path in (ROOT / "qt_ros" / "nodes").glob("*_node.py")}
    assert set(listed[1].split()) == nodes
