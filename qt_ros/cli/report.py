"""An HTML page about recorded episodes: for each a strip of what the camera saw and the Q-values over time.

One file, nothing loaded from elsewhere: pictures are JPEG data URIs, plots are SVG. Everything on it is read from the
bags, so it shows what was recorded, not what was meant. No ROS.
"""

from __future__ import annotations

import base64
import html
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.codecs import decode_image, ns_to_seconds, stamp_to_ns
from qt_ros.episodes.bag import read_bag, read_metadata
from qt_ros.episodes.bag_story import resolve_topic

STRIP_FRAMES = 12
STRIP_HEIGHT = 120  # pixels
_PALETTE = (
    "#4477aa",
    "#ee6677",
    "#228833",
    "#ccbb44",
    "#66ccee",
    "#aa3377",
    "#994455",
    "#997700",
    "#777777",
    "#bb88dd",
)


@dataclass
class EpisodeView:
    """What the page shows of one episode. Times in s since the first policy action."""

    facts: dict[str, Any]  # shown as they are, in this order
    names: tuple[str, ...] = ()
    times: list[float] = field(default_factory=list)
    q: list[list[float]] = field(default_factory=list)  # per step, one value per name
    values: list[float] = field(default_factory=list)  # value of the state, per step
    frames: list[tuple[float, bytes]] = field(default_factory=list)  # time and JPEG
    problem: str = ""


def view_bag(bag: Path, facts: Mapping[str, Any], image_topic: str) -> EpisodeView:
    """Read Q-values and up to STRIP_FRAMES pictures from ``bag``; a bag that cannot be read is said so on the page."""
    view = EpisodeView(dict(facts))
    try:
        _read(view, bag, image_topic)
    except Exception as error:  # the page must come out whatever one bag is like
        view.problem = f"{type(error).__name__}: {error}"
    return view


def _read(view: EpisodeView, bag: Path, image_topic: str) -> None:
    present = [t.name for t in read_metadata(bag).topics]
    actions, images = resolve_topic("policy_action", present), resolve_topic(image_topic, present)
    stamps: list[int] = []
    for _, _, _, message in read_bag(bag, [actions] if actions else []):
        if not len(message.q):
            continue  # the stop at the end is no decision
        stamps.append(stamp_to_ns(message.observation_stamp))
        view.names = tuple(message.names)
        view.q.append([float(q) for q in message.q])
        view.values.append(float(message.value))
    if not stamps:
        view.problem = "no policy action in the bag"
        return
    view.times = [ns_to_seconds(s - stamps[0]) for s in stamps]
    chosen = np.unique(np.linspace(0, len(stamps) - 1, min(STRIP_FRAMES, len(stamps))).round().astype(int))
    wanted = {stamps[i]: view.times[i] for i in chosen}
    for _, _, _, message in read_bag(bag, [images] if images else []):
        time = wanted.pop(stamp_to_ns(message.header.stamp), None)
        if time is not None:
            view.frames.append((time, _jpeg(decode_image(message))))


def _jpeg(image: NDArray[np.uint8]) -> bytes:
    height, width = image.shape[:2]
    small = cv2.resize(image, (round(width * STRIP_HEIGHT / height), STRIP_HEIGHT), interpolation=cv2.INTER_AREA)
    done, data = cv2.imencode(".jpg", cv2.cvtColor(small, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 80])
    if not done:
        raise ValueError("OpenCV could not encode a picture")
    return bytes(data.tobytes())


def write_page(path: Path, title: str, summary: Mapping[str, Any], episodes: Sequence[EpisodeView]) -> None:
    """Write the page to ``path`` in one go: it is either the old file or the whole new one."""
    parts = [_HEAD.format(title=html.escape(title)), f"<h1>{html.escape(title)}</h1>", _facts(summary)]
    parts += [_episode(i, view) for i, view in enumerate(episodes)]
    parts.append("</main></body></html>\n")
    temporary = path.with_suffix(".tmp")
    temporary.write_text("\n".join(parts), encoding="utf-8")
    temporary.replace(path)


