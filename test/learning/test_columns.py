"""Step data are found by step number, whether all of them are there or only some."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from qt_ros.learning.columns import Columns

CPU = torch.device("cpu")
BINS = np.arange(20).reshape(10, 2)


def test_rows_of_whole_columns_are_step_numbers() -> None:
    columns = Columns({"bins": BINS}.__getitem__, CPU)
    frames = np.array([[0, 3], [9, 9]])
    assert columns.take("bins", columns.index(frames)).tolist() == BINS[frames].tolist()
    assert np.array_equal(columns.seen("bins", frames), BINS[frames])


def test_rows_of_loaded_steps_are_found_by_number_and_a_missing_one_is_an_error() -> None:
    numbers = np.array([2, 3, 7])
    columns = Columns.loaded(numbers, {"bins": BINS[numbers]}, CPU)
    frames = np.array([[7, 2], [3, 3]])
    assert columns.take("bins", columns.index(frames)).tolist() == BINS[frames].tolist()
    for missing in (4, 8, 0):
        with pytest.raises(KeyError, match="not loaded"):
            columns.index(np.array([2, missing]))


def test_a_column_that_is_on_the_device_already_is_added() -> None:
    columns = Columns({"bins": BINS}.__getitem__, CPU)
    columns.add("tokens", torch.arange(10))
    assert columns.take("tokens", columns.index(np.array([4, 1]))).tolist() == [4, 1]
