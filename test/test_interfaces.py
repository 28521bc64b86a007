"""The ROS interfaces: built, with the fields others rely on, and every field explained."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted(path for folder in ("msg", "srv", "action") for path in (ROOT / folder).iterdir())

REASONS = (
    "NONE DONE TERMINATE TIMEOUT OPERATOR CANCELED DEACTIVATED STALE_CAMERA STALE_JOINTS BAD_IMAGE NON_FINITE "
    "LOST_POLICY ESTOP LIMIT FAULT PREEMPTED"
).split()

FIELDS = {
    "msg/PolicyAction": "header observation_stamp episode_id instruction step names values bins q value latency_ms "
    "checkpoint",
    "msg/EpisodeStatus": "header episode_id instruction state reason outcome step message checkpoint latency_ms_p50 "
    "latency_ms_p95 start",
    "msg/EpisodeOutcome": "header episode_id outcome labelled_by comment",
    "msg/EpisodeRecord": "header episode_id uri outcome reason messages dropped complete error",
    "msg/CommandStatus": "header state reason episode_id step action_age_s message dry_run estop",
    "srv/ResetScene.Request": "seed task instruction_for",
    "srv/ResetScene.Response": "success message task instruction objects target",
    "srv/SetOutcome.Request": "episode_id outcome labelled_by comment",
    "srv/SetOutcome.Response": "success message",
    "action/ExecuteInstruction.Goal": "instruction max_duration episode_id",
    "action/ExecuteInstruction.Result": "outcome reason steps episode_id message latency_ms_p50 latency_ms_p95",
    "action/ExecuteInstruction.Feedback": "step q value",
}


def sections(text: str) -> list[list[str]]:
    """The lines of an interface file, one list per part (a message has one, a service two, an action three)."""
    parts: list[list[str]] = [[]]
    for line in text.splitlines():
        if line.strip() == "---":
            parts.append([])
        else:
            parts[-1].append(line.strip())
    return parts


def explained(lines: list[str]) -> list[tuple[str, str]]:
    """Each field and constant with the comment above it; one comment covers the lines that follow it without a gap."""
    found: list[tuple[str, str]] = []
    comment: list[str] = []
    above = ""
    for line in lines:
        if not line:
            comment = []
        elif line.startswith("#"):
            comment = [*comment, line] if above.startswith("#") else [line]
        else:
            found.append((line, " ".join(comment)))
        above = line
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_field_has_a_comment_above_it(path: Path) -> None:
    for lines in sections(path.read_text()):
        assert [line for line, comment in explained(lines) if not comment and "=" not in line] == []


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_interface_begins_by_saying_what_it_is_for(path: Path) -> None:
    assert path.read_text().startswith("# ")


def test_every_interface_is_built_by_cmake() -> None:
    listed = set(re.findall(r'"((?:msg|srv|action)/[^"]+)"', (ROOT / "CMakeLists.txt").read_text()))
    assert listed == {str(path.relative_to(ROOT)) for path in FILES}


def test_numbers_are_said_to_have_a_unit_or_none() -> None:
    units = (
        r"second|millisecond|SI units|no unit|0\.\.1|closedness|counting|Number of|Index|One of|one of|Seed|Step|\bs\b"
    )
    for path in FILES:
        for line, comment in (pair for lines in sections(path.read_text()) for pair in explained(lines)):
            if re.match(r"(u?int\d+|float\d+)", line) and "=" not in line:
                assert re.search(units, comment), f"{path.name}: {line} has no unit"


class TestBuilt:
    """What the generated Python modules offer. Needs the workspace that `make setup` builds."""

    @pytest.fixture(autouse=True)
    def need_ros(self) -> None:
        pytest.importorskip("rclpy")

    @pytest.mark.parametrize("name", sorted(FIELDS))
    def test_the_fields_are_the_documented_ones_in_order(self, name: str) -> None:
        import importlib

        kind, rest = name.split("/")
        interface = importlib.import_module(f"qt_ros.{kind}")
        for word in rest.split("."):
            interface = getattr(interface, word)
        assert list(interface.get_fields_and_field_types()) == FIELDS[name].split()  # type: ignore[attr-defined]

    def test_reasons_are_numbered_in_the_documented_order(self) -> None:
        from qt_ros.msg import EpisodeStatus

        assert [getattr(EpisodeStatus, f"REASON_{name}") for name in REASONS] == list(range(len(REASONS)))

    def test_outcomes_and_states_have_their_numbers(self) -> None:
        from qt_ros.msg import CommandStatus, EpisodeStatus

        outcomes = EpisodeStatus.OUTCOME_UNKNOWN, EpisodeStatus.OUTCOME_SUCCESS, EpisodeStatus.OUTCOME_FAILURE
        assert outcomes == (0, 1, 2)
        assert (EpisodeStatus.STATE_IDLE, EpisodeStatus.STATE_RUNNING, EpisodeStatus.STATE_ENDED) == (0, 1, 2)
        assert (CommandStatus.STATE_IDLE, CommandStatus.STATE_MOVING, CommandStatus.STATE_STOPPED) == (0, 1, 2)

    def test_a_message_survives_serialisation(self) -> None:
        from rclpy.serialization import deserialize_message, serialize_message

        from qt_ros.msg import PolicyAction

        sent = PolicyAction(instruction="pick the red cube", names=["dx"], values=[0.05], bins=[255], q=[0.5])
        assert deserialize_message(serialize_message(sent), PolicyAction) == sent

    def test_generated_modules_and_the_source_tree_import_side_by_side(self) -> None:
        import qt_ros.contract.actions
        import qt_ros.msg

        assert Path(qt_ros.contract.actions.__file__).is_relative_to(ROOT / "qt_ros")
        assert not Path(qt_ros.msg.__file__).is_relative_to(ROOT / "qt_ros")
