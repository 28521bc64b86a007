#!/usr/bin/env bash
# What only tests need from the system: the SDF parser that Gazebo reads worlds with (`gz sdf` or `ign sdf`). Installed
# when root and missing. Where it cannot be, the tests that need it skip and say so, or fail where QT_ROS_NEED_SDF_PARSER
# is set, as .ci/run does: they are what says so, so that all others still run.
set -Eeuo pipefail
TOOLS=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
LOGS=$TOOLS/../log/setup
say() { echo "setup: $*"; }

# shellcheck source=tools/system_packages.sh
. "$TOOLS/system_packages.sh"

have_sdf_parser() { gz sdf --help >/dev/null 2>&1 || ign sdf --help >/dev/null 2>&1; }

have_sdf_parser || install_packages "SDF parser, for the tests of the Gazebo world" ignition-tools libsdformat-dev || true
