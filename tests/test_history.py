"""The record of a run: columns, summaries, and a file without NaN."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from polytheory.errors import CheckpointError, SettingError, UnknownNameError
from polytheory.history import History, HistoryFile


def test_columns_by_step_and_replica():
    history = History(replicas=3)
    for step in range(4):
        history.log(step, {"loss": np.arange(3) + step, "step_size": 0.5})
    np.testing.assert_array_equal(history.column("loss"), np.arange(4)[:, None] + np.arange(3))
    assert history.column("step_size").shape == (4, 1)
    np.testing.assert_array_equal(history.last("loss"), [3, 4, 5])
    rows = [(0, 0, "loss", 0), (0, 1, "loss", 1), (0, 2, "loss", 2), (0, 0, "step_size", 0.5), (1, 0, "loss", 1)]
    assert list(history.rows())[:5] == rows


def test_a_name_that_comes_now_and_then():
    history = History()
    for step in range(5):
        history.log(step, {"eval": step} if step % 2 else {})
    assert history.steps("eval").tolist() == [1, 3]
    assert history.column("eval").tolist() == [[1], [3]]
    with pytest.raises(UnknownNameError, match="did you mean 'eval'"):
        history.last("evals")


def test_batches_are_summed_up():
    history = History(replicas=2)
    history.log(0, {"returns": np.arange(6.0).reshape(2, 3), "lengths": torch.tensor([4, 6, 8]), "none": np.zeros(0)})
    assert history.names == tuple(
        f"{x}/{how}" for x in ("returns", "lengths", "none") for how in ("mean", "min", "max")
    )
    np.testing.assert_array_equal(history.last("returns/mean"), [1, 4])
    np.testing.assert_array_equal(history.last("returns/max"), [2, 5])
    assert [float(history.last(f"lengths/{x}")[0]) for x in ("mean", "min", "max")] == [6, 4, 8]
    assert np.isnan(history.last("none/mean")).all()


@pytest.mark.parametrize("bad", ["text", object(), [1, [2, 3]], None])
def test_what_is_not_a_number(bad):
    if bad is None:  # missing
        history = History()
        history.log(0, {"x": bad})
        assert np.isnan(history.last("x")).all()
        return
    with pytest.raises(SettingError, match=r"info\['x'\]"):
        History().log(0, {"x": bad})


def test_not_finite_is_missing_in_memory_and_null_in_the_file(tmp_path):
    history, file = History(replicas=2), HistoryFile(tmp_path)
    file.restart()
    history.log(0, {"bound": np.inf, "each": np.array([np.nan, 0.1])})
    mark = file.append(history)
    line = (tmp_path / "history.jsonl").read_text()
    assert json.loads(line, parse_constant=pytest.fail) == {"step": 0, "values": {"bound": None, "each": [None, 0.1]}}
    for h in (history, HistoryFile(tmp_path).read(mark, 2)):
        assert np.isnan(h.last("bound")).all()
        np.testing.assert_array_equal(h.last("each"), [np.nan, 0.1])


def test_the_file_gives_back_every_bit(tmp_path):
    history, file = History(replicas=2), HistoryFile(tmp_path)
    file.restart()
    values = np.random.default_rng(0).normal(size=(20, 2)) * 10.0 ** np.arange(-10, 10)[:, None]
    for step, x in enumerate(values):
        history.log(step, {"x": x, "y": x[0]})
        mark = file.append(history)
    back = HistoryFile(tmp_path).read(mark, 2)
    for name in ("x", "y"):
        np.testing.assert_array_equal(back.column(name), history.column(name))
        np.testing.assert_array_equal(back.steps(name), history.steps(name))
    assert back.names == history.names


def test_a_shorter_or_changed_file_is_damaged(tmp_path):
    history, file = History(), HistoryFile(tmp_path)
    file.restart()
    history.log(0, {"x": 1.0})
    mark = file.append(history)
    text = (tmp_path / "history.jsonl").read_text()
    for harmed in (text[:-2], text.replace("1.0", "2.0")):
        (tmp_path / "history.jsonl").write_text(harmed)
        with pytest.raises(CheckpointError, match="damaged"):
            HistoryFile(tmp_path).read(mark, 1)
