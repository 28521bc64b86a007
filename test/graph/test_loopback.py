"""Who can reach the nodes: with discovery for this machine only, nobody else's packets are read."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from qt_ros.cli.processes import NodeGroup
from qt_ros.contract.robot import package_root
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.transport import stay_on_this_machine

pytestmark = pytest.mark.skipif(not Path("/proc/net/udp").exists(), reason="reads sockets from /proc (Linux)")
LOOPBACK = "0100007F"


def inodes_of(pid: int) -> set[str]:
    """Inode numbers of all sockets of a process."""
    found = set()
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(entry)
        except OSError:
            continue
        if target.startswith("socket:["):
            found.add(target[8:-1])
    return found


def sockets_of(pid: int, table: str) -> list[tuple[str, int, int]]:
    """(address in hexadecimal, port, bytes that nobody has read) of a process's sockets in /proc/net/<table>."""
    own = inodes_of(pid)
    rows = [line.split() for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]]
    mine = [r for r in rows if r[9] in own]
    return [(r[1].split(":")[0], int(r[1].split(":")[1], 16), int(r[4].split(":")[1], 16)) for r in mine]


def test_nothing_that_comes_from_outside_is_read(ros_domain_id: int, tmp_path: Path) -> None:
    """Fast DDS also opens sockets that it only sends from: what is sent to them must stay unread."""
    with NodeGroup(tmp_path).running() as group:
        process = group.start("sim_node", {"real_time_factor": 0.3})
        client = GraphClient(group.check)
        client.wait_for_service("reset_scene")
        pid = process.process.pid
        listening = [s for t in ("tcp", "tcp6") for s in sockets_of(pid, t)]
        assert not listening, "no TCP server"
        sockets = sockets_of(pid, "udp")
        assert any(address == LOOPBACK for address, _, _ in sockets), "it listens on the loopback interface"
        outside = [(address, port) for address, port, _ in sockets if address != LOOPBACK]
        sender = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        for address, port in outside:
            host = socket.inet_ntoa(bytes.fromhex(address)[::-1])
            sender.sendto(b"RTPS" + bytes(60), (host if host != "0.0.0.0" else "127.0.0.1", port))
        sender.close()
        answered = client.reset_scene(1)  # it has gone on with its work meanwhile
        assert answered.success, answered.message
        waiting = {(a, p): unread for a, p, unread in sockets_of(pid, "udp")}
        assert all(waiting[entry] > 0 for entry in outside), "somebody reads a socket that others can reach"
        client.close()


def test_only_our_own_profile_is_exchanged(tmp_path: Path) -> None:
    local = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
    stay_on_this_machine(local)
    assert local["FASTRTPS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds_local.xml")
    own = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "FASTRTPS_DEFAULT_PROFILES_FILE": "/mine.xml"}
    stay_on_this_machine(own)
    assert own["FASTRTPS_DEFAULT_PROFILES_FILE"] == "/mine.xml"
    copy = tmp_path / "config" / "fastdds.xml"
    copy.parent.mkdir()
    copy.write_text((package_root() / "config" / "fastdds.xml").read_text())
    local["FASTDDS_DEFAULT_PROFILES_FILE"] = str(copy)  # as env.sh of a checkout names it
    stay_on_this_machine(local)
    assert local["FASTDDS_DEFAULT_PROFILES_FILE"].endswith("config/fastdds_local.xml")
    copy.write_text("<profiles/>")
    local["FASTDDS_DEFAULT_PROFILES_FILE"] = str(copy)  # somebody's own, of the same name
    stay_on_this_machine(local)
    assert local["FASTDDS_DEFAULT_PROFILES_FILE"] == str(copy)
    wide = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    stay_on_this_machine(wide)
    assert list(wide) == ["ROS_AUTOMATIC_DISCOVERY_RANGE"]
