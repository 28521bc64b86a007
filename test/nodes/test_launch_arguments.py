"""Launch arguments and parameter files: complete, documented, and read by real nodes in any namespace."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest
import yaml

from qt_ros.cli.processes import NodeGroup
from qt_ros.nodes.demo_client import GraphClient
from qt_ros.nodes.launch_arguments import BOOLEAN, BY_ARGUMENT, LAUNCH_FILES, NODES, Argument
from qt_ros.nodes.launch_checks import ArgumentError, refuse_missing_checkpoint

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "how-to" / "launch.md"


@pytest.fixture(scope="module")
def make_node_parameters() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_node_parameters", ROOT / "tools" / "make_node_parameters.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_there_is_a_table_for_every_launch_file() -> None:
    files = {path.name.removesuffix(".launch.py") for path in (ROOT / "launch").glob("*.launch.py")}
    assert files == set(LAUNCH_FILES) == set(NODES)


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_a_launch_file_declares_its_whole_table_first_and_nothing_else(name: str) -> None:
    tree = ast.parse((ROOT / "launch" / f"{name}.launch.py").read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    description = next(c for c in calls if getattr(c.func, "id", "") == "LaunchDescription")
    assert ast.unparse(description.args[0].elts[0]) == f"*declare({name.upper()})"  # type: ignore[attr-defined]
    assert not [c for c in calls if getattr(c.func, "id", "") == "DeclareLaunchArgument"]


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_every_launch_file_takes_the_usual_arguments(name: str) -> None:
    given = {argument.name: argument for argument in LAUNCH_FILES[name]}
    usual = {"namespace", "use_sim_time", "params", "autostart", "log_level", "record", "bags"}
    assert usual | {"enable_motion", "policy", "servo", "network", "viewers"} <= set(given)
    for argument in given.values():
        if argument.default in BOOLEAN:
            assert set(BOOLEAN) <= set(argument.choices), argument.name


def test_a_robot_is_never_started_with_a_contract_or_a_checkpoint_that_nobody_named() -> None:
    given = {argument.name: argument for argument in LAUNCH_FILES["robot"]}
    assert given["robot"].default is None
    assert given["checkpoint"].default == "" and given["policy"].default == "true"  # refused together, by _check
    with pytest.raises(ArgumentError, match="no checkpoint"):
        refuse_missing_checkpoint("true", "")


def test_simulators_keep_to_this_machine_and_a_robot_hears_the_machines_of_its_drivers() -> None:
    default = {name: {a.name: a.default for a in table}["network"] for name, table in LAUNCH_FILES.items()}
    assert default == {"sim": "local", "gazebo": "local", "robot": "lan"}


@pytest.mark.parametrize("name", LAUNCH_FILES)
def test_every_argument_stands_in_the_documentation_with_its_default(name: str) -> None:
    text = PAGE.read_text(encoding="utf-8")
    section = text.partition(f"## {name}.launch.py")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| (.*?) \|", section, re.MULTILINE))
    for argument in LAUNCH_FILES[name]:
        wanted = "required" if argument.default is None else f"`{argument.default}`" if argument.default else "-"
        assert rows.get(argument.name) == wanted, f"row of {argument.name}"
    assert set(rows) == {argument.name for argument in LAUNCH_FILES[name]}


def test_the_files_that_arguments_point_to_are_there() -> None:
    for name, arguments in LAUNCH_FILES.items():
        for argument in arguments:
            if argument.default and "{share}" in argument.default:
                assert Path(argument.default.replace("{share}", str(ROOT))).exists(), f"{name}: {argument.name}"


@pytest.mark.parametrize("wrong", [("a b", "x."), ("name", "no full stop")])
def test_a_badly_described_argument_is_refused(wrong: tuple[str, str]) -> None:
    with pytest.raises(ValueError, match="described"):
        Argument(wrong[0], "", wrong[1])


def test_a_default_that_is_no_choice_is_refused() -> None:
    with pytest.raises(ValueError, match="none of"):
        Argument("record", "maybe", "Record.", BOOLEAN)


# --- parameter files --------------------------------------------------------------------------------------------------


def test_parameter_files_are_up_to_date(make_node_parameters: ModuleType) -> None:
    old = [path.name for path in make_node_parameters.outdated()]
    assert old == [], "run: python tools/make_node_parameters.py"


@pytest.mark.parametrize("name", NODES)
def test_a_parameter_file_has_every_parameter_of_its_nodes_but_those_that_arguments_set(name: str) -> None:
    text = (ROOT / "config" / "nodes" / f"{name}.yaml").read_text(encoding="utf-8")
    document = yaml.safe_load(text)
    assert list(document) == [f"/**/{node}" for node in NODES[name]]
    for node in NODES[name]:
        table = importlib.import_module(f"qt_ros.nodes.{node}").PARAMETERS
        values = document[f"/**/{node}"]["ros__parameters"] or {}
        for parameter in table:
            if parameter.name in BY_ARGUMENT:
                assert parameter.name not in values
            elif parameter.default == []:
                assert f"# {parameter.name}: []" in text
            else:
                assert type(values[parameter.name]) is type(parameter.default), parameter.name
                if parameter.low is not None:
                    assert parameter.low <= values[parameter.name] <= parameter.high


@pytest.mark.graph
@pytest.mark.parametrize("namespace", ["", "fleet/robot1"])
def test_a_node_reads_its_block_in_any_namespace(node_group: NodeGroup, tmp_path: Path, namespace: str) -> None:
    from rcl_interfaces.srv import GetParameters

    text = (ROOT / "config" / "nodes" / "robot.yaml").read_text(encoding="utf-8")
    changed = text.replace("twist_timeout: 0.1", "twist_timeout: 0.25")
    assert changed != text
    file = tmp_path / "changed.yaml"
    file.write_text(changed)
    node_group.start("servo_node", remap={"__ns": f"/{namespace}"}, parameter_file=file)
    client = GraphClient(node_group.check, namespace=namespace)
    try:
        asking = client.node.create_client(GetParameters, "servo_node/get_parameters")
        answer = client.call(asking, GetParameters.Request(names=["twist_timeout"]), 60.0, "servo_node's parameters")
        assert [value.double_value for value in answer.values] == [0.25]
    finally:
        client.close()
