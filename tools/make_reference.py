#!/usr/bin/env python3
"""Writes the generated tables of docs/ from the code's own declarations; `--check` only says which are old.

    . ./env.sh
    python tools/make_reference.py

A page is written by hand but for its blocks, which this tool fills:

    <!-- generated: NAME -->
    ...
    <!-- end of generated -->

Needs the built workspace (ROS), because node parameters are declared in the nodes. Tables of measurements come from the
JSON files in docs/results/ that the benchmarks wrote.
"""

from __future__ import annotations

import argparse
import dataclasses
import enum
import importlib
import inspect
import re
import sys
import typing
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import typer

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

DOCS = ROOT / "docs"
ROBOT = "mobile_manipulator"
BLOCK = re.compile(r"(<!-- generated: (?P<name>[\w ]+) -->\n).*?(<!-- end of generated -->)", re.DOTALL)


def table(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A Markdown table. Cells are texts; `|` and line ends in them are made harmless."""
    cells = [[str(c).replace("|", "\\|").replace("\n", " ") for c in row] for row in (header, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    return "\n".join([lines[0], "|" + " --- |" * len(header), *lines[1:]]) + "\n"


def code(value: Any) -> str:
    """A value as code, nothing as a dash."""
    if value is None or value == "" or value == () or value == [""]:
        return "-"
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"


# --- parameters of nodes ----------------------------------------------------------------------------------------------


def node_names() -> list[str]:
    """Modules of qt_ros/nodes that are nodes."""
    return sorted(path.stem for path in (ROOT / "qt_ros" / "nodes").glob("*_node.py"))


def parameters() -> str:
    """One table per node, from its PARAMETERS."""
    return "\n".join(f"### {name}\n\n{_parameters(name)}" for name in node_names())


def _parameters(node: str) -> str:
    module = importlib.import_module(f"qt_ros.nodes.{node}")
    rows = []
    for p in module.PARAMETERS:
        limits = f"{p.low:g} .. {p.high:g}" if p.low is not None else ", ".join(f"`{c}`" for c in p.choices) or "-"
        rows.append((f"`{p.name}`", p.type, code(p.default), p.unit or "-", limits, p.description))
    return table(("parameter", "type", "default", "unit", "range", "meaning"), rows)


# --- training settings ------------------------------------------------------------------------------------------------


def _leaves(record: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(record):
        value = getattr(record, field.name)
        if dataclasses.is_dataclass(value):
            yield from _leaves(value, f"{prefix}{field.name}.")
        elif field.name != "model":
            yield prefix + field.name, value


def train_settings() -> str:
    """Every setting of `qt-ros train` in the shipped configurations."""
    from qt_ros.learning.config import TrainConfig, load_train_config

    names = sorted(path.stem for path in (ROOT / "config" / "train").glob("*.yaml"))
    default = dict(_leaves(TrainConfig(model={}, gradient_steps=1, batch=1, learning_rate=1.0)))
    needed = {"gradient_steps", "batch", "learning_rate"}
    shipped = {name: dict(_leaves(load_train_config(name))) for name in names}
    rows = [
        (f"`{key}`", "-" if key in needed else code(value), *(code(shipped[name][key]) for name in names))
        for key, value in default.items()
    ]
    return table(("setting", "default", *(f"{name}.yaml" for name in names)), rows)


def picking_settings() -> str:
    """Every setting that one of config/train/picking sets otherwise than the default of its method."""
    from qt_ros.learning.config import TrainConfig, load_train_config

    names = sorted(path.stem for path in (ROOT / "config" / "train" / "picking").glob("*.yaml"))
    settings = {name: load_train_config(f"picking/{name}") for name in names}
    shipped = {name: dict(_leaves(config)) for name, config in settings.items()}
    default = dict(_leaves(TrainConfig(model={}, gradient_steps=1, batch=1, learning_rate=1.0)))
    keys = [*default, *dict.fromkeys(k for leaves in shipped.values() for k in leaves if k not in default)]
    told = [k for k in keys if any(leaves.get(k) != default.get(k) for leaves in shipped.values())]
    rows = [
        (f"`{key}`", *(code(shipped[name][key]) if key in shipped[name] else "" for name in names))
        for key in told
        if key != "method"
    ]
    for field in sorted({key for config in settings.values() for key in config.model} - {"preset"}):
        rows.append((f"`model.{field}`", *(code(settings[name].model.get(field)) for name in names)))
    return table(("setting", *names), rows)


def model_presets() -> str:
    """Every field of the model in both presets."""
    from qt_ros.model.config import PRESETS

    fields = {name: preset.to_dict() for name, preset in PRESETS.items()}
    rows = [(f"`{key}`", *(code(f[key]) for f in fields.values())) for key in next(iter(fields.values()))]
    return table(("field", *PRESETS), rows)


# --- contract ---------------------------------------------------------------------------------------------------------


def observations() -> str:
    """What the robot is expected to publish."""
    from qt_ros.contract.robot import load_contract

    rows = []
    for o in load_contract(ROBOT).observations.values():
        size = f"{o.width} x {o.height}" if o.kind == "image" else "-"
        limit = f"{o.max_age:g} s, {o.on_stale}" if o.on_stale == "stop" else o.on_stale
        rate = f"{o.rate:g}" if o.rate else "-"
        rows.append((o.name, f"`{o.topic}`", o.type, o.frame or "-", size, rate, o.align, limit))
    return table(("name", "topic", "type", "frame", "size px", "rate Hz", "alignment", "oldest, when older"), rows)


def commands() -> str:
    """Where actions are sent."""
    from qt_ros.contract.robot import load_contract

    rows = [
        (c.name, f"`{c.topic}`", c.type, c.frame or "-", ", ".join(c.joints) or "-", c.on_stop)
        for c in load_contract(ROBOT).commands.values()
    ]
    return table(("name", "topic", "type", "frame", "joints", "on stop"), rows)


def actions() -> str:
    """The action space, in the order in which dimensions are decided."""
    from qt_ros.contract.robot import load_contract

    space = load_contract(ROBOT).action_space
    rows = [
        (i, f"`{d.name}`", d.unit, f"{d.low:g} .. {d.high:g}", d.bins, "-" if d.neutral is None else f"{d.neutral:g}",
         f"{(d.high - d.low) / d.bins:.4g}", d.target)
        for i, d in enumerate(space.dimensions)
    ]  # fmt: skip
    return table(("order", "dimension", "unit", "range", "bins", "neutral", "bin width", "sent to"), rows)


def limits() -> str:
    """Limits as the contract states them."""
    from qt_ros.contract.robot import load_contract

    units = {"speed": "m/s", "acceleration": "m/s^2", "age": "s", "low": "m", "high": "m", "force": "N", "width": "m"}
    rows = []
    for name, value in vars(load_contract(ROBOT).limits).items():
        if isinstance(value, dict):
            continue  # joint_speeds: described by hand
        unit = units[name.rsplit("_", 1)[1]]
        if "angular" in name or name.startswith("joint"):
            unit = unit.replace("m/", "rad/")
        rows.append(
            (
                f"`{name}`",
                "none"
                if value is None
                else ", ".join(f"{v:g}" for v in (value if isinstance(value, tuple) else (value,))),
                unit,
            )
        )
    return table(("limit", "value", "unit"), rows)


# --- messages ---------------------------------------------------------------------------------------------------------


def _comments(path: Path) -> Iterator[tuple[str, str]]:
    """(declaration, the comment lines right above it) of an interface file; ('', text) for a comment on its own."""
    above: list[str] = []
    for line in [*path.read_text(encoding="utf-8").splitlines(), ""]:
        if line.startswith("#"):
            above.append(line.lstrip("# ").strip())
        elif line.strip():
            yield " ".join(line.split()), " ".join(above)
            above = []
        else:
            if above:
                yield "", " ".join(above)
            above = []


def interfaces() -> str:
    """Fields of every message, service and action, with the comments of their files."""
    out = []
    for kind in ("msg", "srv", "action"):
        for path in sorted((ROOT / kind).glob(f"*.{kind}")):
            entries = list(_comments(path))
            head = entries.pop(0)[1] if entries and not entries[0][0] else ""
            rows = [(f"`{d}`" if d != "---" else "---", c) for d, c in entries if d]
            out.append(f"### qt_ros/{kind}/{path.stem}\n\n{head}\n\n{table(('field', 'meaning'), rows)}")
    return "\n".join(out)


def reasons() -> str:
    """Every REASON_* of EpisodeStatus."""
    rows = []
    for declaration, comment in _comments(ROOT / "msg" / "EpisodeStatus.msg"):
        if match := re.match(r"uint8 REASON_(\w+)=(\d+)", declaration):
            rows.append((match[2], f"`{match[1].lower()}`", comment.split("has one of these names. ")[-1]))
    return table(("value", "reason", "meaning"), rows)


# --- command line -----------------------------------------------------------------------------------------------------

TYPES = {Path: "path", str: "text", int: "integer", float: "number", bool: "flag"}


def cli() -> str:
    """Every subcommand of `qt-ros` with its arguments and options, from the functions' signatures."""
    from qt_ros.cli import main

    out = []
    for name in main.available():
        module = importlib.import_module(f"qt_ros.cli.{name}")
        app: Any = getattr(module, "app", None)
        if (single := module.command if app is None else main.single_callback(app)) is not None:
            out.append(_subcommand(name, single))
            continue
        itself = app.registered_callback
        if itself is not None and itself.callback is not None:  # `qt-ros improve`, beside `qt-ros improve report`
            out.append(_subcommand(name, itself.callback))
        for entry in app.registered_commands:
            out.append(_subcommand(f"{name} {entry.name or entry.callback.__name__.replace('_', '-')}", entry.callback))
    return "\n".join(out)


def _subcommand(name: str, function: Callable[..., Any]) -> str:
    told = []
    for paragraph in (inspect.getdoc(function) or "").split("\n\n"):
        example, words = paragraph.startswith("Example: "), " ".join(paragraph.split())
        told.append(f"```bash\n{words.removeprefix('Example: ')}\n```" if example else words)
    rows = []
    hints = typing.get_type_hints(function, include_extras=True)
    for key, parameter in inspect.signature(function).parameters.items():
        annotation, info, default = hints[key], parameter.default, parameter.default
        if annotation is typer.Context:
            continue
        if typing.get_origin(annotation) is typing.Annotated:
            annotation, info = typing.get_args(annotation)[:2]
            # Inside Annotated, typer takes the first positional argument for a name too.
            names = (*(n for n in (info.default,) if isinstance(n, str)), *(info.param_decls or ()))
        else:
            names = tuple(info.param_decls or ())
            default = getattr(info, "default", None)
        rows.append((_spelling(key, info, names), _type_name(annotation), _default(default), info.help or ""))
    return "\n\n".join([f"### qt-ros {name}", *told, table(("option", "type", "default", "meaning"), rows)])


def _spelling(key: str, info: Any, names: Sequence[str]) -> str:
    if type(info).__name__ == "ArgumentInfo":
        return f"`{key.upper()}`"
    return ", ".join(f"`{name}`" for name in names or (f"--{key.replace('_', '-')}",))


def _type_name(annotation: Any) -> str:
    several = typing.get_origin(annotation) is list
    options = [a for a in typing.get_args(annotation) if a is not type(None)] if typing.get_args(annotation) else []
    if several:
        return f"{TYPES[typing.get_args(annotation)[0]]}, several"
    if options:
        return _type_name(options[0])
    if isinstance(annotation, type) and issubclass(annotation, enum.Enum):
        return " or ".join(code(choice.value) for choice in annotation)
    return TYPES[annotation]


def _default(value: Any) -> str:
    value = value.value if isinstance(value, enum.Enum) else value
    if value is inspect.Parameter.empty or value is ...:
        return "needed"
    return code(value) if value is not False else "-"


# --- measurements -----------------------------------------------------------------------------------------------------


def measured(which: str) -> str:
    """A table of a benchmark's result, with how it was made."""
    from benchmarks import tables

    text, header, rows = getattr(tables, which)(DOCS / "results")
    return f"{text}\n\n{table(header, rows)}"


# --- pages ------------------------------------------------------------------------------------------------------------

BLOCKS: dict[str, Callable[[], str]] = {
    "parameters": parameters,
    "train settings": train_settings,
    "picking settings": picking_settings,
    "model presets": model_presets,
    "observations": observations,
    "commands": commands,
    "actions": actions,
    "limits": limits,
    "interfaces": interfaces,
    "reasons": reasons,
    "cli": cli,
    "policy step": partial(measured, "policy_step"),
    "policy over dds": partial(measured, "policy_over_dds"),
    "recorder": partial(measured, "recorder"),
    "sampling": partial(measured, "sampling"),
    "decoding": partial(measured, "decoding"),
}


def fill(text: str) -> str:
    """A page with all its blocks made anew. KeyError for a block that nothing makes."""
    return BLOCK.sub(lambda match: f"{match[1]}\n{BLOCKS[match['name']]()}\n{match[3]}", text)


def outdated() -> dict[Path, str]:
    """Pages of docs/ whose blocks differ from the code, with their new text."""
    pages = {path: path.read_text(encoding="utf-8") for path in sorted(DOCS.rglob("*.md"))}
    return {path: new for path, old in pages.items() if (new := fill(old)) != old}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="change nothing; exit status 1 when a page is out of date")
    options = parser.parse_args()
    pages = outdated()
    for path, text in pages.items():
        print(f"{path.relative_to(ROOT)}: {'out of date' if options.check else 'written'}")
        if not options.check:
            path.write_text(text, encoding="utf-8")
    return 1 if options.check and pages else 0


if __name__ == "__main__":
    raise SystemExit(main())
