"""Rows of a data set as columns: from a file, a folder, or the hub."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from polytheory.errors import ColumnError, SettingError, UnknownNameError, require

Rows = dict[str, list[Any]]

_SPLIT = re.compile(r"(?P<name>[^\[\]]+)(\[(?P<start>-?\d+%?)?:(?P<stop>-?\d+%?)?\])?")


def read_rows(source: str, split: str = "train", subset: str = "") -> Rows:
    """Columns of a ``.jsonl`` or ``.parquet`` file, a folder, or a data set of the hub.

    Args:
        source: a file; a folder that `datasets` saved, or that holds Parquet or JSON Lines files as hub repositories do;
            else a name on the hub.
        split: such as ``train``, ``train[:1000]``, ``train[10%:20%]``. A file holds one split: its name is not looked at.
        subset: of a data set on the hub or in a folder that has several, such as ``main`` of openai/gsm8k.

    Raises `SettingError` for what cannot be read; `ColumnError` for rows that do not have the same columns.
    """
    path = Path(source)
    if path.is_dir():
        return _from_folder(path, split, subset)
    if path.suffix in (".jsonl", ".parquet"):
        if subset:
            raise SettingError(f"subset = {subset!r}: {source} is a file, which has none; leave it out")
        if not path.is_file():
            raise SettingError(f"there is no file {source}; give a path from {Path.cwd()}")
        read = _from_lines if path.suffix == ".jsonl" else _from_parquet
        return _cut(read(path), split)
    if path.suffix in (".json", ".csv", ".tsv", ".txt", ".gz") or source.startswith(("/", ".")):
        raise SettingError(
            f"data = {source!r} cannot be read; give a .jsonl or .parquet file, a folder, or a name on the hub such as "
            "openai/gsm8k"
        )
    return _from_hub(source, split, subset)


def columns_of(source: str, rows: Sequence[Mapping[str, Any]]) -> Rows:
    """Rows turned into columns. Raises `ColumnError` where a row has other columns than the first."""
    names = list(rows[0]) if rows else []
    for i, row in enumerate(rows):
        if set(row) != set(names):
            raise ColumnError(f"{source}: row {i} has the columns {sorted(row)}, the first has {sorted(names)}")
    return _some(source, {name: [row[name] for row in rows] for name in names})


def _from_lines(path: Path) -> Rows:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise SettingError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
    rows = []
    for i, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise SettingError(f"{path}, line {i} is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise SettingError(f"{path}, line {i} is no object; a line is {{'prompt': ..., ...}}")
        rows.append(row)
    return columns_of(str(path), rows)


def _from_parquet(path: Path) -> Rows:
    parquet = require("pyarrow.parquet", "lm")
    try:
        return _some(str(path), parquet.read_table(path).to_pydict())
    except (OSError, ValueError) as error:  # pyarrow's own errors are among them
        raise SettingError(f"{path} is no Parquet file: {_one_line(error)}") from error


def _from_folder(path: Path, split: str, subset: str) -> Rows:
    datasets = require("datasets", "lm")
    saved = (path / "dataset_dict.json").exists(), (path / "state.json").exists()
    if not any(saved):
        return _from_hub(str(path), split, subset)
    if subset:
        raise SettingError(f"subset = {subset!r}: {path} was saved by save_to_disk, which keeps none; leave it out")
    try:
        found = datasets.load_from_disk(str(path))
    except Exception as error:
        raise SettingError(f"{path} is no data set: {_one_line(error)}") from error
    if saved[0]:
        name = _parse(split)["name"]
        if name not in found:
            raise UnknownNameError(f"split of {path}", name, found)
        found = found[name]
    return _cut(_some(str(path), found.to_dict()), split)


def _from_hub(source: str, split: str, subset: str) -> Rows:
    """Read by `datasets`, which also knows folders laid out like a repository of the hub."""
    datasets = require("datasets", "lm")
    _parse(split)
    datasets.disable_progress_bars()  # they would draw over the live table
    try:
        found = datasets.load_dataset(source, subset or None, split=split)
    except Exception as error:  # network, names, splits, subsets, damaged files: the library has a type for each
        raise SettingError(
            f"data = {source!r}, subset = {subset!r}, split = {split!r} cannot be loaded: {_one_line(error)}; "
            "without a network, give a file or a folder"
        ) from error
    return _some(source, found.to_dict())


def _parse(split: str) -> dict[str, Any]:
    match = _SPLIT.fullmatch(split)
    if match is None:
        raise SettingError(f"split = {split!r}; write a name, or a part such as train[:1000] or train[10%:20%]")
    return match.groupdict()


def _cut(rows: Rows, split: str) -> Rows:
    """The part of the rows that a split's brackets name."""
    parts, n = _parse(split), len(next(iter(rows.values())))
    start, stop = (
        None if x is None else round(int(x[:-1]) * n / 100) if x.endswith("%") else int(x)
        for x in (parts["start"], parts["stop"])
    )
    cut = {name: values[start:stop] for name, values in rows.items()}
    if not next(iter(cut.values())):
        raise SettingError(f"split = {split!r} leaves none of {n} rows; take a larger part")
    return cut


def _some(source: str, rows: Rows) -> Rows:
    if not rows or not next(iter(rows.values())):
        raise SettingError(f"{source} has no rows; a row is {{'prompt': ..., ...}}")
    return rows


def _one_line(error: BaseException) -> str:
    return " ".join(f"{error}".split())[:300] or type(error).__name__
