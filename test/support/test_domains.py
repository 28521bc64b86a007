"""Domain ids are never shared between tests that run at the same time."""

from __future__ import annotations

import os
import subprocess
import sys

from domains import FIRST, LAST, reserved_domain


def test_two_holders_at_the_same_time_get_different_ids() -> None:
    with reserved_domain() as first, reserved_domain() as second:
        assert first != second
        assert FIRST <= min(first, second) and max(first, second) <= LAST


def test_another_process_does_not_get_an_id_that_is_held() -> None:
    code = "from domains import reserved_domain\nwith reserved_domain() as domain: print(domain)"
    path = os.path.dirname(__file__)
    with reserved_domain() as held:
        seen = [
            int(subprocess.check_output([sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}))
            for _ in range(3)
        ]
    assert held not in seen


def test_the_environment_names_the_reserved_id(ros_domain_id: int) -> None:
    assert os.environ["ROS_DOMAIN_ID"] == str(ros_domain_id)
