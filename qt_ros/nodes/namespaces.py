"""What it takes to put a node into a robot's namespace: several robots of one graph then have nothing in common."""

from __future__ import annotations

INTO_NAMESPACE = [("/clock", "clock"), ("/tf", "tf"), ("/tf_static", "tf_static"), ("/diagnostics", "diagnostics")]
"""Global names that would be shared by all robots of a graph: (name, name in the namespace)."""


def remappings(namespace: str) -> dict[str, str]:
    """Arguments ``-r name:=name`` that start a node in ``namespace`` as the launch files do; none for the root."""
    path = "/" + namespace.strip("/")
    return {"__ns": path, **dict(INTO_NAMESPACE)} if path != "/" else {}