def _episode(index: int, view: EpisodeView) -> str:
    outcome = str(view.facts.get("outcome", "unknown"))
    headline = html.escape(str(view.facts.get("instruction", "")) or "episode")
    parts = [
        f'<section class="{html.escape(outcome)}"><h2>{index + 1}. {headline} <span>{html.escape(outcome)}</span></h2>',
        _facts({k: v for k, v in view.facts.items() if k not in ("instruction", "outcome")}),
    ]
    if view.problem:
        parts.append(f'<p class="problem">{html.escape(view.problem)}</p>')
    if view.frames:
        pictures = "".join(
            f'<figure><img alt="camera at {t:.1f} s" src="data:image/jpeg;base64,{base64.b64encode(data).decode()}">'
            f"<figcaption>{t:.1f} s</figcaption></figure>"
            for t, data in view.frames
        )
        parts.append(f'<div class="strip">{pictures}</div>')
    if view.times:
        parts.append(plot(view.times, view.values, view.q, view.names))
    return "\n".join([*parts, "</section>"])


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<div><dt>{html.escape(k)}</dt><dd>{html.escape(str(v))}</dd></div>" for k, v in facts.items() if v != ""
    )
    return f"<dl>{rows}</dl>"


def plot(
    times: Sequence[float],
    values: Sequence[float],
    q: Sequence[Sequence[float]],
    names: Sequence[str],
    width: int = 900,
    height: int = 240,
) -> str:
    """SVG of the state value (bold) and the Q of the chosen bin per dimension, 0 to 1, over ``times`` in s."""
    left, right, top, bottom = 40, 150, 12, 30
    span = max(times[-1] - times[0], 1e-6)

    def x(t: float) -> float:
        return left + (t - times[0]) / span * (width - left - right)

    def y(v: float) -> float:
        return top + (1.0 - min(max(v, 0.0), 1.0)) * (height - top - bottom)

    def line(series: Sequence[float], colour: str, weight: float) -> str:
        points = " ".join(f"{x(t):.1f},{y(v):.1f}" for t, v in zip(times, series, strict=True))
        return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="{weight}"/>'

    parts = [f'<svg viewBox="0 0 {width} {height}" role="img" aria-label="Q-values over time">']
    for v in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(f'<line class="grid" x1="{left}" x2="{width - right}" y1="{y(v):.1f}" y2="{y(v):.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y(v) + 4:.1f}" text-anchor="end">{v:g}</text>')
    for second in range(0, int(span) + 1, max(1, int(span) // 12)):
        parts.append(f'<text x="{x(times[0] + second):.1f}" y="{height - 10}" text-anchor="middle">{second} s</text>')
    legend = [("state value", "#111111", 2.5), *((n, _PALETTE[i % len(_PALETTE)], 1.2) for i, n in enumerate(names))]
    columns = [list(values), *([row[i] for row in q] for i in range(len(names)))]
    for (_, colour, weight), series in reversed(list(zip(legend, columns, strict=True))):
        parts.append(line(series, colour, weight))
    for i, (name, colour, weight) in enumerate(legend):
        at = top + 8 + i * 17
        parts.append(
            f'<line x1="{width - right + 12}" x2="{width - right + 32}" y1="{at - 4}" y2="{at - 4}" '
            f'stroke="{colour}" stroke-width="{weight + 0.8}"/>'
            f'<text x="{width - right + 38}" y="{at}">{html.escape(name)}</text>'
        )
    return "".join([*parts, "</svg>"])


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.45 system-ui, sans-serif; color: #1a1a1a; background: #f5f5f2; margin: 0; }}
main {{ max-width: 1000px; margin: 0 auto; padding: 24px 16px 64px; }}
h1 {{ font-size: 26px; }}
section {{ background: #fff; border-left: 6px solid #bbb; border-radius: 4px; padding: 4px 18px 14px; margin: 20px 0; }}
section.success {{ border-color: #228833; }}
section.failure {{ border-color: #ee6677; }}
h2 {{ font-size: 18px; margin: 12px 0 6px; }}
h2 span {{ font-weight: 400; color: #666; margin-left: 8px; }}
dl {{ display: flex; flex-wrap: wrap; gap: 2px 22px; margin: 0 0 12px; font-size: 13px; }}
dl div {{ display: flex; gap: 6px; }}
dt {{ color: #666; white-space: nowrap; }}
dd {{ margin: 0; overflow-wrap: anywhere; }}
.strip {{ display: grid; grid-template-columns: repeat(6, 1fr); gap: 4px; }}
figure {{ margin: 0; }}
figcaption {{ font-size: 11px; color: #666; text-align: center; }}
.strip img {{ width: 100%; display: block; border-radius: 3px; }}
svg {{ width: 100%; height: auto; margin-top: 10px; }}
svg text {{ font-size: 11px; fill: #555; }}
svg .grid {{ stroke: #e4e4e0; }}
.problem {{ color: #aa3333; }}
</style></head><body><main>"""
