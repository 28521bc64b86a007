"""What is fuzzed: every kind of file that may come from somebody else, opened the way the package opens it."""

from __future__ import annotations

import hashlib
import json
import logging
import random
import shutil
from collections.abc import Callable
from pathlib import Path

from fuzzing import Target, mutate, replace_scalar

from qt_ros.contract.check import check_contract
from qt_ros.contract.robot import load_contract
from qt_ros.contract.strict import ConfigError
from qt_ros.episodes.bag import read_metadata, recover
from qt_ros.episodes.bag_metadata import BagError
from qt_ros.episodes.build import build_store
from qt_ros.episodes.from_bag import episode_from_bag
from qt_ros.episodes.index import open_index
from qt_ros.episodes.manifest import StoreError
from qt_ros.episodes.parts import merge_manifests
from qt_ros.episodes.roots import open_root
from qt_ros.episodes.store import EpisodeStore, StoreWriter
from qt_ros.model.checkpoint import load_checkpoint, read_info
from qt_ros.model.tensor_files import CheckpointError

logging.disable(logging.CRITICAL)
CONTRACT = load_contract("mobile_manipulator")
SIZE = (24, 32)


def _source(folder: Path, rng: random.Random) -> tuple[Path, Path]:
    """(whole files, empty scratch folder); the first call, before fuzzing, opens the whole files themselves."""
    pristine = folder if (folder / "done").exists() else folder / "pristine"
    scratch = pristine.parent / "scratch" / "case"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    return pristine, scratch


def _whole(folder: Path) -> bool:
    return (folder / "done").exists()


# --- contract ---------------------------------------------------------------------------------------------------------


def prepare_contracts(folder: Path) -> None:
    for robot in ("mobile_manipulator", "stretch", "tiago", "husky_ur5e"):
        (folder / f"{robot}.yaml").write_text(load_contract(robot).text, encoding="utf-8")


def open_contract(folder: Path, rng: random.Random) -> None:
    pristine, scratch = _source(folder, rng)
    text = (pristine / f"{rng.choice(['mobile_manipulator', 'stretch', 'tiago', 'husky_ur5e'])}.yaml").read_text()
    path = scratch / "robot.yaml"
    if _whole(folder):
        path.write_text(text)
    elif rng.random() < 0.4:
        path.write_text(replace_scalar(text, rng))
    else:
        path.write_bytes(mutate(text.encode(), rng, text=True))
    contract = load_contract(path)
    if rng.random() < 0.2:
        check_contract(contract)


# --- description ------------------------------------------------------------------------------------------------------


def prepare_description(folder: Path) -> None:
    shutil.copy(Path(str(CONTRACT.urdf)), folder / "robot.urdf")


def open_description(folder: Path, rng: random.Random) -> None:
    from qt_ros.contract.kinematics import Kinematics

    pristine, _ = _source(folder, rng)
    data = (pristine / "robot.urdf").read_bytes()
    if not _whole(folder):
        data = mutate(data, rng, text=True)
    Kinematics.of(CONTRACT.with_description(data.decode("utf-8", errors="replace")))


# --- bag --------------------------------------------------------------------------------------------------------------


def prepare_bags(folder: Path) -> None:
    from bag_factory import custom_data, write_bag

    for name in ("none", "lz4", "zstd"):
        write_bag(folder / name, small_episode(), custom_data(CONTRACT), compression=name)


def small_episode() -> list:
    """An episode whose pictures are PNG files of nearly nothing, so that a case takes milliseconds."""
    import cv2
    import numpy as np
    from bag_factory import episode
    from sensor_msgs.msg import CompressedImage

    png = cv2.imencode(".png", np.zeros((480, 640, 3), np.uint8))[1].tobytes()
    said = []
    for entry in episode(CONTRACT, steps=2):
        if entry.topic.endswith("image_raw"):
            picture = CompressedImage(header=entry.message.header, format="png", data=png)
            entry = entry._replace(topic=f"{entry.topic}/compressed", message=picture)
        said.append(entry)
    return said


def _mutant_bag(folder: Path, rng: random.Random) -> Path:
    pristine, scratch = _source(folder, rng)
    uri = scratch / "bag"
    shutil.copytree(pristine / rng.choice(("none", "lz4", "zstd")), uri)
    if not _whole(folder):
        target = uri / "metadata.yaml" if rng.random() < 0.3 else next(uri.glob("*.mcap"))
        data = target.read_bytes()
        if target.suffix == ".yaml" and rng.random() < 0.4:
            target.write_text(replace_scalar(data.decode(), rng))
        else:
            target.write_bytes(mutate(data, rng, text=target.suffix == ".yaml"))
    return uri


