"""`qt-ros train`: offline training of a Q-Transformer, or of one of its rivals, from training stores."""

from __future__ import annotations

import json
import signal
from collections import Counter
from pathlib import Path
from typing import Annotated, Any

import typer
import yaml
from rich.console import Console
from rich.markup import escape


def command(
    context: typer.Context,
    store: Annotated[
        list[str],
        typer.Option(
            help="Training store to learn from: a folder or any fsspec URL. Give it several times to join stores; "
            "PATH=WEIGHT for all of them mixes them by weight."
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the training state and TensorBoard logs.")],
    method: Annotated[
        str | None,
        typer.Option(
            help="q_transformer, rt1_bc, decision_transformer, iql, cql, qt_opt or aw_opt; the config's if absent."
        ),
    ] = None,
    config: Annotated[
        str | None,
        typer.Option(help="Name in config/train or path of a YAML; picking/METHOD with --method, else small."),
    ] = None,
    robot: Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")] = "mobile_manipulator",
    init: Annotated[
        Path | None,
        typer.Option(help="Checkpoint to start from: the vision side of a warmed-up one, or all of an earlier one."),
    ] = None,
    only_vision: Annotated[
        bool, typer.Option("--only-vision", help="Of --init take only the vision side, which serves every method.")
    ] = False,
    privileged: Annotated[
        bool, typer.Option("--privileged", help="Act on the simulator's privileged state instead of images.")
    ] = False,
    allow_other_contract: Annotated[
        bool,
        typer.Option("--allow-other-contract", help="Take stores of another contract with the same action space."),
    ] = False,
    text_encoder: Annotated[
        str | None, typer.Option(help="Sentence-transformers name or folder for a fresh model; minilm if absent.")
    ] = None,
    vision_weights: Annotated[
        str | None, typer.Option(help="ImageNet weights of a fresh EfficientNet: file, folder or hub id.")
    ] = None,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one setting, e.g. --set loss.alpha=20.")
    ] = None,
    stream: Annotated[
        bool | None,
        typer.Option(
            "--stream/--in-memory",
            help="Read segments when they are needed, or everything at the start; by size if absent. Same batches.",
        ),
    ] = None,
    cache: Annotated[
        Path | None,
        typer.Option(help="Folder for copies and indexes of stores that are read-only or behind a URL."),
    ] = None,
    cache_mb: Annotated[int, typer.Option(help="Memory for frames read lately, when streaming, in MB.", min=1)] = 512,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object per report instead of a table row.")
    ] = False,
) -> None:
    """Train a Q-Transformer, or one of its rivals, from stores. The same command continues an interrupted run.

    Started by `accelerate launch` or torchrun, the processes share every batch; see docs/how-to.

    Example: qt-ros train --store data/demos --store data/noise --init runs/warm/checkpoint --out runs/picking
    """
    from qt_ros.contract.robot import load_contract
    from qt_ros.contract.strict import one_of
    from qt_ros.learning.config import PRIVILEGED, load_train_config
    from qt_ros.learning.group import join_group
    from qt_ros.learning.guards import find_device
    from qt_ros.learning.options import OPTIONS
    from qt_ros.learning.run import require_start
    from qt_ros.learning.session import train
    from qt_ros.learning.trainer import StepReport

    console = Console(stderr=True)
    if method is not None:
        one_of(method, tuple(OPTIONS), "--method")  # before its settings are looked for by that name
    overrides = (PRIVILEGED if privileged else {}) | parse_settings(set_ or [])
    if method is not None:
        overrides["method"] = method
    settings = load_train_config(config or (f"picking/{method}" if method else "small"), overrides)
    require_start(settings, init)
    contract = load_contract(robot)
    find_device(device)  # before stores are read, which can take minutes
    group, device = join_group(device)
    data = load_data(
        store,
        settings.backup.gamma,
        console,
        stream=stream,
        cache=cache,
        cache_bytes=cache_mb << 20,
        contract=contract,
        allow_other_contract=allow_other_contract,
        privileged=settings.model.get("vision") == "state",
    )
    context.call_on_close(data.close)
    if group.main:
        warn_of_scenes(store, data, console)
        warn_of_successes(settings.method, data, console)

    def report(entry: StepReport) -> None:
        print_report(entry.step, settings.gradient_steps, entry.metrics, json_output)

    session = train(
        settings,
        contract,
        data,
        out,
        init=init,
        device=device,
        text_encoder=text_encoder,
        vision_weights=vision_weights,
        only_vision=only_vision,
        report=report,
        stopped=stop_on_interrupt(launched=group.size > 1),
        group=group,
        encoding=lambda: console.status("encoding every frame once"),
    )
    group.leave()
    if not session.finished:
        if group.main:
            console.print(f"stopped at step {session.step}; the same command goes on from there")
        raise typer.Exit(130)
    if group.main:
        again = "nothing was left to do" if session.seconds == 0 else f"trained for {session.seconds:.0f} s"
        place = out / "checkpoint"
        console.print(f"finished at step {session.step}, {again}; checkpoint: {place}", markup=False, soft_wrap=True)


