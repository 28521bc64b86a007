"""What is left of a graph that hangs, so that its cause can be found."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path

from qt_ros.cli.processes import NodeGroup

NEWCOMER = 20.0  # s on the wall for an answer to somebody who has just joined


def keep_traces(group: NodeGroup, folder: Path, name: str, managed: Sequence[str]) -> None:
    """Keep the logs in ``folder``/``name``, with what every thread of every node is doing, and newcomer.json: the
    lifecycle states of the ``managed`` nodes that somebody hears who has just joined, or why he hears none."""
    from qt_ros.nodes.demo_client import GraphClient

    for node in group.nodes:
        if node.running:
            os.killpg(node.process.pid, signal.SIGUSR1)
    states: dict[str, str] = {}
    client = GraphClient(lambda: None, "fault_newcomer")
    try:
        for managed_name in managed:
            try:
                states[managed_name] = str(client.state(managed_name, NEWCOMER))
            except (TimeoutError, RuntimeError) as error:
                states[managed_name] = f"{type(error).__name__}: {error}"
    finally:
        client.close()
    shutil.copytree(folder / "logs", folder / name, dirs_exist_ok=True)
    (folder / name / "newcomer.json").write_text(json.dumps(states, indent=1), encoding="utf-8")
