"""Reporters: the history's numbers, each step once, also over a kill; what is missing is said before any work."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from polytheory.cli.main import call
from polytheory.errors import MissingExtraError, SettingError, UnknownNameError
from polytheory.lab.training.recipe import read
from polytheory.lab.training.reporters import Reports
from polytheory.lab.training.train import train

SMALL = {
    "steps": 5, "sft_steps": 2, "sft_batch": 8, "rows": 64, "held_out": 8, "prompts": 2, "group_size": 4,
    "every": "2 steps",
}  # fmt: skip


def written(folder):
    """{name: [(step, value)]} of the history's file."""
    found: dict[str, list] = {}
    for line in (folder / "checkpoints" / "history.jsonl").read_text().splitlines():
        row = json.loads(line)
        for name, x in row["values"].items():
            if x is not None:
                found.setdefault(name, []).append((row["step"], x))
    return found


def on_the_board(folder):
    """The same, as TensorBoard reads its files."""
    board = EventAccumulator(str(folder / "tensorboard"), size_guidance={"scalars": 0})
    board.Reload()
    return {name: [(e.step, e.value) for e in board.Scalars(name)] for name in board.Tags()["scalars"]}


def rounded(rows):
    """The history as TensorBoard keeps it."""
    return {name: [(step, float(np.float32(x))) for step, x in points] for name, points in rows.items()}


class Wandb:
    """What wandb offers of itself, and what was asked of it."""

    def __init__(self):
        self.started, self.rows, self.ends = [], [], []
        self.__spec__ = ModuleSpec("fake", None)  # others ask whether the package is there

    def init(self, **settings):
        self.started.append(settings)
        log = lambda values, step, commit: self.rows.append((step, values, commit))  # noqa: E731
        place = Path(settings["dir"], f"wandb/offline-run-{len(self.started)}-{settings['id']}")
        place.mkdir(parents=True)
        return SimpleNamespace(
            log=log, finish=lambda exit_code: self.ends.append(exit_code), offline=True, resumed=False, sync_dir=str(place),
            id=settings["id"],
        )  # fmt: skip


class Trackio(Wandb):
    def init(self, **settings):
        self.started.append(settings)
        log = lambda values, step: self.rows.append((step, values, True))  # noqa: E731
        return SimpleNamespace(log=log, finish=lambda: self.ends.append(0), project="p", name=settings["name"])


@pytest.fixture
def fakes(monkeypatch):
    made = {"wandb": Wandb(), "trackio": Trackio()}
    for name, fake in made.items():
        monkeypatch.setitem(sys.modules, name, fake)
    return made


def test_every_place_gets_the_history_number_for_number(tmp_path, fakes):
    train(read("grpo", {**SMALL, "report_to": "tensorboard,wandb,trackio", "probe_every": 2}), output=tmp_path)
    expected = written(tmp_path)
    assert [step for step, _ in expected["reward"]] == [0, 1, 2, 3, 4]
    assert [step for step, _ in expected["probe/cosine"]] == [1, 3]
    assert on_the_board(tmp_path) == rounded(expected)
    for fake in fakes.values():
        got: dict[str, list] = {}
        for step, values, commit in fake.rows:
            assert commit
            for name, x in values.items():
                got.setdefault(name, []).append((step, x))
        assert got == expected
        assert fake.ends == [0]
        assert fake.started[0]["config"]["prompts"] == 2


def _dies_at(step, folder):
    torch.set_num_threads(1)

    def die(state, info, at):
        if at == step:
            os._exit(9)

    train(read("grpo", {**SMALL, "report_to": "tensorboard"}), output=folder, callbacks=[die])


def test_after_a_kill_no_step_is_there_twice_and_none_is_missing(tmp_path):
    for step in (1, 3):  # before the first checkpoint, and between two
        child = multiprocessing.get_context("fork").Process(target=_dies_at, args=(step, tmp_path))
        child.start()
        child.join(120)
        assert child.exitcode == 9
        assert [s for s, _ in on_the_board(tmp_path)["reward"]] == list(range(step + 1))
    train(read("grpo", {**SMALL, "report_to": "tensorboard"}), output=tmp_path)
    assert on_the_board(tmp_path) == rounded(written(tmp_path))


