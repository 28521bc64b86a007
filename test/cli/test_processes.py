"""Node processes are watched while they run and never outlive the group that started them."""

from __future__ import annotations

import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from qt_ros.cli.processes import NodeDied, NodeGroup, NodeProcess, _yaml

WELL_BEHAVED = (
    "import signal, sys\nprint('ready', flush=True)\nsignal.sigwait([signal.SIGINT])\nprint('bye', flush=True)\n"
)
STUBBORN = (
    "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('ready', flush=True)\n"
    "while True: signal.pause()\n"
)


@pytest.fixture
def modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (tmp_path / "well_behaved.py").write_text(f"import signal\nsignal.pthread_sigmask(0, [2])\n{WELL_BEHAVED}")
    (tmp_path / "stubborn.py").write_text(STUBBORN)
    (tmp_path / "doomed.py").write_text("print('about to fail')\nraise SystemExit(3)\n")
    return tmp_path


def until_ready(node: NodeProcess) -> None:
    pause = threading.Event()
    for _ in range(2000):
        if "ready" in node.log.read_text():
            return
        pause.wait(0.01)
    raise AssertionError(node.tail())


def test_a_node_is_stopped_when_the_block_ends_and_may_say_goodbye(modules: Path, tmp_path: Path) -> None:
    with NodeGroup(tmp_path / "logs").running() as group:
        node = group.start("polite", module="well_behaved")
        until_ready(node)
        group.check()
    assert not node.running
    assert node.log.read_text().split() == ["ready", "bye"]


def test_a_node_that_died_is_named_with_the_end_of_its_log(modules: Path, tmp_path: Path) -> None:
    group = NodeGroup(tmp_path / "logs")
    group.start("policy_node", module="doomed").process.wait(30)
    with pytest.raises(NodeDied, match=r"policy_node ended \(exit code 3\)[\s\S]*about to fail"):
        group.check()
    group.stop()


def test_a_killed_node_is_reported_with_the_signal(modules: Path, tmp_path: Path) -> None:
    group = NodeGroup(tmp_path / "logs")
    node = group.start("sim_node", module="stubborn")
    until_ready(node)
    os.kill(node.process.pid, signal.SIGKILL)
    node.process.wait(30)
    with pytest.raises(NodeDied, match="signal SIGKILL"):
        group.check()


def test_a_node_that_does_not_listen_is_ended_all_the_same(modules: Path, tmp_path: Path) -> None:
    group = NodeGroup(tmp_path / "logs")
    node = group.start("deaf", module="stubborn")
    until_ready(node)
    assert group.stop(grace=0.2) == ["deaf"]
    assert not node.running


def test_parameters_reach_the_node_as_ros_arguments(modules: Path, tmp_path: Path) -> None:
    (modules / "echo.py").write_text("import sys\nprint(sys.argv[1:])\n")
    group = NodeGroup(tmp_path / "logs")
    node = group.start(
        "n", {"use_sim_time": True, "rate": 2.5, "root": "a b"}, {"image": "camera/image"}, module="echo"
    )
    node.process.wait(30)
    text = node.log.read_text()
    for expected in ("'use_sim_time:=true'", "'rate:=2.5'", "root:='a b'", "'image:=camera/image'", "'__node:=n'"):
        assert expected in text
    group.stop()


@pytest.mark.parametrize(
    ("value", "text"), [(True, "true"), (3, "3"), ("7", "'7'"), ("it's", "'it''s'"), (["a", 1], "['a', 1]")]
)
def test_text_stays_text_as_a_parameter(value: object, text: str) -> None:
    assert _yaml(value) == text


def test_children_are_told_when_the_parent_is_killed(modules: Path, tmp_path: Path) -> None:
    """Even SIGKILL of the demo leaves no node behind (Linux)."""
    if sys.platform != "linux":
        pytest.skip("parent death signal is a Linux feature")
    script = (
        "import sys; from pathlib import Path; from qt_ros.cli.processes import NodeGroup\n"
        f"node = NodeGroup(Path({str(tmp_path / 'logs')!r})).start('n', module='well_behaved')\n"
        "print(node.process.pid, flush=True); sys.stdin.read()\n"
    )
    import subprocess

    parent = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    log = tmp_path / "logs" / "n.log"
    pause = threading.Event()
    for _ in range(2000):
        if "ready" in log.read_text():
            break
        pause.wait(0.01)
    parent.kill()
    parent.wait(30)
    for _ in range(2000):
        if "bye" in log.read_text():
            return
        pause.wait(0.01)
    os.kill(child, signal.SIGKILL)
    raise AssertionError("the child went on")


def test_ctrl_c_that_somebody_swallowed_is_raised_where_nodes_are_waited_for(tmp_path: Path) -> None:
    group = NodeGroup(tmp_path)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a worker of pytest-xdist ignores it
    try:
        with group.running():
            group.check()
            with pytest.raises(KeyboardInterrupt):  # here a library would have gone on as if nothing had been
                signal.raise_signal(signal.SIGINT)
            with pytest.raises(KeyboardInterrupt):
                group.check()
            group.heard()
            group.check()
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
