"""Trainings side by side: cells run once, intervals, refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

from polytheory.cli.main import call
from polytheory.errors import DivergedError, RunError, SettingError, UnknownNameError
from polytheory.lab.training.compare import CELL, Cell, compare, figure, rows

SMALL = {"steps": 2, "sft_steps": 2, "sft_batch": 8, "rows": 64, "held_out": 8, "prompts": 5, "group_size": 2}


def test_every_cell_is_trained_once_and_kept(tmp_path):
    told: list[str] = []
    cells = compare(["rloo", "riskpo"], 2, folder=tmp_path, changes=SMALL, jobs=1, say=told.append)
    assert [(c.recipe, c.seed) for c in cells] == [("rloo", 0), ("riskpo", 0), ("rloo", 1), ("riskpo", 1)]
    assert len(told) == 4
    assert all(len(c.rewards) == 2 for c in cells)
    (tmp_path / "rloo" / "seed-1" / CELL).unlink()
    assert compare(["rloo", "riskpo"], 2, folder=tmp_path, changes=SMALL, jobs=1, say=told.append) == cells
    assert len(told) == 5


def test_the_command_draws_and_prints(tmp_path, capsys):
    words = ["train", "--compare", "rloo", *(f"{k}={v}" for k, v in SMALL.items()), f"output={tmp_path}", "--json"]
    assert call(words) == 0
    assert json.loads(capsys.readouterr().out)[0]["recipe"] == "rloo"
    assert "<polyline" in (tmp_path / "comparison.html").read_text()


def test_a_training_that_fails_leaves_the_others_alone(tmp_path):
    def broken(name, seed, changes, folder):
        if seed == 1:
            raise DivergedError("loss nan")
        return Cell(name, seed, [0.5], 0.0, 0.5, 0.5)

    told: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("polytheory.lab.training.compare._cell", broken)
        with pytest.raises(RunError, match="all 2 trainings failed"):
            compare(["rloo"], 2, folder=tmp_path, changes=SMALL, jobs=1, say=told.append)
    assert told == ["rloo, seed 0: 0.0% -> 50.0%", "rloo, seed 1: failed: loss nan"]


def test_the_command_says_that_one_failed(tmp_path, capsys):
    (tmp_path / "grpo" / "seed-0").mkdir(parents=True)
    (tmp_path / "grpo" / "seed-0" / CELL).write_text(json.dumps(vars(Cell("grpo", 0, [0.5, 0.5], 0.0, 0.5, 0.5))))
    settings = SMALL | {"max_kl": 1e-30}  # no second update stays this near
    words = ["train", "--compare", "grpo", "--seeds", "2", *(f"{k}={v}" for k, v in settings.items())]
    assert call([*words, f"output={tmp_path}"]) == 1
    assert "1 of 2 trainings failed" in capsys.readouterr().err
    assert "<polyline" in (tmp_path / "comparison.html").read_text()


def test_intervals_are_student_s_over_seeds():
    cells = [Cell("a", i, [x], 0.0, x, x) for i, x in enumerate((0.1, 0.3, 0.5))] + [Cell("b", 0, [0.2], 0.0, 0.0, 0.0)]
    first, second = figure(cells).series
    # mean 0.3, deviation 0.2, t(0.975, 2) = 4.302653
    assert first.y == pytest.approx([0.3])
    assert first.high[0] - first.y[0] == pytest.approx(4.302653 * 0.2 / np.sqrt(3), rel=1e-6)
    assert first.y[0] - first.low[0] == pytest.approx(first.high[0] - first.y[0])
    assert second.low == []
    assert rows(cells)[0][2] == "30.0% (10.0% to 50.0%)"
    assert rows(cells)[1][2] == "0.0%"


@pytest.mark.parametrize(
    ("names", "seeds", "changes", "error", "text"),
    [
        (["grpo"], 0, {}, SettingError, "0 seeds"),
        (["grpo", "grpo"], 1, {}, SettingError, "twice"),
        (["grop"], 1, {}, UnknownNameError, "grpo"),
        (["grpo"], 1, {"seed": 3}, SettingError, "seed is chosen"),
        (["grpo"], 1, {"stepz": 3}, UnknownNameError, "steps"),
    ],
)
def test_bad_input_is_one_line_before_any_work(names, seeds, changes, error, text, tmp_path):
    with pytest.raises(error, match=text):
        compare(names, seeds, folder=tmp_path, changes=changes)
    assert not any(tmp_path.iterdir())


def test_a_damaged_cell_says_what_to_do(tmp_path):
    place = tmp_path / "rloo" / "seed-0"
    place.mkdir(parents=True)
    (place / CELL).write_text("{")
    with pytest.raises(SettingError, match="remove it to train again"):
        compare(["rloo"], 1, folder=tmp_path, changes=SMALL)
