"""Who can reach the nodes of a launch, by environment variables alone."""

from __future__ import annotations

import pytest

from qt_ros.nodes.transport import PROFILES, RANGE, image_transport, launched


def test_local_keeps_discovery_and_sockets_on_this_machine() -> None:
    variables, line = launched({}, local=True)
    assert variables[RANGE] == "LOCALHOST"
    assert all(variables[name].endswith("fastdds_local.xml") for name in PROFILES)
    assert "this machine only" in line and "network:=lan" in line


def test_the_profile_that_env_sh_names_is_exchanged_too() -> None:
    variables, _ = launched(image_transport(), local=True)
    assert all(variables[name].endswith("fastdds_local.xml") for name in PROFILES)


def test_lan_leaves_discovery_alone_and_carries_whole_images() -> None:
    variables, line = launched({}, local=False)
    assert RANGE not in variables and variables == image_transport()
    assert "every machine" in line


@pytest.mark.parametrize("name", [RANGE, "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY"])
def test_what_the_environment_says_comes_first(name: str) -> None:
    variables, line = launched({name: "SUBNET"}, local=True)
    assert RANGE not in variables and variables == image_transport()
    assert f"{name}=SUBNET" in line


def test_an_environment_of_this_machine_alone_is_obeyed_with_lan_too() -> None:
    variables, _ = launched({RANGE: "LOCALHOST"}, local=False)
    assert all(variables[name].endswith("fastdds_local.xml") for name in PROFILES)


def test_static_peers_beside_a_local_range_are_not_cut_off() -> None:
    """ROS reaches the named machines then and no others; sockets on the loopback interface alone would reach none."""
    variables, line = launched({RANGE: "LOCALHOST", "ROS_STATIC_PEERS": "10.0.0.7"}, local=True)
    assert variables == image_transport()
    assert f"{RANGE}=LOCALHOST" in line and "ROS_STATIC_PEERS=10.0.0.7" in line


def test_a_variable_that_asks_for_nothing_does_not_open_the_network() -> None:
    variables, told = launched({"ROS_LOCALHOST_ONLY": "0", "ROS_STATIC_PEERS": ""}, local=True)
    assert variables[RANGE] == "LOCALHOST" and "this machine only" in told
    variables, told = launched({"ROS_LOCALHOST_ONLY": "1"}, local=True)
    assert RANGE not in variables and "ROS_LOCALHOST_ONLY=1" in told


def test_a_profile_of_the_users_own_stays() -> None:
    variables, _ = launched(dict.fromkeys(PROFILES, "/mine.xml"), local=True)
    assert variables == {RANGE: "LOCALHOST"}
