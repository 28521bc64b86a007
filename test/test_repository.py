"""Rules that hold for every file of the repository."""

from __future__ import annotations

import ast
import re
import runpy
import subprocess
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
MOST_LINES = 400
MOST_BYTES = 20 * 1024 * 1024

# Folders that exist on one machine only: homes, work and temporary folders. What a Docker image or Debian has is fine.
MACHINE_PATHS = re.compile(r"""(?<![\w.$}~])/(?:root|home|work|Users|mnt|media|opt/pypi|opt/wheels|tmp)/[\w.+-]+""")
# /tmp/... is a fine example in documentation; code asks tempfile for a folder.
TEXT = {".py", ".sh", ".md", ".yaml", ".yml", ".toml", ".txt", ".xml", ".json", ".msg", ".srv", ".action", ".in"}


def tracked_files() -> list[Path]:
    """Files that git tracks or would track, so that a new file is checked before its first commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("not a git checkout")
    paths = (ROOT / name for name in listed.decode().split("\0") if name)
    return [path for path in paths if path.is_file()]


def python_files() -> list[Path]:
    return [path for path in tracked_files() if path.suffix == ".py"]


def test_no_file_names_a_folder_of_one_machine() -> None:
    found = []
    for path in tracked_files():
        if path.suffix not in TEXT and path.name not in {"Makefile", "CMakeLists.txt", "run"} or path == Path(__file__):
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            match = MACHINE_PATHS.search(line)
            if match and not (path.suffix == ".md" and match.group().startswith("/tmp/")):
                found.append(f"{path.relative_to(ROOT)}:{number}: {match.group()}")
    assert found == []


def test_no_file_is_larger_than_20_mib() -> None:
    assert [str(path.relative_to(ROOT)) for path in tracked_files() if path.stat().st_size > MOST_BYTES] == []


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in python_files()}
    assert {str(path.relative_to(ROOT)): n for path, n in lengths.items() if n > MOST_LINES} == {}


def pickling_calls(source: str) -> list[int]:
    """Lines that import pickle or a relative of it, or call what unpickles: torch.load, numpy's allow_pickle."""
    lines = []
    for node in ast.walk(ast.parse(source)):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)]
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            names = [f"{node.value.id}.{node.attr}"]
        elif isinstance(node, ast.keyword) and node.arg == "allow_pickle":
            names = [] if isinstance(node.value, ast.Constant) and node.value.value is False else ["pickle"]
        banned = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal", "torch.load", "torch.save"}
        if banned.intersection(names):
            lines.append(node.lineno if hasattr(node, "lineno") else 0)
    return lines


@pytest.mark.parametrize(
    "source", ["import pickle", "torch.load(p)", "from torch import load", "np.load(p, allow_pickle=True)"]
)
def test_pickling_is_found(source: str) -> None:
    assert pickling_calls(source)


def test_nothing_is_pickled() -> None:
    files = [path for path in python_files() if "test" not in path.relative_to(ROOT).parts]
    found = {str(path.relative_to(ROOT)): pickling_calls(path.read_text(encoding="utf-8")) for path in files}
    assert {name: lines for name, lines in found.items() if lines} == {}


def test_all_code_is_valid_python_3_10() -> None:
    for path in python_files():
        ast.parse(path.read_text(encoding="utf-8"), filename=str(path), feature_version=(3, 10))


def test_shell_scripts_have_no_syntax_errors() -> None:
    scripts = [path for path in tracked_files() if path.suffix == ".sh" or path == ROOT / ".ci" / "run"]
    assert scripts
    for script in scripts:
        subprocess.run(["bash", "-n", str(script)], check=True)


def test_all_requirements_are_exact_versions() -> None:
    for path in sorted((ROOT / "tools").glob("requirements-*.txt")):
        lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
        loose = [line for line in lines if line and not re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.]+", line)]
        assert loose == [], f"{path.name}: pin these"


def test_the_lock_agrees_with_the_requirements_it_was_made_from() -> None:
    def pins(path: Path) -> dict[str, str]:
        lines = [line.split("#")[0].strip() for line in path.read_text().splitlines()]
        split = [line.split("==") for line in lines if line]
        return {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in split}

    files = sorted((ROOT / "tools").glob("requirements-*.txt"))
    stated = {n: v for path in files if "lock" not in path.name for n, v in pins(path).items() if n != "torch"}
    for lock in (path for path in files if "lock" in path.name):
        locked = pins(lock)
        wrong = {name: (version, locked.get(name)) for name, version in stated.items() if locked.get(name) != version}
        assert wrong == {}, f"{lock.name} is out of date: run `make lock`"


def test_pip_installs_the_same_folders_as_a_ros_installation(monkeypatch: pytest.MonkeyPatch) -> None:
    setuptools = pytest.importorskip("setuptools")
    given: dict[str, Any] = {}
    monkeypatch.setattr(setuptools, "setup", lambda **arguments: given.update(arguments))
    monkeypatch.chdir(ROOT)
    runpy.run_path(str(ROOT / "setup.py"))
    installed = {folder.split("/")[2] for folder, _ in given["data_files"]}
    wanted = re.search(r"foreach\(folder ([\w ]+)\)", (ROOT / "CMakeLists.txt").read_text(encoding="utf-8"))
    assert wanted is not None
    present = {name for name in wanted[1].split() if any(p.is_file() for p in (ROOT / name).rglob("*"))}
    assert installed == present | {"config", "description"}
