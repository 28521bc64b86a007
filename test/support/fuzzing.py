"""Files as a stranger or a broken disk leaves them: seeded mutations of real files, opened in a process with little
memory.

`python fuzzing.py TARGETS FIRST LAST FOLDER` opens the mutants of the seeds FIRST .. LAST-1 of each target (names with
commas) and writes, before each, target and seed to FOLDER/seed, so that whoever started it knows which one crashed or
hung it. Findings go to FOLDER/<target>/findings.jsonl.
"""

from __future__ import annotations

import json
import random
import resource
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

MEMORY = 3 << 30  # bytes of address space beyond what the process has when it begins
NUMBERS = (0, 1, 0x7F, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 31, 1 << 40, (1 << 63) - 1, (1 << 64) - 1)
WORDS = (
    b"-1", b"0", b"1e308", b".nan", b"NaN", b"Infinity", b"null", b"true", b"[]", b"{}", b'""', b"99999999999999999999",
    b"&a [*a]", b"!!python/object:os.system x", b"!!timestamp 2001-99-99", b"\x00", b"\xff\xfe", b"../../x", b"'",
    b'"', b"[", b"{", b"}", b"]", b": ", b"- ", b"\n", b"\t", b"0x", b"1_0", b"~", b"<<: x", b"? ", b"9" * 5000, b"1:2",
)  # fmt: skip


def mutate(data: bytes, rng: random.Random, text: bool = False) -> bytes:
    """One to four changes: cuts, flips, numbers, words, slices deleted, doubled, moved, or nested without end."""
    found = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        size = len(found)
        if not size:
            break
        at = rng.randrange(size)
        end = min(size, at + rng.choice((1, 2, 4, 8, 16, 64, 512)))
        kind = rng.randrange(10)
        if kind == 0:
            del found[at:]
        elif kind == 1:
            found[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            found[at:end] = rng.randbytes(end - at)
        elif kind == 3:
            width = rng.choice((1, 2, 4, 8))
            number = rng.choice(NUMBERS) & ((1 << 8 * width) - 1)
            found[at : at + width] = number.to_bytes(width, rng.choice(("little", "big")))
        elif kind == 4:
            del found[at:end]
        elif kind == 5:
            found[at:at] = found[at:end]
        elif kind == 6:
            other = rng.randrange(size)
            found[at:end], found[other : other + end - at] = found[other : other + end - at], found[at:end]
        elif kind == 7 or text and kind == 8:
            found[at : at + rng.randrange(12)] = rng.choice(WORDS)
        elif kind == 8:
            found[at:end] = bytes(end - at)
        else:
            found[at:at] = rng.choice((b"[", b"{", b"- ", b"{a: ", b"\x00", b"\xff", b'["')) * rng.choice(
                (10, 1000, 20000)
            )
    return bytes(found)


def replace_scalar(text: str, rng: random.Random) -> str:
    """A document that still parses, with one value exchanged for something unlikely."""
    lines = text.splitlines(keepends=True)
    at = rng.randrange(len(lines))
    head, colon, tail = lines[at].partition(": ")
    if colon:
        values = (
            "-1",
            "0",
            "1.0e+300",
            ".inf",
            ".nan",
            "null",
            "[]",
            "{}",
            "text",
            "true",
            "1000000000000",
            "'..'",
            "-0.0",
        )
        lines[at] = f"{head}: {rng.choice(values)}\n"
    else:
        del lines[at]
    return "".join(lines)


@dataclass(frozen=True)
class Target:
    """``prepare(folder)`` makes whole files once; ``open(folder, rng)`` opens a mutant, raising only ``allowed``."""

    name: str
    prepare: Callable[[Path], None]
    open: Callable[[Path, random.Random], None]
    allowed: tuple[type[BaseException], ...]


def run(targets: Sequence[Target], first: int, last: int, folder: Path) -> dict[str, int]:
    """Open the mutants of these seeds. Returns how many of each target were read without complaint."""
    for target in targets:
        pristine = folder / target.name / "pristine"
        if not (pristine / "done").exists():
            pristine.mkdir(parents=True, exist_ok=True)
            target.prepare(pristine)
            (pristine / "done").touch()
        (folder / target.name / "scratch").mkdir(exist_ok=True)
        target.open(pristine, random.Random(-1))  # everything is imported before memory gets scarce
    _limit_memory()
    accepted = dict.fromkeys((t.name for t in targets), 0)
    with (folder / "seed").open("w") as marker:
        for target in targets:
            for seed in range(first, last):
                marker.seek(0)
                marker.write(f"{seed:012d} {target.name}\n")
                marker.flush()
                accepted[target.name] += _try(target, seed, folder / target.name)
    return accepted


def _try(target: Target, seed: int, folder: Path) -> bool:
    """Open one mutant; True when it was read. An error that is not documented is written down."""
    try:
        target.open(folder, random.Random(seed))
        return True
    except target.allowed:
        return False
    except Exception as error:
        with (folder / "findings.jsonl").open("a") as findings:
            record = {"target": target.name, "seed": seed, "error": f"{type(error).__name__}: {error}"[:500]}
            findings.write(json.dumps({**record, "trace": traceback.format_exc()[-2000:]}) + "\n")
        return False


def _limit_memory() -> None:
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, used + MEMORY))


def main(arguments: list[str]) -> int:
    from fuzz_targets import TARGETS

    names, first, last, folder = arguments
    accepted = run([TARGETS[n] for n in names.split(",")], int(first), int(last), Path(folder))
    print(json.dumps(accepted))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
