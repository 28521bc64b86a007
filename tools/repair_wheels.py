"""Repairs the CMake files of the ROS wheels in a virtual environment, so that interfaces build on this machine.

The wheels carry the include paths of the machine that built them:
    /opt/python/cpXYZ-cpXYZ/include/pythonX.Y                                 headers of Python
    /opt/python/cpXYZ-cpXYZ/lib/pythonX.Y/site-packages/numpy/_core/include   headers of NumPy
Each is replaced by the path that holds here. Running it again changes nothing.

Run it with the environment's own Python: `.venv/bin/python tools/repair_wheels.py`.
"""

from __future__ import annotations

import re
import sys
import sysconfig
from pathlib import Path

NUMPY_HEADERS = re.compile(r"/opt/python/cp\d+-cp\d+t?/lib/python[\d.]+/site-packages/numpy/_?core/include")
PYTHON_HEADERS = re.compile(r"/opt/python/cp\d+-cp\d+t?/include/python[\d.]+")


def repaired(text: str, python_headers: str, numpy_headers: str) -> str:
    """The text of one CMake file with this machine's include paths in place of the build machine's."""
    text = NUMPY_HEADERS.sub(lambda _: numpy_headers, text)
    return PYTHON_HEADERS.sub(lambda _: python_headers, text)


def main() -> int:
    import numpy

    python_headers, numpy_headers = sysconfig.get_paths()["include"], numpy.get_include()
    changed = 0
    for path in sorted((Path(sys.prefix) / "share").rglob("*.cmake")):
        before = path.read_text(encoding="utf-8")
        after = repaired(before, python_headers, numpy_headers)
        if after != before:
            path.write_text(after, encoding="utf-8")
            changed += 1
    print(f"include paths repaired in {changed} CMake files of the wheels")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
