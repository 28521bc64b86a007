"""The set-up names what the system lacks in one line, or installs it itself when it may."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

# What the checks themselves use; everything else is absent from the bare machine of these tests.
NEEDED = ("bash", "find", "ldconfig", "mkdir", "cat", "tail", "id", "ls")


@pytest.fixture
def bare_machine(tmp_path: Path) -> Path:
    """A folder of programs, to be the whole PATH: the shell's own tools, and no compiler and no CMake."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in NEEDED:
        found = shutil.which(name, path=os.environ["PATH"] + ":/sbin:/usr/sbin")
        assert found, name
        (programs / name).symlink_to(found)
    return programs


def add_program(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/bash\n{script}\n")
    path.chmod(0o755)


def run(repository: Path, programs: Path, line: str, python: str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Runs a line after sourcing system_packages.sh with `programs` as PATH; GL is reported as present."""
    code = f"""
    say() {{ echo "setup: $*"; }}
    LOGS={programs.parent}/logs
    PYTHON={python}
    . {repository}/tools/system_packages.sh
    have_library() {{ return 0; }}
    have_software_gl() {{ return 0; }}
    {line}
    """
    environment = {**os.environ, "PATH": str(programs)}
    return subprocess.run([str(programs / "bash"), "-c", code], env=environment, capture_output=True, text=True)


def test_a_normal_user_gets_one_line_with_the_packages_to_install(repository: Path, bare_machine: Path) -> None:
    (bare_machine / "id").unlink()
    add_program(bare_machine, "id", "echo 1000")
    result = run(repository, bare_machine, "ensure_system_packages")
    assert result.returncode != 0
    assert result.stderr == (
        "setup: missing C++ compiler, make, CMake; install it with: sudo apt-get install g++ make cmake\n"
    )


def test_root_installs_exactly_what_is_missing(repository: Path, bare_machine: Path) -> None:
    (bare_machine / "id").unlink()
    add_program(bare_machine, "id", "echo 0")
    add_program(bare_machine, "apt-get", f'echo "$@" >> {bare_machine}/asked')
    for present in ("g++", "make"):
        add_program(bare_machine, present, "")
    result = run(repository, bare_machine, "ensure_system_packages")
    assert result.returncode == 0, result.stderr
    asked = (bare_machine / "asked").read_text().splitlines()
    retries = "-o Acquire::Retries=3"
    assert asked == [f"{retries} update", f"{retries} install -y --no-install-recommends cmake"]


def test_a_failed_installation_says_where_the_log_is(repository: Path, bare_machine: Path) -> None:
    (bare_machine / "id").unlink()
    add_program(bare_machine, "id", "echo 0")
    add_program(bare_machine, "apt-get", "echo 'E: Unable to locate package'; exit 100")
    result = run(repository, bare_machine, "ensure_system_packages")
    assert result.returncode != 0
    assert "E: Unable to locate package" in result.stderr
    assert "apt.log" in result.stderr


def test_nothing_is_asked_for_when_nothing_is_missing(repository: Path, bare_machine: Path) -> None:
    for present in ("g++", "make", "cmake"):
        add_program(bare_machine, present, "")
    add_program(bare_machine, "apt-get", "exit 1")
    result = run(repository, bare_machine, "ensure_system_packages")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_a_python_that_does_not_fit_is_refused_by_name(repository: Path, bare_machine: Path) -> None:
    add_program(bare_machine, "python-old", "exit 1")
    result = run(repository, bare_machine, "choose_python", python=f"{bare_machine}/python-old")
    assert result.returncode != 0
    assert "python-old is not a Python 3.11 to 3.13" in result.stderr


def test_a_python_that_fits_is_found_on_the_path(repository: Path, bare_machine: Path) -> None:
    if not (3, 11) <= sys.version_info[:2] <= (3, 13):
        pytest.skip("needs a Python that the wheels exist for")
    add_program(bare_machine, "python3", "exit 1")
    add_program(bare_machine, "python3.12", f'exec {sys.executable} "$@"')
    result = run(repository, bare_machine, "unset PYTHON; choose_python; echo $PYTHON")
    assert result.stdout.strip() == "python3.12"


def test_a_ros_older_than_jazzy_is_refused(repository: Path) -> None:
    environment = {**os.environ, "ROS_DISTRO": "humble"}
    command = ["bash", str(repository / "tools" / "bootstrap.sh")]
    result = subprocess.run(command, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert result.returncode != 0
    assert "needs Jazzy or newer" in result.stderr
