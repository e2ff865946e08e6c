"""Rows and rewards of a recipe: a built-in task, a file, or a data set of the hub."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from polytheory.access.language import WeightedReward
from polytheory.errors import ColumnError, SettingError, require
from polytheory.lab.training.recipe import Problem
from polytheory.models.text.tasks import task

Rows = dict[str, list[Any]]


@dataclass(frozen=True)
class Data:
    """What a recipe trains on: ``train`` and ``held_out`` columns, ``rewards``, ``completion_length`` in tokens."""

    train: Rows
    held_out: Rows
    rewards: tuple[WeightedReward, ...]
    completion_length: int


def load(problem: Problem, seed: int) -> Data:
    """The data of a recipe.

    Raises `SettingError`, `ColumnError`, `UnknownNameError` when something is missing, before any work.
    """
    if bool(problem.task) == bool(problem.data):
        raise SettingError(
            f"task = {problem.task!r} and data = {problem.data!r}; give one of them, and '' for the other"
        )
    rewards = _rewards(problem)
    if problem.task:
        it = task(problem.task)
        train = it.rows(problem.rows, seed=seed)
        held = it.rows(problem.held_out, split="held-out", seed=seed)
        own = rewards or (WeightedReward("right", it.reward),)
        return Data(train, held, own, problem.completion_length or it.length + 1)
    if not rewards:
        raise SettingError("data without reward; give reward = 'module:function', called with completions and columns")
    if problem.completion_length < 1:
        raise SettingError(
            f"completion_length = {problem.completion_length}; with data, say how long a completion may be"
        )
    rows = read_rows(problem.data, problem.split)
    n = len(next(iter(rows.values())))
    if not 1 <= problem.held_out < n:
        raise SettingError(f"held_out = {problem.held_out} of {n} rows; keep at least one row on either side")
    train = {k: v[: n - problem.held_out] for k, v in rows.items()}
    held = {k: v[n - problem.held_out :] for k, v in rows.items()}
    return Data(train, held, rewards, problem.completion_length)


def demonstrations(problem: Problem, rows: Rows, ways: Sequence[str]) -> Rows:
    """``rows`` with a column ``completion``. Raises `ColumnError` where ``data`` has no such column."""
    if problem.task:
        return {**rows, "completion": task(problem.task).demonstrate(rows, ways)}
    if len(ways) != 1 or ways[0] not in rows:
        raise ColumnError(f"demonstrations = {list(ways)}; with data, name one of its columns: {', '.join(rows)}")
    return {**rows, "completion": rows[ways[0]]}


def read_rows(source: str, split: str = "train") -> Rows:
    """Columns of a ``.jsonl`` or ``.parquet`` file, or of a data set of the hub (needs `datasets`).

    Raises `SettingError` for a file that cannot be read; `ColumnError` for rows that do not have the same columns.
    """
    path = Path(source)
    if path.suffix == ".jsonl":
        return _columns(source, _read_lines(path))
    if path.suffix == ".parquet":
        if not path.exists():
            raise SettingError(f"there is no file {source}")
        return require("pyarrow.parquet", "lab").read_table(path).to_pydict()
    if path.suffix:
        raise SettingError(
            f"data = {source!r}; give a .jsonl or .parquet file, or a name on the hub such as openai/gsm8k"
        )
    return _columns(source, list(require("datasets", "lm").load_dataset(source, split=split)))


def _read_lines(path: Path) -> list[Mapping[str, Any]]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise SettingError(f"cannot read {path}: {error.strerror}") from error
    rows = []
    for i, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SettingError(f"{path}, line {i} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SettingError(f"{path}, line {i} is no object; a line is {{'prompt': ..., ...}}")
        rows.append(row)
    return rows


def _columns(source: str, rows: Sequence[Mapping[str, Any]]) -> Rows:
    if not rows:
        raise SettingError(f"{source} has no rows")
    names = list(rows[0])
    for i, row in enumerate(rows):
        if set(row) != set(names):
            raise ColumnError(f"{source}: row {i} has the columns {sorted(row)}, the first has {sorted(names)}")
    return {name: [row[name] for row in rows] for name in names}


def _rewards(problem: Problem) -> tuple[WeightedReward, ...]:
    weights = problem.reward_weights or (1.0,) * len(problem.reward)
    if len(weights) != len(problem.reward):
        raise SettingError(f"{len(weights)} reward_weights for {len(problem.reward)} rewards; give one each")
    return tuple(
        WeightedReward(name.rpartition(":")[2], function(name), float(w))
        for name, w in zip(problem.reward, weights, strict=True)
    )


def function(name: str) -> Any:
    """The function behind ``module:function``; modules of the current folder count. Raises `SettingError`."""
    module, colon, attribute = name.partition(":")
    if not colon or not module or not attribute:
        raise SettingError(f"reward = {name!r}; write module:function, such as my_rewards:length")
    if "" not in sys.path:
        sys.path.insert(0, "")
    try:
        found = getattr(import_module(module), attribute, None)
    except ImportError as error:
        raise SettingError(
            f"reward = {name!r}: cannot import {module} ({error}); run where {module}.py stands"
        ) from error
    if not callable(found):
        raise SettingError(f"reward = {name!r}: {module} has no function {attribute}")
    return found
