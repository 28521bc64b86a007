"""The include paths in the wheels' CMake files become this machine's."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest


@pytest.fixture
def tool(repository: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("repair_wheels", repository / "tools" / "repair_wheels.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("/opt/python/cp311-cp311/include/python3.11", "PY"),
        ("/opt/python/cp312-cp312/lib/python3.12/site-packages/numpy/_core/include", "NP"),
        ("/opt/python/cp310-cp310/lib/python3.10/site-packages/numpy/core/include", "NP"),
        ("a;/opt/python/cp311-cp311/include/python3.11;${x}/include", "a;PY;${x}/include"),
        ("/usr/include/python3.11", "/usr/include/python3.11"),
    ],
)
def test_paths_of_the_build_machine_are_replaced(tool: ModuleType, before: str, after: str) -> None:
    assert tool.repaired(before, "PY", "NP") == after


def test_a_repaired_file_is_not_changed_again(tool: ModuleType) -> None:
    once = tool.repaired("/opt/python/cp311-cp311/include/python3.11", "/x/include", "/x/numpy")
    assert tool.repaired(once, "/x/include", "/x/numpy") == once
