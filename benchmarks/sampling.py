#!/usr/bin/env python3
"""Cost of drawing a batch from a store, and the memory it takes, as the store grows; and decoding against training.

    . ./env.sh
    python benchmarks/sampling.py                       stores of 1,000 and 300,000 episodes of small frames
    python benchmarks/sampling.py --decoding            also frames of 96 x 128: batches read, batches trained on
    python benchmarks/sampling.py --json out.json       ... --json alone prints JSON only

Each store is read by a process of its own that was never told of the other. Both live at once and take turns, a few
batches each, so that a busy machine slows both alike: compare the ratios. The stores are made first (`synthetic_store`)
and deleted afterwards; --keep FOLDER keeps them and finds them again.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np
from rich.table import Table

from benchmarks.report import Idle, add_json_option, context, emit, spread
from benchmarks.synthetic_store import make_store
from qt_ros.contract.robot import load_contract

BATCH = 64
WARM_UP = 50
"""Batches drawn before the clock starts."""

READER = """
import sys, json, time
sys.path.insert(0, {root!r})
from benchmarks.sampling import Reader
reader = Reader({store!r}, {cache_bytes})
print(json.dumps(reader.facts()), flush=True)
for line in sys.stdin:
    print(json.dumps(reader.turn(int(line))), flush=True)
"""


class Reader:
    """Draws batches from one streamed store, as training does."""

    def __init__(self, store: str, cache_bytes: int) -> None:
        from qt_ros.learning.sampling import SegmentSampler
        from qt_ros.learning.streaming import stream_training_data

        began = time.perf_counter()
        self.data = stream_training_data([store], 0.98, cache_bytes=cache_bytes)
        self.sampler = SegmentSampler(
            self.data.lengths, self.data.success, batch=BATCH, steps=1, ahead=1, history=2, success_share=0.5, seed=0
        )
        self.opened_s = time.perf_counter() - began
        self.step = 0

    def facts(self) -> dict[str, Any]:
        """What was opened, and how long that took."""
        return {"episodes": len(self.data.lengths), "steps": self.data.count, "opened_s": round(self.opened_s, 3)}

    def turn(self, batches: int) -> dict[str, float]:
        """Seconds and CPU seconds of so many batches, and the memory of this process afterwards in MB."""
        import psutil

        wall, cpu = time.perf_counter(), time.process_time()
        for _ in range(batches):
            self._draw()
        wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
        memory = psutil.Process().memory_full_info()
        return {"wall_s": wall, "cpu_s": cpu, "rss_mb": memory.rss / 1e6, "uss_mb": memory.uss / 1e6}

    def _draw(self) -> None:
        from qt_ros.learning.sources import segment_spans
        from qt_ros.learning.streaming import joined

        segments = self.sampler.batch_at(self.step)
        self.step += 1
        rows = self.data.load(segment_spans(segments))
        joined(row for row in rows if isinstance(row, dict))


class Child:
    """A `Reader` in a process of its own."""

    def __init__(self, store: Path, cache_bytes: int) -> None:
        code = READER.format(root=str(Path(__file__).resolve().parents[1]), store=str(store), cache_bytes=cache_bytes)
        self._process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.facts: dict[str, Any] = self._answer()

    def turn(self, batches: int) -> dict[str, float]:
        """See `Reader.turn`."""
        assert self._process.stdin is not None
        print(batches, file=self._process.stdin, flush=True)
        return self._answer()

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> Any:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"a reader ended with status {self._process.wait()}")
        return json.loads(line)


def measure(stores: Sequence[Path], rounds: int, batches: int, cache_bytes: int) -> dict[str, Any]:
    """``rounds`` turns of each store's reader, side by side; ratios are of the last store to the first."""
    readers = [Child(store, cache_bytes) for store in stores]
    try:
        for reader in readers:
            reader.turn(WARM_UP)
        turns: list[list[dict[str, float]]] = [[] for _ in readers]
        for number in range(rounds):
            order = range(len(readers)) if number % 2 == 0 else range(len(readers) - 1, -1, -1)
            for at in order:
                turns[at].append(readers[at].turn(batches))
        found = [
            reader.facts
            | {f"{key}_ms": spread([1e3 * t[f"{key}_s"] / batches for t in taken]) for key in ("wall", "cpu")}
            | {key: round(taken[-1][key], 1) for key in ("rss_mb", "uss_mb")}
            for reader, taken in zip(readers, turns, strict=True)
        ]
        ratios = {
            key: round(float(np.median([b[key] / a[key] for a, b in zip(turns[0], turns[-1], strict=True)])), 3)
            for key in ("wall_s", "cpu_s", "rss_mb", "uss_mb")
        }
    finally:
        for reader in readers:
            reader.close()
    return {"stores": found, "last_over_first": ratios}