def parse_settings(entries: list[str]) -> dict[str, Any]:
    """``["loss.alpha=20"]`` -> {"loss.alpha": 20}; values are YAML. typer.BadParameter when there is no ``=``."""
    settings: dict[str, Any] = {}
    for entry in entries:
        key, equals, value = entry.partition("=")
        if not equals:
            raise typer.BadParameter(f"--set needs key=value, found {entry!r}")
        try:
            settings[key] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise typer.BadParameter(f"--set {entry}: the value is no YAML ({error})") from error
    return settings


def load_data(stores: list[str], gamma: float, console: Console, **options: Any) -> Any:
    """Training data with a progress line on ``console``; a StepData. ``options``: see `open_data`."""
    from qt_ros.learning.stores import open_data

    with console.status("reading stores") as status:
        return open_data(stores, gamma, progress=status.update, **options)


def warn_of_successes(method: str, data: Any, console: Console) -> None:
    """Say that a method which learns values is given nothing that fails; cloning needs no failures."""
    if method != "rt1_bc" and data.success.all():
        console.print(
            f"all {len(data.success)} episodes are successes: {method} sees no action fail; add failed episodes, such "
            "as the robot's own",
            markup=False,
            soft_wrap=True,
        )


def warn_of_scenes(stores: list[str], data: Any, console: Console) -> None:
    """Say of each of ``stores`` how many of its episodes are in scenes that policies are chosen by or compared on.

    ``data``: the StepData of them. Indexes of streamed stores do not know scenes; that is said too.
    """
    from qt_ros.episodes.roots import open_root, root_manifest
    from qt_ros.learning.dataset import TrainingData
    from qt_ros.learning.stores import parse_stores
    from qt_ros.sim.seeds import outside_training, range_of

    if not isinstance(data, TrainingData):
        console.print("streamed stores: not checked for episodes in tuning and test scenes", soft_wrap=True)
        return
    for place in dict.fromkeys(parse_stores(stores)[0]):
        episodes = root_manifest(open_root(place)).manifest.episodes
        found = Counter(range_of(e.seed) for e in episodes if e.seed is not None and outside_training(e.seed))
        if found:
            told = " and ".join(f"{found[name]} in {name} scenes" for name in ("tuning", "test") if found[name])
            console.print(
                f"[bold red]WARNING[/] {escape(place)}: of its {len(episodes)} episodes are {told}. Policies are "
                "chosen by tuning scenes and compared on test scenes: what learns from them must not be measured there",
                soft_wrap=True,
                highlight=False,
            )


def encode_text(encoder: Any, instructions: list[str]) -> Any:
    """Sentence embeddings of the instructions as a torch tensor (n, E) float32."""
    return encoder.encode(instructions)


def stop_on_interrupt(launched: bool = False) -> Any:
    """A function that turns true after the first Ctrl-C or SIGTERM; a second Ctrl-C ends the process at once.

    ``launched`` by a launcher, which passes on a Ctrl-C that the process has got already, only the launcher ends it at
    once.
    """
    asked = False

    def handler(signum: int, frame: Any) -> None:
        nonlocal asked
        asked = True
        if not launched:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, handler)
    signal.signal(signal.SIGTERM, handler)
    return lambda: asked


def print_report(step: int, total: int, metrics: dict[str, float], as_json: bool) -> None:
    """One line of progress on standard output."""
    if as_json:
        print(json.dumps({"step": step, **metrics}), flush=True)
        return
    numbers = "  ".join(f"{k} {v:.4g}" for k, v in metrics.items())
    print(f"{step:>7}/{total}  {numbers}", flush=True)
