from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from qt_ros.contract.observations import resize_rgb
from qt_ros.sim.world import Placement, SceneSpec, World

COLOURS = {  # which channels of a lit object's picture are the bright ones
    "red_cube": (True, False, False),
    "green_cylinder": (False, True, False),
    "blue_ball": (False, False, True),
    "yellow_box": (True, True, False),
    "cyan_cube": (False, True, True),
}


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    world = World()
    yield world
    world.close()


def _row_of_objects() -> SceneSpec:
    return SceneSpec(objects={name: Placement(0.52, -0.2 + 0.1 * i, 0.70) for i, name in enumerate(COLOURS)})


def test_pictures_have_the_size_asked_for(world: World) -> None:
    world.reset(SceneSpec())
    for width, height in ((640, 480), (128, 96)):
        picture = world.render(width, height)
        assert picture.shape == (height, width, 3) and picture.dtype == np.uint8
        assert picture.std() > 5.0, "not one colour"


def test_a_picture_is_not_overwritten_by_the_next_one(world: World) -> None:
    world.reset(_row_of_objects())
    first = world.render(64, 48)
    kept = first.copy()
    world.reset(SceneSpec())
    world.render(64, 48)
    assert np.array_equal(first, kept)


def test_the_same_scene_gives_the_same_picture(world: World) -> None:
    world.reset(_row_of_objects())
    first = world.render(160, 120)
    world.reset(SceneSpec(light_intensity=0.5, camera_offset=(0.01, 0.0, 0.0, 0.0, 0.02, 0.0)))
    world.reset(_row_of_objects())
    assert np.array_equal(world.render(160, 120), first)


@pytest.mark.parametrize("offset", [(0.0,) * 6, (0.01, -0.01, 0.01, 0.0175, -0.0175, 0.0175)])
def test_objects_appear_in_their_colour_where_projection_says(world: World, offset: tuple[float, ...]) -> None:
    scene = _row_of_objects()
    world.reset(SceneSpec(objects=scene.objects, camera_offset=offset))
    policy_view = resize_rgb(world.render(640, 480), 96, 128)
    for name, bright in COLOURS.items():
        u, v, in_view = world.project(world.object_pose(name)[:3])
        assert in_view
        pixel = policy_view[int(v * 96), int(u * 128)].astype(int)
        assert tuple(pixel > pixel.max() * 0.55) == bright, (name, pixel)


def test_points_outside_the_picture_or_behind_the_camera_are_not_in_view(world: World) -> None:
    world.reset(SceneSpec())
    assert not world.project((0.6, 1.5, 0.7))[2]
    assert not world.project((-2.0, 0.0, 1.5))[2]
    assert world.project(world.tool_pose("world")[:3])[2]


def test_the_whole_picking_area_is_in_view(world: World) -> None:
    world.reset(SceneSpec())
    for x in (0.46, 0.78):
        for y in (-0.24, 0.24):
            u, v, in_view = world.project((x, y, 0.72))
            assert in_view and 0.05 < u < 0.95 and 0.05 < v < 0.95


def test_camera_info_describes_the_projection(world: World) -> None:
    world.reset(SceneSpec())
    info = world.camera_info(640, 480)
    assert info.frame == "head_camera_optical_frame"
    assert (info.width, info.height, info.cx, info.cy) == (640, 480, 320.0, 240.0)
    data = world.data
    frame = data.body("head_camera_optical_frame")
    point = np.array([0.7, 0.1, 0.72])
    x, y, z = frame.xmat.reshape(3, 3).T @ (point - frame.xpos)
    u, v, _ = world.project(point)
    k = np.array(info.k).reshape(3, 3)
    assert (k @ (x / z, y / z, 1.0))[:2] == pytest.approx((u * 640, v * 480), abs=1e-6)
    assert np.array(info.p).reshape(3, 4)[:, :3] == pytest.approx(k)


def test_light_changes_how_bright_the_picture_is(world: World) -> None:
    world.reset(SceneSpec(light_intensity=0.6, ambient_intensity=0.6))
    dark = world.render(64, 48).mean()
    world.reset(SceneSpec())
    assert world.render(64, 48).mean() > dark * 1.2


def test_a_picture_larger_than_the_buffer_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="4000x3000"):
        world.render(4000, 3000)


def test_a_malformed_camera_offset_is_refused(world: World) -> None:
    with pytest.raises(ValueError, match="six finite numbers"):
        world.reset(SceneSpec(camera_offset=(0.0, 0.0, float("nan"), 0.0, 0.0, 0.0)))
