"""env.sh gives a shell in which the command and the nodes run, and keeps what the user has set."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

SHELLS = [name for name in ("bash", "sh", "dash", "zsh") if shutil.which(name)]


@pytest.fixture
def enter(repository: Path) -> object:
    """Runs a line in a bare shell that has sourced env.sh, and returns what it printed."""
    if not (repository / ".venv").exists():
        pytest.skip("needs `make setup`")

    def run(shell: str, line: str, **variables: str) -> str:
        # With an installed ROS sourced, env.sh builds on its variables.
        kept = os.environ if os.environ.get("ROS_DISTRO") else ("HOME", "LANG")
        bare = {name: os.environ[name] for name in kept if name in os.environ}
        environment = {"PATH": "/usr/local/bin:/usr/bin:/bin", **bare, **variables}
        command = [shell, "-c", f". ./env.sh && {line}"]
        return subprocess.check_output(command, cwd=repository, env=environment, text=True).strip()

    return run


@pytest.mark.parametrize("shell", SHELLS)
def test_interfaces_source_and_command_are_found_from_any_folder(enter, shell: str, repository: Path) -> None:  # type: ignore[no-untyped-def]
    code = "from qt_ros.msg import PolicyAction; from qt_ros.contract import actions; print(actions.__file__)"
    assert enter(shell, f'cd / && python3 -c "{code}"') == str(repository / "qt_ros" / "contract" / "actions.py")
    assert enter(shell, "cd / && qt-ros --version").startswith("qt_ros ")


@pytest.mark.parametrize("shell", SHELLS)
def test_sourcing_it_twice_changes_nothing(enter, shell: str) -> None:  # type: ignore[no-untyped-def]
    show = "echo $PATH $PYTHONPATH $LD_LIBRARY_PATH $AMENT_PREFIX_PATH"
    assert enter(shell, show) == enter(shell, f". ./env.sh && {show}")


@pytest.mark.parametrize("name", ["ROS_DOMAIN_ID", "MUJOCO_GL", "HF_HUB_OFFLINE", "RMW_IMPLEMENTATION"])
def test_what_the_user_has_set_is_kept(enter, name: str) -> None:  # type: ignore[no-untyped-def]
    assert enter("bash", f"echo ${name}", **{name: "7"}) == "7"


def test_the_text_encoder_stays_offline_and_a_renderer_is_chosen(enter) -> None:  # type: ignore[no-untyped-def]
    offline, renderer = enter("bash", "echo $HF_HUB_OFFLINE $MUJOCO_GL").split()
    assert offline == "1"
    assert renderer in {"egl", "osmesa", "glfw"}


@pytest.mark.parametrize("node", ["policy_node", "command_node", "servo_node", "recorder_node", "sim_node"])
def test_every_node_has_its_executable(repository: Path, node: str) -> None:
    executable = repository / "install" / "lib" / "qt_ros" / node
    if not executable.exists():
        pytest.skip("needs `make setup`")
    assert os.access(executable, os.X_OK)
    assert f"qt_ros.nodes.{node} import main" in executable.read_text()


def test_without_an_environment_it_says_what_to_run(repository: Path, tmp_path: Path) -> None:
    shutil.copy(repository / "env.sh", tmp_path)
    result = subprocess.run(["bash", "-c", ". ./env.sh"], cwd=tmp_path, capture_output=True, text=True)
    assert result.returncode != 0
    assert "make setup" in result.stderr
