"""Builds small interface packages that are not installed here, from definitions written down in the tests.

So nodes that use a third party's services or actions can be tested over DDS against a server that speaks them: names,
fields and constants are those of the public interface, the package holds nothing else.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

CMAKE = """cmake_minimum_required(VERSION 3.16)
project({name})
find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)
{finds}
rosidl_generate_interfaces(${{PROJECT_NAME}} {files} {dependencies})
ament_package()
"""
PACKAGE = """<?xml version="1.0"?>
<package format="3"><name>{name}</name><version>0.0.0</version><description>Stand-in for tests.</description>
<maintainer email="nobody@example.com">nobody</maintainer><license>Apache-2.0</license>
<buildtool_depend>ament_cmake</buildtool_depend><buildtool_depend>rosidl_default_generators</buildtool_depend>
{depends}<exec_depend>rosidl_default_runtime</exec_depend>
<member_of_group>rosidl_interface_packages</member_of_group><export><build_type>ament_cmake</build_type></export>
</package>
"""


def build(folder: Path, packages: Mapping[str, Mapping[str, str]], depends: Mapping[str, list[str]]) -> dict[str, str]:
    """Build {package: {'srv/Name.srv': definition}}; the environment in which they are found, beside this one.

    ``depends``: interface packages that each needs. RuntimeError with the end of the log when building fails.
    """
    for name, files in packages.items():
        needed = depends.get(name, [])
        source = folder / "src" / name
        for path, text in files.items():
            target = source / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text, encoding="utf-8")
        listed = " ".join(f'"{path}"' for path in files)
        finds = "\n".join(f"find_package({n} REQUIRED)" for n in needed)
        dependencies = f"DEPENDENCIES {' '.join(needed)}" if needed else ""
        cmake = CMAKE.format(name=name, files=listed, finds=finds, dependencies=dependencies)
        (source / "CMakeLists.txt").write_text(cmake, encoding="utf-8")
        tags = "".join(f"<depend>{n}</depend>\n" for n in needed)
        (source / "package.xml").write_text(PACKAGE.format(name=name, depends=tags), encoding="utf-8")
    colcon = shutil.which("colcon")
    if colcon is None:
        raise RuntimeError("colcon is not installed")
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "")
    command = [colcon, "build", "--merge-install", "--cmake-args", f"-DPython3_EXECUTABLE={sys.executable}"]
    command += ["-DBUILD_TESTING=OFF"]
    environment = {**os.environ, "CMAKE_PREFIX_PATH": prefixes, "PYTHONPATH": _without_checkouts()}
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    if done.returncode:
        raise RuntimeError(f"stand-in interfaces were not built:\n{(done.stdout + done.stderr)[-3000:]}")
    install = folder / "install"
    site = next(
        p
        for pattern in ("lib/python3*/site-packages", "local/lib/python3*/dist-packages")
        for p in install.glob(pattern)
    )
    return {
        "PYTHONPATH": os.pathsep.join([str(site), os.environ.get("PYTHONPATH", "")]),
        "LD_LIBRARY_PATH": os.pathsep.join([str(install / "lib"), os.environ.get("LD_LIBRARY_PATH", "")]),
        "AMENT_PREFIX_PATH": os.pathsep.join([str(install), os.environ.get("AMENT_PREFIX_PATH", "")]),
    }


def _without_checkouts() -> str:
    """PYTHONPATH without this package's own tree: its folders would hide modules of the generators."""
    return os.pathsep.join(p for p in os.environ.get("PYTHONPATH", "").split(os.pathsep) if "site-packages" in p)
