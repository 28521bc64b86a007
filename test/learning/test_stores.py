"""Stores as they are typed: places, weights, and whether they are read into memory or streamed."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
from fast_folder import fast_folder
from range_server import serving
from store_factory import losses, make_store, trainer_on

from qt_ros.episodes.manifest import StoreError
from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.errors import TrainingError
from qt_ros.learning.stores import NamedStore, open_data, parse_store, parse_stores
from qt_ros.learning.streaming import StreamedData


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    with fast_folder() as folder:
        yield folder


def test_a_weight_stands_behind_the_last_equals_sign(tmp_path: Path) -> None:
    assert parse_store("stores/demos") == NamedStore("stores/demos")
    assert parse_store("stores/demos=0.5") == NamedStore("stores/demos", 0.5)
    assert parse_store("https://x/y?key=a=2") == NamedStore("https://x/y?key=a", 2.0)
    assert parse_store("https://x/y?key=a") == NamedStore("https://x/y?key=a")
    (tmp_path / "rate=3").mkdir()
    assert parse_store(f"{tmp_path}/rate=3") == NamedStore(f"{tmp_path}/rate=3")
    assert parse_store(f"{tmp_path}/rate=3=2") == NamedStore(f"{tmp_path}/rate=3", 2.0)
    for wrong in ("0", "-1", "nan", "inf"):
        with pytest.raises(TrainingError, match="a weight must be positive"):
            parse_store(f"stores/demos={wrong}")


def test_all_stores_have_a_weight_or_none() -> None:
    assert parse_stores(["a=1", "b=3"]) == (["a", "b"], [1.0, 3.0])
    assert parse_stores(["a", "b"]) == (["a", "b"], None)
    with pytest.raises(TrainingError, match=r"others none \(b\)"):
        parse_stores(["a=1", "b"])


def test_what_fits_into_memory_goes_there_and_the_rest_is_streamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = str(make_store(tmp_path / "store", range(4)))
    assert isinstance(open_data([store], 0.9), TrainingData)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=10_000))
    assert isinstance(open_data([store], 0.9), StreamedData)
    assert isinstance(open_data([store], 0.9), StreamedData)  # now by its index
    assert isinstance(open_data([store], 0.9, stream=False), TrainingData)
    with serving(tmp_path / "store") as server:
        assert isinstance(open_data([server.url], 0.9, cache=tmp_path / "cache"), StreamedData)
        assert isinstance(open_data([server.url], 0.9, stream=False, cache=tmp_path / "cache"), TrainingData)


def test_a_store_that_is_not_there_is_named(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    with pytest.raises(StoreError, match="no finished store is here; its writers have not finished"):
        open_data([str(tmp_path)], 0.9)


@pytest.mark.parametrize("stream", [False, True])
def test_stores_are_mixed_by_weight_whatever_their_size(tmp_path: Path, stream: bool) -> None:
    make_store(tmp_path / "small", range(4))
    make_store(tmp_path / "large", range(100, 130))
    entries = [f"{tmp_path}/small=3", f"{tmp_path}/large=1"]
    for share in (None, 0.5):
        data = open_data(entries, 0.9, stream=stream)
        trainer = trainer_on(data, tmp_path / f"run-{share}", success_share=share, batch=32)
        batches = [trainer.batches.source.at(step)[0] for step in range(60)]
        drawn = np.concatenate([segments.episodes for segments in batches])
        assert 0.7 < (drawn < 4).mean() < 0.8
        if share is not None:
            assert 0.45 < data.success[drawn].mean() < 0.55
        data.close()


def test_both_ways_draw_the_same_mix_and_a_run_goes_on_only_with_its_weights(tmp_path: Path) -> None:
    make_store(tmp_path / "a", range(6))
    make_store(tmp_path / "b", range(100, 106))

    def entries(first: int) -> list[str]:
        return [f"{tmp_path}/a={first}", f"{tmp_path}/b=1"]

    changes = {"gradient_steps": 4, "log_every": 1, "save_every": 2}
    curves = [
        losses(trainer_on(open_data(entries(2), 0.9, stream=stream), tmp_path / str(stream), **changes))
        for stream in (False, True)
    ]
    assert curves[0] == curves[1]
    with pytest.raises(TrainingError, match=r"other settings or data \(weights\)"):
        trainer_on(open_data(entries(5), 0.9), tmp_path / "True", **changes)
