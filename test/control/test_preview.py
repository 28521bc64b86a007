"""What is drawn is what will be done: displacements as they are, the base on its arc, the box with its 12 edges."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qt_ros.control.preview import ARC_RADIUS, box_edges, intention


@given(dx=st.floats(-0.05, 0.05), dy=st.floats(-0.05, 0.05), dz=st.floats(-0.05, 0.05))
def test_the_tool_arrow_is_the_displacement(dx: float, dy: float, dz: float) -> None:
    meant = intention({"dx": dx, "dy": dy, "dz": dz, "terminate": 0.0, "gripper": 0.25})
    assert meant.tool == (dx, dy, dz)
    assert meant.words == ("gripper 0.25" if dx or dy or dz else "held, gripper 0.25")


@given(forward=st.floats(-0.1, 0.1), turn=st.floats(-0.25, 0.25))
def test_the_base_ends_where_many_small_steps_would_take_it(forward: float, turn: float) -> None:
    x = y = yaw = 0.0
    steps = 2000
    for _ in range(steps):
        x += forward / steps * math.cos(yaw + turn / steps / 2)
        y += forward / steps * math.sin(yaw + turn / steps / 2)
        yaw += turn / steps
    meant = intention({"base_forward": forward, "base_turn": turn})
    assert meant.base == pytest.approx((x, y, 0.0), abs=1e-6)
    if turn:
        assert meant.arc[-1] == pytest.approx((ARC_RADIUS * math.cos(turn), ARC_RADIUS * math.sin(turn), 0.0))


def test_what_cannot_be_drawn_is_said() -> None:
    assert intention({"terminate": 1.0, "dx": 0.01}).words == "terminate"
    assert intention({}).words == "held"


def test_a_box_has_twelve_edges_along_its_axes() -> None:
    points = box_edges((0.0, 1.0, 2.0), (1.0, 3.0, 5.0))
    edges = list(zip(points[::2], points[1::2], strict=True))
    assert len(edges) == len({frozenset(e) for e in edges}) == 12
    assert sorted(math.dist(a, b) for a, b in edges) == [1.0] * 4 + [2.0] * 4 + [3.0] * 4