def open_bag(folder: Path, rng: random.Random) -> None:
    uri = _mutant_bag(folder, rng)
    read_metadata(uri)
    episode_from_bag(uri, CONTRACT, SIZE, allow_other_contract=True)


def recover_bag(folder: Path, rng: random.Random) -> None:
    uri = _mutant_bag(folder, rng)
    recover(uri, force=True)
    episode_from_bag(uri, CONTRACT, SIZE, allow_other_contract=True)


def prepare_chunks(folder: Path) -> None:
    """Bags without compression and CRC: what is changed inside reaches the decoders."""
    from bag_factory import custom_data, write_bag

    write_bag(folder / "plain", small_episode(), custom_data(CONTRACT), compression="none")


def open_messages(folder: Path, rng: random.Random) -> None:
    """Mutants of messages and definitions in a bag that is whole by its own checksums."""
    from mcap.reader import make_reader
    from mcap.writer import CompressionType, Writer

    pristine, scratch = _source(folder, rng)
    uri = scratch / "bag"
    shutil.copytree(pristine / "plain", uri)
    path = next(uri.glob("*.mcap"))
    with path.open("rb") as stream:
        records = list(make_reader(stream).iter_messages())
    schema_of, channel_of = {}, {}
    whole = _whole(folder)
    chosen = set() if whole else {rng.randrange(len(records)) for _ in range(rng.choice((1, 3, len(records))))}
    broken_schema = None if whole or rng.random() < 0.6 else rng.choice([s.name for s, _, _ in records if s])
    with path.open("wb") as stream:
        writer = Writer(stream, compression=CompressionType.NONE)
        writer.start(profile="ros2", library="fuzz")
        for number, (schema, channel, message) in enumerate(records):
            if schema.name not in schema_of:
                data = mutate(schema.data, rng, text=True) if schema.name == broken_schema else schema.data
                schema_of[schema.name] = writer.register_schema(schema.name, schema.encoding, data)
            if channel.topic not in channel_of:
                channel_of[channel.topic] = writer.register_channel(
                    channel.topic, channel.message_encoding, schema_of[schema.name], channel.metadata
                )
            data = mutate(message.data, rng) if number in chosen else message.data
            writer.add_message(
                channel_of[channel.topic], message.log_time, data, message.publish_time, message.sequence
            )
        writer.finish()
    episode_from_bag(uri, CONTRACT, SIZE, allow_other_contract=True)


# --- store ------------------------------------------------------------------------------------------------------------


def prepare_store(folder: Path) -> None:
    from episode_factory import make_episode

    with StoreWriter(folder / "store", CONTRACT, SIZE, shard_episodes=3) as writer:
        for number in range(3):
            writer.add(make_episode(CONTRACT, number, steps=3, size=SIZE))


def open_store(folder: Path, rng: random.Random) -> None:
    """Half of the mutated shards have their size and hash corrected, so that the content itself is read."""
    pristine, scratch = _source(folder, rng)
    root = scratch / "store"
    shutil.copytree(pristine / "store", root)
    if not _whole(folder):
        manifest = root / "store.json"
        if rng.random() < 0.4:
            text = manifest.read_text()
            changed = replace_json(text, rng) if rng.random() < 0.5 else None
            manifest.write_bytes(mutate(text.encode(), rng, text=True) if changed is None else changed.encode())
        else:
            shard = next((root / "shards").glob("*.parquet"))
            shard.write_bytes(mutate(shard.read_bytes(), rng))
            document = json.loads(manifest.read_text())
            entry = document["shards"][0]
            entry["bytes"], entry["sha256"] = shard.stat().st_size, hashlib.sha256(shard.read_bytes()).hexdigest()
            manifest.write_text(json.dumps(document))
    store = EpisodeStore(root, CONTRACT if rng.random() < 0.5 else None, allow_other_contract=True)
    store.load_all(threads=1)
    for index in range(len(store)):
        store.episode(index)
    list(store)


def prepare_index(folder: Path) -> None:
    prepare_store(folder)
    open_index(open_root(folder / "store"), folder / "cache")


