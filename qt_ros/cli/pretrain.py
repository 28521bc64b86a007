"""`qt-ros pretrain`: warm up the vision side by pointing at the named object and the tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qt_ros.cli.train import encode_text, load_data, parse_settings, print_report, stop_on_interrupt, warn_of_scenes


def command(
    store: Annotated[
        list[str],
        typer.Option(help="Store collected in the simulator (it has key points), folder or URL; may be repeated."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint, the training state and TensorBoard logs.")],
    robot: Annotated[str, typer.Option(help="Name in config/robots or path of a contract.")] = "mobile_manipulator",
    preset: Annotated[str, typer.Option(help="Model preset: small or paper.")] = "small",
    steps: Annotated[int, typer.Option(help="Gradient steps.", min=1)] = 4000,
    batch: Annotated[int, typer.Option(help="Frames per gradient step.", min=1)] = 64,
    rate: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3,
    seed: Annotated[int, typer.Option(help="Of the fresh weights and of the order of frames.", min=0)] = 0,
    text_encoder: Annotated[
        str | None, typer.Option(help="Sentence-transformers name or folder; minilm if absent.")
    ] = None,
    vision_weights: Annotated[
        str | None, typer.Option(help="ImageNet weights of an EfficientNet: file, folder or hub id.")
    ] = None,
    threads: Annotated[int, typer.Option(help="CPU threads; 0 leaves it to torch.", min=0)] = 0,
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="Change one model field, e.g. --set history=1.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...")] = "cpu",
    json_output: Annotated[bool, typer.Option("--json", help="Print one JSON object per report.")] = False,
) -> None:
    """Train the vision side of a fresh model to point at the named object and at the tool (simulator data only).

    Example: qt-ros pretrain --store data/demos --out runs/warm --steps 4000
    """
    from torch.utils.tensorboard import SummaryWriter

    from qt_ros.contract.robot import load_contract
    from qt_ros.learning.guards import find_device
    from qt_ros.learning.pointing import PointingConfig, PointingTrainer
    from qt_ros.learning.run import build_model, save_pointing, started_from
    from qt_ros.model.q_transformer import QTransformer

    console = Console(stderr=True)
    contract = load_contract(robot)
    find_device(device)  # before stores are read, which can take minutes
    data = load_data(store, 1.0, console, stream=False)
    warn_of_scenes(store, data, console)
    fields = {"preset": preset, **parse_settings(set_ or [])}
    model, encoder = build_model(
        fields, contract, data, None, device, seed=seed, text_encoder=text_encoder, vision_weights=vision_weights
    )
    assert isinstance(model, QTransformer)  # what build_model makes unless told otherwise
    settings = PointingConfig(gradient_steps=steps, batch=batch, learning_rate=rate, seed=seed, threads=threads)
    start = started_from(encoder, None, vision_weights)
    text = encode_text(encoder, data.instructions)
    trainer = PointingTrainer(model, data, text, settings, out / "state", device, start=start)
    stopped = stop_on_interrupt()
    with SummaryWriter(str(out / "log"), purge_step=trainer.step + 1) as writer:

        def report(step: int, metrics: dict[str, float]) -> None:
            for key, value in metrics.items():
                writer.add_scalar(f"pointing/{key}", value, step)
            print_report(step, steps, metrics, json_output)

        finished = trainer.run(report, stopped)
    save_pointing(out / "checkpoint", model, contract, encoder, settings, data, trainer.step, vision_weights)
    if not finished:
        console.print(f"stopped at step {trainer.step}; the same command goes on from there")
        raise typer.Exit(130)
    console.print(f"checkpoint: {out / 'checkpoint'}")
