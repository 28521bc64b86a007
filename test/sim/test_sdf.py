from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from qt_ros.sim.scene import kitchen_path
from qt_ros.sim.sdf import SdfError, read_sdf


def _changed(tmp_path: Path, old: str, new: str) -> Path:
    text = kitchen_path().read_text()
    assert old in text
    path = tmp_path / "kitchen.sdf"
    path.write_text(text.replace(old, new, 1))
    return path


def test_kitchen_has_table_cabinet_drawer_and_ten_objects() -> None:
    world = read_sdf(kitchen_path())
    assert {"floor", "table", "cabinet"} <= {model.name for model in world.models}
    assert sum(model.free for model in world.models) == 10
    drawer = {joint.name: joint for joint in world.model("cabinet").joints}["drawer_joint"]
    assert (drawer.kind, drawer.axis, drawer.lower, drawer.upper) == ("prismatic", (-1.0, 0.0, 0.0), 0.0, 0.30)


def test_objects_are_named_by_their_colour_and_shape() -> None:
    shapes = {"cube": "box", "box": "box", "cylinder": "cylinder", "ball": "sphere"}
    objects = [model for model in read_sdf(kitchen_path()).models if model.free]
    colours = set()
    for model in objects:
        collision, visual = model.links[0].shapes
        assert collision.kind == visual.kind == shapes[model.name.split("_")[1]]
        assert (collision.size, collision.pose) == (visual.size, visual.pose)
        assert 0.05 <= model.links[0].mass <= 0.15
        colours.add(visual.rgba)
    assert len(colours) == len(objects)


def test_object_inertias_are_those_of_their_shapes() -> None:
    for model in (m for m in read_sdf(kitchen_path()).models if m.free):
        link = model.links[0]
        shape, mass = link.shapes[0], link.mass
        if shape.kind == "box":
            x, y, z = shape.size
            expected = [mass / 12 * (y * y + z * z), mass / 12 * (x * x + z * z), mass / 12 * (x * x + y * y)]
        elif shape.kind == "cylinder":
            radius, length = shape.size
            side = mass / 12 * (3 * radius**2 + length**2)
            expected = [side, side, mass / 2 * radius**2]
        else:
            expected = [0.4 * mass * shape.size[0] ** 2] * 3
        assert link.inertia[:3] == pytest.approx(expected, rel=1e-4), model.name


@pytest.mark.parametrize(
    ("old", "new", "named"),
    [
        ("<static>true</static>", "<static>true</static><wind/>", "<wind>"),
        ('type="directional"', 'type="spot"', "spot"),
        ('type="prismatic"', 'type="screw"', "screw"),
        ("<static>true</static>", "<static>maybe</static>", "maybe"),
        ("<gravity>0 0 -9.81</gravity>", "<gravity>0 0 down</gravity>", "down"),
        ("<gravity>0 0 -9.81</gravity>", "<gravity>0 0 nan</gravity>", "nan"),
        ("<gravity>0 0 -9.81</gravity>", "<gravity>0 -9.81</gravity>", "3 finite numbers"),
        ("<size>0.042 0.042 0.042</size>", "<size>0.042 0 0.042</size>", "positive"),
        ('<model name="table">', '<model name="table" colour="red">', "colour"),
        ('<link name="drawer">', '<link name="drawer"><sensor/>', "<sensor>"),
    ],
)
def test_unsupported_or_malformed_content_is_refused_by_name(tmp_path: Path, old: str, new: str, named: str) -> None:
    with pytest.raises(SdfError, match=named):
        read_sdf(_changed(tmp_path, old, new))


def test_missing_file_and_broken_xml_are_named(tmp_path: Path) -> None:
    with pytest.raises(SdfError, match=r"nothing\.sdf"):
        read_sdf(tmp_path / "nothing.sdf")
    (tmp_path / "broken.sdf").write_text("<sdf><world>")
    with pytest.raises(SdfError, match=r"broken\.sdf"):
        read_sdf(tmp_path / "broken.sdf")


def test_unknown_model_name_lists_the_known_ones() -> None:
    with pytest.raises(KeyError, match="red_cube"):
        read_sdf(kitchen_path()).model("green_elephant")


@pytest.mark.skipif(shutil.which("ign") is None, reason="the ign command of ignition-tools is not installed")
def test_sdformat_finds_the_kitchen_valid() -> None:
    result = subprocess.run(
        ["ign", "sdf", "-k", str(kitchen_path())], capture_output=True, text=True, timeout=30, check=False
    )
    assert "Valid." in result.stdout + result.stderr
