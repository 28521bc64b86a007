"""policy_node as it is, which also writes down the network's own time of each step it publishes.

Run in the place of policy_node by benchmarks/policy_over_dds.py: the node's messages do not carry that number. The file
named by QT_ROS_PROBE gets one line of JSON per step, when the node ends.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from qt_ros.nodes import policy_node


def main() -> int:
    """Run the node until it is told to stop."""
    samples: list[dict[str, Any]] = []
    make = policy_node.action_message

    def noted(step: Any, *rest: Any) -> Any:
        message, timings = make(step, *rest), step.decision.timings_ms
        network = timings["encode"] + timings["decode"]
        samples.append({"episode": message.episode_id, "step": message.step, "network_ms": network})
        return message

    policy_node.action_message = noted  # type: ignore[assignment]
    try:
        return policy_node.main()
    finally:
        lines = (json.dumps(sample) + "\n" for sample in samples)
        Path(os.environ["QT_ROS_PROBE"]).write_text("".join(lines), encoding="utf-8")


if __name__ == "__main__":
    raise SystemExit(main())