def test_a_place_that_comes_later_gets_what_was_before(tmp_path, fakes):
    stop = [lambda state, info, step: step == 2]
    train(read("grpo", {**SMALL, "report_to": "wandb"}), output=tmp_path, callbacks=stop)
    assert [step for step, *_ in fakes["wandb"].rows] == [0, 1, 2]
    train(read("grpo", {**SMALL, "report_to": "wandb,trackio"}), output=tmp_path)
    assert [step for step, *_ in fakes["wandb"].rows] == [0, 1, 2, 3, 4]
    assert [step for step, *_ in fakes["trackio"].rows] == [0, 1, 2, 3, 4]
    first, second = fakes["wandb"].started
    assert first["id"] == second["id"]
    assert second["resume"] == "allow"


def test_what_a_killed_process_kept_to_itself_is_sent_again(tmp_path, fakes):
    # wandb offline and trackio write behind: after a kill nobody knows what arrived
    def row(reports, step):
        reports(None, {"reward": float(step)}, step)

    kept = tmp_path / "checkpoints" / "history.jsonl"
    kept.parent.mkdir()
    kept.write_text("".join(json.dumps({"step": s, "values": {"reward": float(s)}}) + "\n" for s in range(4)))
    with Reports(["wandb", "trackio"], tmp_path, {}) as reports:
        row(reports, 0)
    killed = Reports(["wandb", "trackio"], tmp_path, {})
    for step in (1, 2, 3):
        row(killed, step)
    storage = SimpleNamespace(get_max_step_for_run=lambda project, name: 1)
    fakes["trackio"].__path__ = []
    sys.modules["trackio.sqlite_storage"] = SimpleNamespace(SQLiteStorage=storage)
    for fake in fakes.values():
        fake.rows.clear()
    try:
        with Reports(["wandb", "trackio"], tmp_path, {}) as reports:
            for step in (2, 3, 4):
                row(reports, step)
    finally:
        del sys.modules["trackio.sqlite_storage"]
    assert [step for step, *_ in fakes["wandb"].rows] == [1, 2, 3, 4]
    assert [step for step, *_ in fakes["trackio"].rows] == [2, 3, 4]
    number = json.loads((tmp_path / "reports.json").read_text())["id"]
    found = sorted(path.name for path in (tmp_path / "wandb").iterdir())
    assert found == [f"killed-offline-run-2-{number}", f"offline-run-1-{number}", f"offline-run-3-{number}"]


def test_a_run_that_fails_is_told_so(tmp_path, fakes):
    def fail(state, info, step):
        raise SettingError("no")

    with pytest.raises(SettingError, match="no"):
        train(read("grpo", {**SMALL, "report_to": "wandb"}), output=tmp_path, callbacks=[fail])
    assert fakes["wandb"].ends == [1]


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_one_line_before_any_work(name, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtraError, match=rf"needs {name}.*polytheory\[loggers\]"):
        train(read("grpo", {**SMALL, "report_to": name}), output=tmp_path / "run")
    assert (
        call(["train", *(f"{k}={v}" for k, v in SMALL.items()), f"report_to={name}", f"output={tmp_path / 'run'}"]) == 2
    )
    assert f"needs {name}" in capsys.readouterr().err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_names_and_places_are_checked(tmp_path, fakes):
    with pytest.raises(UnknownNameError, match="tensorboard"):
        Reports(["tensorbord"], tmp_path, {})
    with pytest.raises(SettingError, match="give output"):
        Reports(["wandb"], None, {})
    fakes["wandb"].init = lambda **settings: 1 / 0
    with pytest.raises(SettingError, match="division by zero; run `wandb login`, or set WANDB_MODE=offline"):
        Reports(["wandb"], tmp_path, {})
