"""Tables of docs/results/ from the JSON that the benchmarks wrote: a sentence, the header and the rows of each."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

Table = tuple[str, Sequence[str], list[tuple[Any, ...]]]

STEP_PARTS = (("total", "p50"), ("total", "p95"), ("encode", "p50"), ("decode", "p50"), ("decode_uncached", "p50"))
STEP_HEAD = ("history", "frames encoded per step", "step", "step p95", "encode", "decode", "decode without cache")
WAY = {
    "total": "image stamp to published PolicyAction",
    "network": "the network's own time (encode and decode)",
    "overhead": "overhead: the first less the second, step by step",
}


def _read(path: Path) -> tuple[dict[str, Any], str]:
    """A benchmark's JSON, and how it was made."""
    result = json.loads(path.read_text(encoding="utf-8"))
    machine = result["machine"]
    how = f"`{result['command']}` at commit {result['commit']}; {machine['processor']}, {machine['cores']} cores"
    return result, how


def policy_step(folder: Path) -> Table:
    """One row per history length."""
    result, how = _read(folder / "policy_latency.json")
    rows: list[tuple[Any, ...]] = []
    for r in result["policy_step"]:
        times = (f"{r[f'{part}_ms'][mark]:.1f}" for part, mark in STEP_PARTS)
        ratios = (f"{r[name]:.2f}" for name in ("no_cache_over_cache", "window_over_frame"))
        rows.append((r["history"], f"{r['frames_encoded_per_step']:g}", *times, *ratios))
    growth = ", ".join(f"{part} x{ratio:.2f}" for part, ratio in result["growth"].items())
    text = (
        f"{how}, {result['machine_idle_cores']} of them idle meanwhile. Milliseconds, medians unless named. "
        f"Last over first history, median of ratios of the same round: {growth}."
    )
    return text, (*STEP_HEAD, "no cache / cache", "window / one frame"), rows


def policy_over_dds(folder: Path) -> Table:
    """The parts of the way from image stamp to published action."""
    result, how = _read(folder / "policy_latency.json")
    r = result["over_dds"]
    rows = [(name, *(f"{r[f'{key}_ms'][mark]:.1f}" for mark in ("p50", "p95", "max"))) for key, name in WAY.items()]
    text = f"{how}, {r['machine_idle_cores']} of them idle meanwhile; {r['steps']} steps. Milliseconds."
    return text, ("part", "median", "95th percentile", "largest"), rows


def recorder(folder: Path) -> Table:
    """One row per topic."""
    result, how = _read(folder / "recorder.json")
    r = result["recording"]
    rows = [
        (f"`{name}`", t["qos"], t["rate_measured"], t["published"], t["in_bag"], t["lost"])
        for name, t in r["topics"].items()
    ]
    cpu = r["cpu_cores"]
    text = (
        f"{how}, {cpu['machine_idle']:.1f} of them idle meanwhile. {r['seconds']:.0f} s, {r['mb_per_s']} MB/s; "
        f"the recorder took {cpu['recorder']:.2f} cores and {cpu['recorder_memory_mb']:.0f} MB."
    )
    return text, ("topic", "quality of service", "rate Hz", "published", "in the bag", "lost"), rows
