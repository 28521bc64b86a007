"""`qt-ros security`: SROS 2 policies made from the contract, and what this machine's middleware can protect."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(no_args_is_help=True, help="Write SROS 2 policies; say what this machine can protect.")

Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]

_TRIAL = """
import rclpy
rclpy.init(args=["--ros-args", "--enclave", "/trial"])
rclpy.create_node("qt_ros_security_trial")
"""


@app.command()
def policy(
    robot: Annotated[str, typer.Argument(help="A contract's name in config/robots, or a YAML file.")],
    node: Annotated[list[str] | None, typer.Option(help="Only this node; may be repeated.")] = None,
    namespace: Annotated[str, typer.Option(help="Namespace that the nodes run in.")] = "/",
    prefix: Annotated[str, typer.Option(help="Enclaves are named <prefix>/<node>.")] = "/qt_ros",
    output: Annotated[Path | None, typer.Option(help="File to write; the terminal when left out.")] = None,
    json_output: Json = False,
) -> None:
    """Write the policy: for each node an enclave that is allowed what the node does under this contract, nothing else.

    Example: qt-ros security policy tiago --output tiago.policy.xml
    """
    from qt_ros.contract.interfaces import interfaces
    from qt_ros.contract.robot import load_contract
    from qt_ros.contract.security import allowed, policy_xml

    contract = load_contract(robot)
    text = policy_xml(contract, node or None, namespace, prefix)
    if output is not None:
        output.write_text(text, encoding="utf-8")
    if json_output:
        known = interfaces(contract)
        rules = {
            name: {f"{kind} {what}": names for (kind, what), names in allowed(known[name]).items()}
            for name in (node or known)
        }
        typer.echo(
            json.dumps({"robot": contract.robot, "file": str(output) if output else None, "rules": rules}, indent=2)
        )
    elif output is None:
        typer.echo(text, nl=False)
    else:
        typer.echo(f"{output} written; next: ros2 security create_permission KEYSTORE ENCLAVE {output}", err=True)


@app.command()
def status(json_output: Json = False) -> None:
    """Say whether the middleware has DDS security, whether it is on, and who can reach the nodes.

    Example: qt-ros security status
    """
    built_in = _has_security()
    found: dict[str, Any] = {
        "security_built_in": built_in,
        "security_enabled": os.environ.get("ROS_SECURITY_ENABLE", "false") == "true",
        "strategy": os.environ.get("ROS_SECURITY_STRATEGY", "Permissive"),
        "keystore": os.environ.get("ROS_SECURITY_KEYSTORE", ""),
        "discovery_range": os.environ.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "SUBNET"),
        "domain": os.environ.get("ROS_DOMAIN_ID", "0"),
    }
    if json_output:
        typer.echo(json.dumps(found, indent=2))
        return
    built = {True: "has DDS security", False: "was built without DDS security: no node starts while it is asked for"}
    told = "cannot be tried: ROS does not start here" if built_in is None else built[built_in]
    typer.echo(f"middleware: {told}")
    on = f"on ({found['strategy']}), keystore {found['keystore'] or 'not set'}" if found["security_enabled"] else "off"
    typer.echo(f"security: {on}")
    reach = {
        "LOCALHOST": "this machine only",
        "OFF": "nobody is discovered",
        "SUBNET": "everybody in this network who uses the same domain",
        "SYSTEM_DEFAULT": "as the middleware is configured",
    }
    typer.echo(f"discovery: {found['discovery_range']}, {reach.get(found['discovery_range'], 'unknown')}; "
               f"domain {found['domain']}")  # fmt: skip


def _has_security() -> bool | None:
    """Whether a node asks for its keys when security is on; None when ROS does not start at all."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "enclaves" / "trial").mkdir(parents=True)
        environment: dict[str, Any] = {
            **os.environ,
            "ROS_SECURITY_ENABLE": "true",
            "ROS_SECURITY_STRATEGY": "Enforce",
            "ROS_SECURITY_KEYSTORE": folder,
        }
        child = subprocess.run(
            [sys.executable, "-c", _TRIAL],
            env=environment,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            timeout=180.0,
            check=False,
        )
    if "security libraries" in child.stderr or "SECURITY=ON" in child.stderr:
        return False
    return None if "ModuleNotFoundError" in child.stderr else True
