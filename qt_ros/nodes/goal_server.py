"""The action server of policy_node, which remembers whom it has answered."""

from __future__ import annotations

import math
import time
from typing import Any

from rclpy.action import ActionServer
from rclpy.task import Future

TAKEN = 1.0  # s for a client to take an answer: Fast DDS drops what it has not read when the sender's writer goes


class GoalServer(ActionServer):
    """Knows whose result went out last: a client may ask for it after the goal's end, and rclpy does not tell."""

    _told = b""
    _told_at = math.inf  # monotonic s

    def _send_result_response(self, request_header: Any, future: Future) -> None:
        super()._send_result_response(request_header, future)
        self._told = next((goal for goal, result in self._result_futures.items() if result is future), self._told)
        self._told_at = time.monotonic()

    def has_told(self, goal: bytes) -> bool:
        """Whether the client of ``goal`` has its result, as far as one can know."""
        return self._told == goal and time.monotonic() - self._told_at > TAKEN
