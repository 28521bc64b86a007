"""Reader of the SDF subset that the kitchen uses (SDFormat 1.9, sdformat.org/spec).

Strict on purpose: a tag or attribute this reader does not know raises SdfError naming it, so that a world never loads
with a part silently missing. Tags that only concern Gazebo (plugins, engine settings, shadows) are listed and skipped.
Lengths are metres, angles radians, masses kilograms; a pose is x y z roll pitch yaw (fixed axes) in its parent's frame.
"""

from __future__ import annotations

import math
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass
from pathlib import Path

Pose = tuple[float, float, float, float, float, float]
_ZERO_POSE: Pose = (0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
_GEOMETRIES = {"box": 3, "cylinder": 2, "sphere": 1, "plane": 2}


class SdfError(ValueError):
    """The SDF file holds something this reader does not support, or is malformed; the message names the tag."""


@dataclass(frozen=True)
class Surface:
    """Friction of a collision shape: sliding (1), torsional (m) and rolling (m) coefficients."""

    friction: float
    torsional: float = 0.005
    rolling: float = 0.0001


@dataclass(frozen=True)
class Shape:
    """A collision (``surface`` set, ``rgba`` None) or a visual (``rgba`` set). ``size`` as in SDF: box x y z, cylinder
    radius length, sphere radius, plane x y (normal +z)."""

    name: str
    kind: str
    size: tuple[float, ...]
    pose: Pose
    rgba: tuple[float, float, float, float] | None = None
    surface: Surface | None = None


@dataclass(frozen=True)
class Link:
    """A rigid body; ``inertia`` is (ixx, iyy, izz, ixy, ixz, iyz) about ``inertial_pose``; mass 0 means none given."""

    name: str
    pose: Pose
    mass: float
    inertial_pose: Pose
    inertia: tuple[float, float, float, float, float, float]
    shapes: tuple[Shape, ...]


@dataclass(frozen=True)
class Joint:
    """A fixed or prismatic joint; ``axis`` in the child's frame, limits in metres."""

    name: str
    kind: str
    parent: str
    child: str
    axis: tuple[float, float, float] = (0.0, 0.0, 1.0)
    lower: float = -math.inf
    upper: float = math.inf
    damping: float = 0.0
    friction: float = 0.0


@dataclass(frozen=True)
class Model:
    """A named group of links. ``free`` objects are single links without joints that are not static."""

    name: str
    static: bool
    pose: Pose
    links: tuple[Link, ...]
    joints: tuple[Joint, ...]

    @property
    def free(self) -> bool:
        return not self.static and not self.joints and len(self.links) == 1


@dataclass(frozen=True)
class Light:
    """A directional light; ``direction`` in the world frame."""

    name: str
    position: tuple[float, float, float]
    direction: tuple[float, float, float]
    diffuse: tuple[float, float, float]
    specular: tuple[float, float, float]


@dataclass(frozen=True)
class SdfWorld:
    """What the kitchen file says, as far as the embedded simulator needs it."""

    name: str
    gravity: tuple[float, float, float]
    timestep: float
    ambient: tuple[float, float, float]
    background: tuple[float, float, float]
    models: tuple[Model, ...]
    lights: tuple[Light, ...]

    def model(self, name: str) -> Model:
        """The model of that name; KeyError listing the names otherwise."""
        for model in self.models:
            if model.name == name:
                return model
        raise KeyError(f"no model {name!r} in world {self.name!r}; it has {', '.join(m.name for m in self.models)}")


def read_sdf(path: Path) -> SdfWorld:
    """Read one world. Raises SdfError for unknown tags, unknown attributes, malformed numbers or a missing file."""
    try:
        root = ElementTree.parse(path).getroot()
    except (OSError, ElementTree.ParseError) as error:
        raise SdfError(f"{path}: cannot be read as XML ({error})") from error
    if root.tag != "sdf":
        raise SdfError(f"{path}: the root tag is <{root.tag}>, expected <sdf>")
    return _world(_Node(root, f"{path}:").only_child("world"))


class _Node:
    """An XML element that knows where it is and refuses what nobody asked for."""

    def __init__(self, element: ElementTree.Element, where: str) -> None:
        self.element = element
        name = element.get("name")
        self.where = f"{where}/{element.tag}" + (f"[{name}]" if name else "")

    @property
    def name(self) -> str:
        name = self.element.get("name")
        if not name:
            raise SdfError(f"{self.where}: the attribute name is missing")
        return name

    def allow(self, *tags: str, attributes: tuple[str, ...] = ()) -> _Node:
        """Raise unless every child tag and attribute is in the lists."""
        for child in self.element:
            if child.tag not in tags:
                raise SdfError(
                    f"{self.where}: tag <{child.tag}> is not supported here (known: {', '.join(tags) or 'none'}); "
                    "remove it or teach qt_ros/sim/sdf.py to read it"
                )
        for attribute in self.element.keys():
            if attribute not in ("name", *attributes):
                raise SdfError(f"{self.where}: attribute {attribute!r} is not supported here")
        return self

    def children(self, tag: str) -> list[_Node]:
        return [_Node(child, self.where) for child in self.element.findall(tag)]

    def child(self, tag: str) -> _Node | None:
        found = self.children(tag)
        if len(found) > 1:
            raise SdfError(f"{self.where}: <{tag}> is given {len(found)} times, expected once")
        return found[0] if found else None

    def only_child(self, tag: str) -> _Node:
        found = self.child(tag)
        if found is None:
            raise SdfError(f"{self.where}: <{tag}> is missing")
        return found

    def text(self, tag: str, default: str | None = None) -> str:
        node = self.child(tag)
        if node is None:
            if default is None:
                raise SdfError(f"{self.where}: <{tag}> is missing")
            return default
        node.allow()
        return (node.element.text or "").strip()

    def numbers(self, tag: str, count: int, default: tuple[float, ...] | None = None) -> tuple[float, ...]:
        """The ``count`` finite numbers in child ``tag``."""
        node = self.child(tag)
        if node is None:
            if default is None:
                raise SdfError(f"{self.where}: <{tag}> is missing")
            return default
        words = self.text(tag).split()
        try:
            values = tuple(float(word) for word in words)
        except ValueError as error:
            raise SdfError(f"{node.where}: {error}") from error
        if len(values) != count or not all(math.isfinite(value) for value in values):
            raise SdfError(f"{node.where}: expected {count} finite numbers, found {' '.join(words)!r}")
        return values

    def number(self, tag: str, default: float | None = None) -> float:
        return self.numbers(tag, 1, None if default is None else (default,))[0]

    def pose(self) -> Pose:
        values = self.numbers("pose", 6, _ZERO_POSE)
        return (values[0], values[1], values[2], values[3], values[4], values[5])


def _triple(values: tuple[float, ...]) -> tuple[float, float, float]:
    return (values[0], values[1], values[2])


def _world(node: _Node) -> SdfWorld:
    # plugin: Gazebo's systems, nothing for MuJoCo to do.
    node.allow("gravity", "physics", "plugin", "scene", "light", "model")
    physics = node.only_child("physics").allow("max_step_size", "real_time_factor", attributes=("type",))
    scene = node.only_child("scene").allow("ambient", "background", "shadows")
    return SdfWorld(
        name=node.name,
        gravity=_triple(node.numbers("gravity", 3, (0.0, 0.0, -9.8))),
        timestep=physics.number("max_step_size"),
        ambient=_triple(scene.numbers("ambient", 4)),
        background=_triple(scene.numbers("background", 4)),
        models=tuple(_model(child) for child in node.children("model")),
        lights=tuple(_light(child) for child in node.children("light")),
    )


def _light(node: _Node) -> Light:
    node.allow("pose", "direction", "diffuse", "specular", "cast_shadows", attributes=("type",))
    if node.element.get("type") != "directional":
        raise SdfError(f"{node.where}: light type {node.element.get('type')!r} is not supported, only directional")
    return Light(
        name=node.name,
        position=_triple(node.pose()),
        direction=_triple(node.numbers("direction", 3)),
        diffuse=_triple(node.numbers("diffuse", 4)),
        specular=_triple(node.numbers("specular", 4)),
    )


def _model(node: _Node) -> Model:
    node.allow("static", "pose", "link", "joint", "plugin")  # plugin: Gazebo's, as in the world
    static = node.text("static", "false")
    if static not in ("true", "false"):
        raise SdfError(f"{node.where}: <static> is {static!r}, expected true or false")
    links = tuple(_link(child) for child in node.children("link"))
    if not links:
        raise SdfError(f"{node.where}: <link> is missing")
    return Model(
        node.name, static == "true", node.pose(), links, tuple(_joint(child) for child in node.children("joint"))
    )


def _link(node: _Node) -> Link:
    node.allow("pose", "inertial", "collision", "visual")
    mass, inertial_pose, inertia = 0.0, _ZERO_POSE, _ZERO_POSE
    inertial = node.child("inertial")
    if inertial is not None:
        inertial.allow("pose", "mass", "inertia")
        mass, inertial_pose = inertial.number("mass"), inertial.pose()
        moments = inertial.only_child("inertia").allow("ixx", "iyy", "izz", "ixy", "ixz", "iyz")
        diagonal = [moments.number(key) for key in ("ixx", "iyy", "izz")]
        products = [moments.number(key, 0.0) for key in ("ixy", "ixz", "iyz")]
        inertia = (diagonal[0], diagonal[1], diagonal[2], products[0], products[1], products[2])
    shapes = [_shape(child, "surface") for child in node.children("collision")]
    shapes += [_shape(child, "material") for child in node.children("visual")]
    return Link(node.name, node.pose(), mass, inertial_pose, inertia, tuple(shapes))


def _shape(node: _Node, detail: str) -> Shape:
    node.allow("pose", "geometry", detail)
    geometry = node.only_child("geometry").allow(*_GEOMETRIES)
    if len(geometry.element) != 1:
        raise SdfError(f"{geometry.where}: expected exactly one shape")
    kind = geometry.element[0].tag
    body = geometry.only_child(kind)
    if kind == "cylinder":
        body.allow("radius", "length")
        size: tuple[float, ...] = (body.number("radius"), body.number("length"))
    elif kind == "sphere":
        size = (body.allow("radius").number("radius"),)
    elif kind == "plane":
        if body.allow("normal", "size").numbers("normal", 3, (0.0, 0.0, 1.0)) != (0.0, 0.0, 1.0):
            raise SdfError(f"{body.where}: only a plane with normal 0 0 1 is supported")
        size = body.numbers("size", 2)
    else:
        size = body.allow("size").numbers("size", 3)
    if min(size) <= 0.0:
        raise SdfError(f"{body.where}: sizes must be positive, found {size}")
    if detail == "surface":
        return Shape(node.name, kind, size, node.pose(), surface=_surface(node.child("surface")))
    material = node.only_child("material").allow("ambient", "diffuse", "specular")
    rgba = material.numbers("diffuse", 4)
    return Shape(node.name, kind, size, node.pose(), rgba=(rgba[0], rgba[1], rgba[2], rgba[3]))


def _surface(node: _Node | None) -> Surface:
    if node is None:
        return Surface(1.0)
    friction = node.allow("friction").only_child("friction").allow("ode", "torsional", "bullet")
    ode = friction.only_child("ode").allow("mu", "mu2")
    torsional, bullet = friction.child("torsional"), friction.child("bullet")
    default = Surface(ode.number("mu"))
    return Surface(
        friction=default.friction,
        torsional=torsional.allow("coefficient").number("coefficient") if torsional else default.torsional,
        rolling=bullet.allow("rolling_friction").number("rolling_friction") if bullet else default.rolling,
    )


def _joint(node: _Node) -> Joint:
    node.allow("parent", "child", "axis", attributes=("type",))
    kind = node.element.get("type", "")
    if kind not in ("fixed", "prismatic"):
        raise SdfError(f"{node.where}: joint type {kind!r} is not supported, only fixed and prismatic")
    parent, child = node.text("parent"), node.text("child")
    if kind == "fixed":
        return Joint(node.name, kind, parent, child)
    axis = node.only_child("axis").allow("xyz", "limit", "dynamics")
    limit = axis.only_child("limit").allow("lower", "upper", "effort", "velocity")
    dynamics = axis.child("dynamics")
    if dynamics is not None:
        dynamics.allow("damping", "friction")
    return Joint(
        name=node.name,
        kind=kind,
        parent=parent,
        child=child,
        axis=_triple(axis.numbers("xyz", 3)),
        lower=limit.number("lower"),
        upper=limit.number("upper"),
        damping=dynamics.number("damping", 0.0) if dynamics else 0.0,
        friction=dynamics.number("friction", 0.0) if dynamics else 0.0,
    )
