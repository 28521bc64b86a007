"""How far messages go: Fast DDS profiles with room for whole camera images, and who can reach the nodes.

Environment variables only, without ROS, so that the command line and the launch files start nodes alike.
"""

from __future__ import annotations

import filecmp
from collections.abc import Mapping, MutableMapping
from pathlib import Path

from qt_ros.contract.robot import package_root

PROFILES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")  # Jazzy's and Kilted's
RANGE, PEERS = "ROS_AUTOMATIC_DISCOVERY_RANGE", "ROS_STATIC_PEERS"
REACH = (RANGE, PEERS, "ROS_LOCALHOST_ONLY")
"""Variables with which a user says who may be reached; nothing here overrules them."""


def image_transport() -> dict[str, str]:
    """Environment in which Fast DDS carries whole camera images between processes (see config/fastdds.xml)."""
    return dict.fromkeys(PROFILES, str(package_root() / "config" / "fastdds.xml"))


def stay_on_this_machine(environment: MutableMapping[str, str]) -> None:
    """Where discovery is for this machine only, listen on the loopback interface only (config/fastdds_local.xml).

    A profile of the user's own stays; the one that env.sh names does not. Machines that ROS_STATIC_PEERS names are
    reached by other interfaces, so with them nothing is changed.
    """
    if environment.get(RANGE) != "LOCALHOST" or environment.get(PEERS):
        return
    for variable, ours in image_transport().items():
        if _same_file(Path(environment.get(variable, ours)), Path(ours)):
            environment[variable] = str(Path(ours).with_name("fastdds_local.xml"))


def launched(environment: Mapping[str, str], local: bool) -> tuple[dict[str, str], str]:
    """What a launch adds to ``environment``, and a line that says who can reach its nodes.

    ``local``: nobody but this machine, unless one of `REACH` says otherwise.
    """
    nothing = {"ROS_LOCALHOST_ONLY": "0"}  # as not set
    said = (name for name in REACH if environment.get(name, "") not in ("", nothing.get(name)))
    told = " and ".join(f"{name}={environment[name]}" for name in said)
    wanted = {**image_transport(), **environment}
    if local and not told:
        wanted[RANGE] = "LOCALHOST"
    stay_on_this_machine(wanted)
    if told:
        line = f"network: as the environment says: {told}"
    elif local:
        line = "network: this machine only; with network:=lan others are heard too"
    else:
        line = "network: every machine that uses the same ROS domain is heard; network:=local keeps to this one"
    return {name: value for name, value in wanted.items() if environment.get(name) != value}, line


def _same_file(path: Path, ours: Path) -> bool:
    """Whether they say the same: env.sh may name the copy of a checkout, and we are the installed one."""
    try:
        return path == ours or (path.name == ours.name and filecmp.cmp(path, ours, shallow=False))
    except OSError:
        return False
