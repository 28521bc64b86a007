"""A checkout that was set up for one ROS is made anew for another, and env.sh refuses to mix them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest


@pytest.fixture
def checkout(tmp_path: Path, repository: Path) -> Path:
    """A folder that looks like a checkout after the set-up."""
    for folder in (".venv/bin", "build", "install", "qt_ros"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").touch()
    python = tmp_path / ".venv" / "bin" / "python3"
    python.symlink_to(shutil.which("true") or "/bin/true")
    shutil.copy(repository / "env.sh", tmp_path)
    return tmp_path


def set_up(repository: Path, checkout: Path, ros: str, distro: str) -> str:
    """The part of the set-up that looks at what is there, in a shell with that ROS; what it said."""
    code = f"""
    set -Eeuo pipefail
    say() {{ echo "setup: $*"; }}
    ROOT={checkout} VENV={checkout}/.venv ROS={ros}
    . {repository}/tools/ros_choice.sh
    forget_other_ros
    mkdir -p "$VENV"
    remember_ros
    """
    environment = {**os.environ, "ROS_DISTRO": distro}
    return subprocess.check_output(["bash", "-c", code], env=environment, text=True)


def note(checkout: Path, ros: str, distro: str) -> None:
    (checkout / ".venv" / "ros").write_text(f"{ros} {distro}\n")


def enter(checkout: Path, distro: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(checkout), **({"ROS_DISTRO": distro} if distro else {})}
    return subprocess.run(
        ["bash", "-c", ". ./env.sh && echo entered"], cwd=checkout, env=environment, capture_output=True, text=True
    )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (("wheels", ""), ("system", "jazzy")),
        (("system", "jazzy"), ("wheels", "")),
        (("system", "jazzy"), ("system", "kilted")),
    ],
)
def test_another_ros_throws_away_what_was_made_for_the_old_one(
    repository: Path, checkout: Path, before: tuple[str, str], after: tuple[str, str]
) -> None:
    note(checkout, *before)
    said = set_up(repository, checkout, *after)
    assert "made anew" in said
    assert not (checkout / "install").exists() and not (checkout / "build").exists()
    assert not (checkout / ".venv" / "pyvenv.cfg").exists()
    assert (checkout / ".venv" / "ros").read_text().split() == [word for word in after if word]


@pytest.mark.parametrize("ros", [("wheels", ""), ("system", "jazzy")])
def test_the_same_ros_keeps_everything(repository: Path, checkout: Path, ros: tuple[str, str]) -> None:
    note(checkout, *ros)
    (checkout / "install" / "kept").touch()
    assert set_up(repository, checkout, *ros) == ""
    assert (checkout / "install" / "kept").exists()


def test_a_ros_that_cannot_be_used_changes_nothing_about_the_wheels(repository: Path, checkout: Path) -> None:
    note(checkout, "wheels", "")
    (checkout / "install" / "kept").touch()
    assert set_up(repository, checkout, "wheels", "jazzy") == ""
    assert (checkout / "install" / "kept").exists()


def test_an_environment_of_before_this_note_is_told_by_what_lies_in_it(repository: Path, checkout: Path) -> None:
    wheels = checkout / ".venv" / "share" / "rclpy" / "package.xml"
    wheels.parent.mkdir(parents=True)
    wheels.touch()
    assert set_up(repository, checkout, "wheels", "") == ""
    assert wheels.exists()
    (checkout / ".venv" / "ros").unlink()
    assert "made anew" in set_up(repository, checkout, "system", "jazzy")
    assert not wheels.exists()


def test_the_first_set_up_has_nothing_to_throw_away(repository: Path, tmp_path: Path) -> None:
    assert set_up(repository, tmp_path, "wheels", "") == ""


@pytest.mark.parametrize(
    ("made_for", "sourced"), [("wheels", "jazzy"), ("system jazzy", ""), ("system jazzy", "kilted")]
)
def test_a_shell_with_another_ros_is_refused_and_told_what_to_do(checkout: Path, made_for: str, sourced: str) -> None:
    (checkout / ".venv" / "ros").write_text(made_for + "\n")
    result = enter(checkout, sourced)
    assert result.returncode != 0 and "entered" not in result.stdout
    assert "make setup" in result.stderr and f"ROS_DISTRO is '{sourced}'" in result.stderr


@pytest.mark.parametrize(
    ("made_for", "sourced"), [("wheels ", ""), ("system jazzy", "jazzy"), (None, ""), (None, "jazzy")]
)
def test_a_shell_with_the_same_ros_enters(checkout: Path, made_for: str | None, sourced: str) -> None:
    if made_for is not None:
        (checkout / ".venv" / "ros").write_text(made_for + "\n")
    result = enter(checkout, sourced)
    assert result.stdout.strip() == "entered", result.stderr