def decoding(store: Path, folder: Path, steps: int) -> dict[str, Any]:
    """Batches per second that are read and decoded, and that are trained on, by themselves and together.

    Preset small with vision in training, random weights: what a step costs does not depend on them.
    """
    import torch

    from qt_ros.learning.config import load_train_config
    from qt_ros.learning.dataset import load_training_data
    from qt_ros.learning.sources import segment_spans
    from qt_ros.learning.streaming import joined, stream_training_data
    from qt_ros.learning.trainer import Trainer
    from qt_ros.model.config import ModelConfig
    from qt_ros.model.q_transformer import QTransformer

    config = load_train_config("small", {"freeze_vision": False, "gradient_steps": 1_000_000})
    height, width = 96, 128

    def trainer(data: Any, name: str) -> Trainer:
        torch.manual_seed(0)
        model = QTransformer(ModelConfig.from_preset("small", image_height=height, image_width=width))
        text = torch.randn(len(data.instructions), model.config.text_size)
        return Trainer(model, data, text, config, folder / name)

    streamed = stream_training_data([store], config.backup.gamma, cache_bytes=1 << 20)
    alone = trainer(load_training_data([store], config.backup.gamma), "memory")
    together = trainer(streamed, "streamed")
    sampler = together.batches.source._sampler  # type: ignore[attr-defined]
    rates: dict[str, list[float]] = {"read": [], "train": [], "together": []}
    waited = 0.0

    def rate(work: Any, name: str, count: int) -> float:
        began = time.perf_counter()
        for number in range(count):
            work(number)
        took = time.perf_counter() - began
        rates[name].append(count / took)
        return took

    def read(number: int) -> None:
        rows = streamed.load(segment_spans(sampler.batch_at(10_000_000 + number)))
        joined(row for row in rows if isinstance(row, dict))

    took = 0.0
    for number in range(steps):
        rate(read, "read", 4)
        rate(lambda _: alone.train_step(), "train", 2)
        ahead = together.batches.source.ahead  # type: ignore[attr-defined]
        if number == 0:
            together.train_step()  # nothing was read ahead of the first
        before = ahead.waited_s
        took += rate(lambda _: together.train_step(), "together", 2)
        waited += ahead.waited_s - before
    streamed.close()
    return {
        "batch": config.batch,
        "frames_per_batch": config.batch * (together.batches.history + 1),
        **{f"{name}_batches_per_s": spread(values) for name, values in rates.items()},
        "read_over_train": round(float(np.median(np.divide(rates["read"], rates["train"]))), 2),
        "together_over_train": round(float(np.median(np.divide(rates["together"], rates["train"]))), 3),
        "waited_share": round(waited / took, 4),
    }


@contextmanager
def folder_of(kept: Path | None) -> Iterator[Path]:
    """A folder for the stores."""
    if kept is not None:
        yield kept
        return
    with tempfile.TemporaryDirectory(prefix="sampling_") as folder:
        yield Path(folder)


