"""Which topics a Foxglove layout and an RViz file name, and which fields of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

RVIZ_TYPES = {
    "rviz_default_plugins/MarkerArray": "visualization_msgs/msg/MarkerArray",
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/TwistStamped": "geometry_msgs/msg/TwistStamped",
    "rviz_default_plugins/Odometry": "nav_msgs/msg/Odometry",
}
_PATH = re.compile(r"/(?P<topic>\w+(?:/\w+)*)(?P<fields>(?:\.\w+(?:\[\d+\])?)*)$")


def foxglove(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def panels(layout: Any) -> Iterator[str]:
    """The panels that a mosaic shows."""
    if isinstance(layout, str):
        yield layout
    else:
        assert layout["direction"] in ("row", "column") and 0 < layout["splitPercentage"] < 100
        yield from panels(layout["first"])
        yield from panels(layout["second"])


def message_paths(path: Path) -> list[tuple[str, tuple[str, ...]]]:
    """(topic, fields) of everything the layout shows; a field may end in [index]."""
    found = []
    for name, config in foxglove(path)["configById"].items():
        texts = [series["value"] for series in config.get("paths", [])]
        texts += [config[key] for key in ("topicPath", "topicToRender") if key in config]
        texts += [config.get("imageMode", {})[k] for k in ("imageTopic", "calibrationTopic") if config.get("imageMode")]
        texts += config.get("topics", {})
        assert texts, f"panel {name} shows nothing"
        for text in texts:
            match = _PATH.match(text)
            assert match, f"panel {name}: {text!r} is no message path"
            found.append((match["topic"], tuple(f for f in match["fields"].split(".") if f)))
    return found


def foxglove_topics(path: Path) -> list[str]:
    return sorted({topic for topic, _ in message_paths(path)})


def rviz(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def rviz_topics(path: Path) -> dict[str, str]:
    """{topic: message type that its display takes}."""
    displays = rviz(path)["Visualization Manager"]["Displays"]
    return {d["Topic"]["Value"].lstrip("/"): RVIZ_TYPES[d["Class"]] for d in displays if "Topic" in d}
