"""Stand-ins for the ROS packages around Gazebo, and for RViz: programs that note how they were called.

They have the real names, so that gazebo.launch.py runs under the real launch system where Gazebo is not installed.
`create` and `spawner` end at once, as the real ones do when they are done; the others run until they are told to stop.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

ENDING = {"ros_gz_sim": "create", "controller_manager": "spawner"}
RUNNING = {
    "ros_gz_bridge": "parameter_bridge",
    "ros_gz_image": "image_bridge",
    "robot_state_publisher": "robot_state_publisher",
    "rviz2": "rviz2",
}
PROGRAM = """#!{python}
import json, os, signal, sys
with open({log!r}, "a") as log:
    told = {{"partition": os.environ.get("GZ_PARTITION"), "ip": os.environ.get("GZ_IP")}}
    log.write(json.dumps({{"name": {name!r}, "arguments": sys.argv[1:], **told}}))
    log.write(chr(10))
if {name!r} == os.environ.get("FAILING"):
    sys.exit(3)
if {waits}:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(0))
    while True:
        signal.pause()
"""
GZ_LAUNCH = """
from launch import LaunchDescription
from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction, Shutdown
from launch.substitutions import LaunchConfiguration

def generate_launch_description():
    return LaunchDescription([
        DeclareLaunchArgument("gz_args"),
        DeclareLaunchArgument("on_exit_shutdown", default_value="false"),
        # The real one asks whether the text is empty, and ends the launch with Gazebo unless it is.
        OpaqueFunction(function=lambda context: [
            ExecuteProcess(
                cmd=[{program!r}, LaunchConfiguration("gz_args")],
                name="gazebo",
                on_exit=Shutdown() if LaunchConfiguration("on_exit_shutdown").perform(context) else None,
            )
        ]),
    ])
"""


def install(prefix: Path) -> Path:
    """Make the packages under ``prefix`` (an ament prefix); returns the log that their programs write."""
    log = prefix / "calls.jsonl"
    for packages, waits in ((ENDING, False), (RUNNING, True)):
        for package, program in packages.items():
            index = prefix / "share" / "ament_index" / "resource_index" / "packages" / package
            index.parent.mkdir(parents=True, exist_ok=True)
            index.write_text("")
            (prefix / "share" / package / "launch").mkdir(parents=True)
            _program(prefix / "lib" / package / program, log, waits)
    gazebo = prefix / "lib" / "gz"
    _program(gazebo, log, True)
    (prefix / "share" / "ros_gz_sim" / "launch" / "gz_sim.launch.py").write_text(GZ_LAUNCH.format(program=str(gazebo)))
    return log


def _program(path: Path, log: Path, waits: bool) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PROGRAM.format(python=sys.executable, log=str(log), name=path.name, waits=waits))
    path.chmod(0o755)


def calls(log: Path) -> list[dict[str, Any]]:
    """What was called so far, in order."""
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