def open_mutant_index(folder: Path, rng: random.Random) -> None:
    """The index that came with a store; that of the episodes often with its hash corrected. And a writer's part."""
    pristine, scratch = _source(folder, rng)
    root = scratch / "store"
    shutil.copytree(pristine / "store", root)
    if not _whole(folder):
        record, (table,) = root / "index" / "index.json", (root / "index").glob("*.npy")
        kind = rng.random()
        if kind < 0.4:
            text = record.read_text()
            record.write_text(replace_json(text, rng)) if rng.random() < 0.6 else record.write_bytes(
                mutate(text.encode(), rng, text=True)
            )
        elif kind < 0.7:
            table.write_bytes(mutate(table.read_bytes(), rng))
            document = json.loads(record.read_text())
            document["files"]["episodes"]["sha256"] = hashlib.sha256(table.read_bytes()).hexdigest()
            record.write_text(json.dumps(document))
        elif kind < 0.8:
            steps = next((root / "index").glob("*.bin"))
            steps.write_bytes(mutate(steps.read_bytes(), rng))
        else:
            part = root / "parts" / "shard.json"
            document = json.loads(part.read_text())
            lines = "".join(json.dumps(shard) + "\n" for shard in document.pop("shards"))
            part.write_text(json.dumps({**document, "shards": [], "episodes": 0, "steps": 0}))
            part.with_suffix(".jsonl").write_bytes(mutate(lines.encode(), rng, text=True))
            merge_manifests(root)
    index = open_index(open_root(root), scratch / "cache")
    for episode in range(min(len(index.episodes), 20)):
        index.frames(episode, index.records(episode))


def replace_json(text: str, rng: random.Random) -> str:
    """One value of a JSON document exchanged, keeping it JSON."""
    document = json.loads(text)
    places: list[tuple[object, object]] = []

    def walk(value: object) -> None:
        items: list = (
            list(value.items())
            if isinstance(value, dict)
            else list(enumerate(value))
            if isinstance(value, list)
            else []
        )
        for key, inner in items:
            places.append((value, key))
            walk(inner)

    walk(document)
    container, key = rng.choice(places)
    values = (
        -1,
        0,
        1,
        10**6,
        10**12,
        10**30,
        1e308,
        None,
        True,
        "",
        "x" * 1000,
        "../../x",
        [],
        {},
        [[]],
        {"a": 1},
        [None],
    )
    container[key] = rng.choice(values)  # type: ignore[index]
    return json.dumps(document)


# --- checkpoint -------------------------------------------------------------------------------------------------------


def prepare_checkpoint(folder: Path) -> None:
    from small_checkpoint import make_checkpoint

    make_checkpoint(folder / "checkpoint")


def open_checkpoint(folder: Path, rng: random.Random) -> None:
    """Half of the mutated weights have their size and hash corrected, so that the tensors themselves are read."""
    pristine, scratch = _source(folder, rng)
    target = scratch / "checkpoint"
    shutil.copytree(pristine / "checkpoint", target)
    record, weights = target / "checkpoint.json", target / "model.safetensors"
    if not _whole(folder):
        if rng.random() < 0.6:
            text = record.read_text()
            changed = replace_json(text, rng) if rng.random() < 0.6 else None
            record.write_bytes(mutate(text.encode(), rng, text=True) if changed is None else changed.encode())
        else:
            data = weights.read_bytes()
            head = int.from_bytes(data[:8], "little") + 8
            weights.write_bytes(mutate(data[:head], rng) + data[head:] if rng.random() < 0.7 else mutate(data, rng))
            if rng.random() < 0.8:
                document = json.loads(record.read_text())
                digest = hashlib.sha256(weights.read_bytes()).hexdigest()
                document["weights"].update(bytes=weights.stat().st_size, sha256=digest)
                document["id"] = digest
                record.write_text(json.dumps(document))
    read_info(target)
    load_checkpoint(target, contract=CONTRACT if rng.random() < 0.5 else None)


def build_from_bag(folder: Path, rng: random.Random) -> None:
    uri = _mutant_bag(folder, rng)
    build_store([uri], uri.parent / "store", CONTRACT, SIZE)


_ALL: list[
    tuple[str, Callable[[Path], None], Callable[[Path, random.Random], None], tuple[type[BaseException], ...]]
] = [
    ("contract", prepare_contracts, open_contract, (ConfigError,)),
    ("description", prepare_description, open_description, (ConfigError,)),
    ("bag", prepare_bags, open_bag, (BagError,)),
    ("recover", prepare_bags, recover_bag, (BagError,)),
    ("messages", prepare_chunks, open_messages, (BagError,)),
    ("store", prepare_store, open_store, (StoreError,)),
    ("index", prepare_index, open_mutant_index, (StoreError,)),
    ("build", prepare_bags, build_from_bag, (StoreError,)),
    ("checkpoint", prepare_checkpoint, open_checkpoint, (CheckpointError,)),
]
TARGETS = {name: Target(name, *rest) for name, *rest in _ALL}
