"""`ros2 launch FILE name:=value ...` without ros2cli: `python launch_runner.py FILE name:=value ...`."""

from __future__ import annotations

import sys

from launch.actions import IncludeLaunchDescription
from launch.launch_description import LaunchDescription
from launch.launch_description_sources import AnyLaunchDescriptionSource
from launch.launch_service import LaunchService


def main() -> int:
    path, *given = sys.argv[1:]
    arguments = [tuple(text.split(":=", 1)) for text in given]
    service = LaunchService()
    included = IncludeLaunchDescription(AnyLaunchDescriptionSource(path), launch_arguments=arguments)
    service.include_launch_description(LaunchDescription([included]))
    return int(service.run())


if __name__ == "__main__":
    sys.exit(main())
