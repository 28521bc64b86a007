"""What a launch refuses before it starts anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from qt_ros.contract.strict import ConfigError
from qt_ros.nodes.launch_arguments import BY_ARGUMENT, LAUNCH_FILES
from qt_ros.nodes.launch_checks import (
    ArgumentError,
    decided_servo,
    named_on_command_line,
    refuse_hidden_settings,
    refuse_missing_checkpoint,
    refuse_undeclared,
)

ROOT = Path(__file__).resolve().parents[2]
ROBOT = [argument.name for argument in LAUNCH_FILES["robot"]]


@pytest.mark.parametrize("name", ["enable_moton", "dry_run", "motion", "world", "Robot"])
def test_a_name_that_nobody_declared_is_refused_with_the_known_ones(name: str) -> None:
    with pytest.raises(ArgumentError, match=rf"unknown launch argument {name}\b.*Known: .*enable_motion") as refused:
        refuse_undeclared([*ROBOT, name], ROBOT, alone=True)
    assert ("did you mean enable_motion?" in str(refused.value)) == (name in ("enable_moton", "motion"))


def test_what_is_declared_or_launchs_own_passes() -> None:
    refuse_undeclared([*ROBOT, "launch-prefix", "emulate_tty", "ros_namespace"], ROBOT, alone=True)


def test_included_in_another_launch_file_its_arguments_pass_but_a_typing_error_of_the_dry_run_does_not() -> None:
    refuse_undeclared([*ROBOT, "robot1", "dry_run", "rviz", "enable_motion_a", "enable_motion1"], ROBOT, alone=False)
    for name in ("enable_moton", "enablemotion", "enable_motions", "enabel_motion"):
        with pytest.raises(ArgumentError, match="did you mean enable_motion"):
            refuse_undeclared([*ROBOT, name], ROBOT, alone=False)


@pytest.mark.parametrize(
    ("command_line", "alone"),
    [
        (["launch", "qt_ros", "robot.launch.py", "robot:=a"], True),
        (["launch", "--debug", "qt_ros", "robot.launch.py"], True),
        (["launch", "{file}", "robot:=a"], True),
        (["launch", "my_robot", "robot.launch.py"], False),  # a file of the same name that includes ours
        (["launch", "my_robot", "all.launch.py", "file:={file}"], False),
        (["pytest"], False),
    ],
)
def test_arguments_are_meant_for_the_file_that_the_command_line_names(command_line: list[str], alone: bool) -> None:
    file = str(ROOT / "launch" / "robot.launch.py")
    assert named_on_command_line(file, [word.replace("{file}", file) for word in command_line]) is alone


def test_a_policy_needs_a_checkpoint_and_a_hand_does_not() -> None:
    refuse_missing_checkpoint("false", "")
    refuse_missing_checkpoint("true", "checkpoints/mine")
    with pytest.raises(ArgumentError, match="give checkpoint:=FOLDER, or policy:=false"):
        refuse_missing_checkpoint("true", "")


@pytest.mark.parametrize(
    "text",
    [
        "/**/command_node: {ros__parameters: {status_rate: 5.0, enable_motion: false}}",
        "command_node: {ros__parameters: {enable_motion: false}}",
        "robot1: {command_node: {ros__parameters: {enable_motion: false}}}",
        "/**: {ros__parameters: {enable_motion: false}}",
    ],
)
def test_a_dry_run_in_a_parameter_file_is_refused_since_the_launch_argument_would_overrule_it(
    tmp_path: Path, text: str
) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text(text)
    with pytest.raises(ArgumentError, match=r"sets enable_motion.*enable_motion:=false"):
        refuse_hidden_settings(str(file))


def test_a_clock_in_a_parameter_file_is_refused_too(tmp_path: Path) -> None:
    file = tmp_path / "mine.yaml"
    file.write_text("/**: {ros__parameters: {use_sim_time: true}}")
    with pytest.raises(ArgumentError, match=r"sets use_sim_time, which launch arguments overrule"):
        refuse_hidden_settings(str(file))


def test_every_shipped_parameter_file_and_blocks_of_other_packages_pass(tmp_path: Path) -> None:
    for name in LAUNCH_FILES:
        refuse_hidden_settings(str(ROOT / "config" / "nodes" / f"{name}.yaml"))
    assert "robot" in BY_ARGUMENT
    file = tmp_path / "mine.yaml"
    file.write_text("camera: {ros__parameters: {robot: anna}}\n/**/command_node: {ros__parameters: {status_rate: 5.0}}")
    refuse_hidden_settings(str(file))


def test_a_parameter_file_that_is_not_there_is_named() -> None:
    with pytest.raises(ConfigError, match="nowhere.yaml"):
        refuse_hidden_settings("nowhere.yaml")


@pytest.mark.parametrize(
    ("robot", "wanted"),
    [("mobile_manipulator", "true"), ("stretch", "true"), ("tiago", "true"), ("husky_ur5e", "false")],
)
def test_the_contract_decides_whether_servo_node_runs(robot: str, wanted: str) -> None:
    assert decided_servo("auto", robot) == wanted
    assert [decided_servo(given, robot) for given in ("true", "false")] == ["true", "false"]
