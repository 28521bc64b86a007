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


def sampling(folder: Path) -> Table:
    """One row per store."""
    result, how = _read(folder / "sampling.json")
    r = result["sampling"]
    rows = [
        (
            f"{s['episodes']:,}", f"{s['steps']:,}", f"{s['opened_s']:.2f}", f"{s['wall_ms']['p50']:.1f}",
            f"{s['cpu_ms']['p50']:.1f}", f"{s['rss_mb']:.0f}", f"{s['uss_mb']:.0f}",
        )
        for s in r["stores"]
    ]  # fmt: skip
    ratios = r["last_over_first"]
    text = (
        f"{how}, {result['machine_idle_cores']} of them idle meanwhile. Batches of 64 segments, nothing kept. "
        f"Last over first store, medians of rounds in which both took their turns: time x{ratios['wall_s']:.2f}, CPU "
        f"time x{ratios['cpu_s']:.2f}, resident memory x{ratios['rss_mb']:.3f}, of its own x{ratios['uss_mb']:.3f}."
    )
    head = ("episodes", "steps", "open s", "batch ms", "its CPU ms", "resident MB", "of its own MB")
    return text, head, rows


def decoding(folder: Path) -> Table:
    """Reading against training."""
    result, how = _read(folder / "sampling.json")
    r = result["decoding"]
    names = {"read": "read and decoded", "train": "trained on, from memory", "together": "trained on, streamed"}
    rows = [
        (what, *(f"{r[f'{name}_batches_per_s'][mark]:.2f}" for mark in ("p50", "max"))) for name, what in names.items()
    ]
    text = (
        f"{how}. Batches of {r['batch']} segments ({r['frames_per_batch']} frames) per second, preset small with its "
        f"vision in training, one thread. Reading over training, median of rounds: x{r['read_over_train']:.1f}; "
        f"streamed over from memory: x{r['together_over_train']:.2f}; a streamed step waited "
        f"{100 * r['waited_share']:.1f}% of its time for its data."
    )
    return text, ("", "median", "largest"), rows