def prepare(folder: Path, episodes: int, steps: int, size: tuple[int, int]) -> Path:
    """The store of this many episodes in ``folder``, made when missing, with its index."""
    from qt_ros.learning.streaming import open_store_index

    root = folder / f"episodes-{episodes}-{size[0]}x{size[1]}"
    if not (root / "store.json").exists():
        told = [time.monotonic()]

        def progress(done: int) -> None:
            if time.monotonic() - told[0] > 10:
                told[0] = time.monotonic()
                print(f"making a store: {done} of {episodes} episodes", file=sys.stderr, flush=True)

        make_store(root, load_contract("mobile_manipulator"), episodes, steps=steps, size=size, progress=progress)
    began = time.perf_counter()
    open_store_index(root)
    print(f"{root.name}: index ready after {time.perf_counter() - began:.1f} s", file=sys.stderr, flush=True)
    return root


def table(result: dict[str, Any]) -> Table:
    """One row per store."""
    told = ", ".join(f"{key} x{value:.3f}" for key, value in result["last_over_first"].items())
    shown = Table(title=f"drawing a batch of {BATCH} segments", caption=f"Last over first, medians of rounds: {told}")
    for name in ("episodes", "steps", "open s", "batch ms", "p95", "CPU ms", "resident MB", "own MB"):
        shown.add_column(name, justify="right")
    for s in result["stores"]:
        shown.add_row(
            f"{s['episodes']:,}", f"{s['steps']:,}", f"{s['opened_s']:.2f}", f"{s['wall_ms']['p50']:.2f}",
            f"{s['wall_ms']['p95']:.2f}", f"{s['cpu_ms']['p50']:.2f}", f"{s['rss_mb']:.0f}", f"{s['uss_mb']:.0f}",
        )  # fmt: skip
    return shown


def table_decoding(result: dict[str, Any]) -> Table:
    """The rates."""
    told = (
        f"read / train {result['read_over_train']:.2f}, together / train {result['together_over_train']:.3f}; a step "
        f"of both waited {100 * result['waited_share']:.1f}% of its time for data"
    )
    title = f"batches of {result['batch']} segments per second, preset small, 96 x 128"
    shown = Table(title=title, caption=told)
    for name in ("", "median", "largest"):
        shown.add_column(name, justify="right")
    for name, what in (
        ("read", "read and decoded"),
        ("train", "trained on, from memory"),
        ("together", "both at once"),
    ):
        values = result[f"{name}_batches_per_s"]
        shown.add_row(what, f"{values['p50']:.2f}", f"{values['max']:.2f}")
    return shown


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--episodes", type=int, nargs="+", default=[1_000, 300_000], help="sizes of the stores")
    parser.add_argument("--steps", type=int, default=12, help="steps of an episode")
    parser.add_argument("--rounds", type=int, default=40, help="turns of each reader")
    parser.add_argument("--batches", type=int, default=10, help="batches in a turn")
    parser.add_argument("--cache-mb", type=int, default=0, help="kept of what was read; 0: no reading for free")
    parser.add_argument("--decoding", action="store_true", help="also compare reading with training")
    parser.add_argument("--decoding-rounds", type=int, default=20, help="rounds of that")
    parser.add_argument("--keep", type=Path, help="folder for the stores, which stay there")
    add_json_option(parser)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark."""
    options = parse(arguments)
    plain = {k: str(v) if isinstance(v, Path) else v for k, v in vars(options).items() if k not in ("json", "keep")}
    result = context("sampling", plain)
    with folder_of(options.keep) as folder:
        stores = [prepare(folder, n, options.steps, (16, 16)) for n in options.episodes]
        idle = Idle()
        result["sampling"] = measure(stores, options.rounds, options.batches, options.cache_mb << 20)
        result["machine_idle_cores"] = idle.cores()
        tables = [table(result["sampling"])]
        if options.decoding:
            store = prepare(folder, 100, options.steps, (96, 128))
            with tempfile.TemporaryDirectory() as out:
                result["decoding"] = decoding(store, Path(out), options.decoding_rounds)
            tables.append(table_decoding(result["decoding"]))
    emit(result, tables, options.json)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
