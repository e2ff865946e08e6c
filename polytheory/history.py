"""What a run reported, step by step: an append-only record of rows (step, replica, name, value)."""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.algorithm import Info
from polytheory.errors import CheckpointError, SettingError, StorageError, UnknownNameError

FILE = "history.jsonl"


class History:
    """Rows (step, replica, name, value); steps are counted from 0, values are float64.

    A value that is one number, or one number per replica ``[n]``, is kept as it is. Anything larger (a batch of
    samples) is kept as ``name/mean``, ``name/min``, ``name/max``, per replica where its first axis is the
    replicas'. A value that is not finite is kept as missing: NaN here, null in the file.
    """

    def __init__(self, replicas: int = 1):
        self.replicas = replicas
        self._rows: list[tuple[int, dict[str, np.ndarray]]] = []
        self._names: dict[str, None] = {}  # in order of appearance

    def __repr__(self) -> str:
        return f"History({len(self._rows)} steps, {self.replicas} replicas: {', '.join(self._names)})"

    @property
    def names(self) -> tuple[str, ...]:
        """Everything that was ever logged."""
        return tuple(self._names)

    def log(self, step: int, info: Info) -> None:
        """Append what a step reported. Raises `SettingError` on a value that is not a number."""
        row: dict[str, np.ndarray] = {}
        for name, value in info.items():
            row |= self._parts(name, value)
        self._append(step, row)

    def column(self, name: str) -> Float[np.ndarray, "steps n"]:
        """All values of a name, one row for each step that logged it (see `steps`), one column per replica.

        A number logged for all replicas at once has a single column.
        """
        self._check(name)
        return np.stack([row[name] for _, row in self._rows if name in row])

    def last(self, name: str) -> Float[np.ndarray, " n"]:
        """The latest value of a name."""
        self._check(name)
        return next(row[name] for _, row in reversed(self._rows) if name in row)

    def steps(self, name: str) -> Int[np.ndarray, " steps"]:
        """The steps that logged a name."""
        self._check(name)
        return np.array([step for step, row in self._rows if name in row], dtype=np.int64)

    def rows(self) -> Iterator[tuple[int, int, str, float]]:
        """Every row as (step, replica, name, value), in the order of logging."""
        for step, row in self._rows:
            for name, x in row.items():
                for replica, value in enumerate(x):
                    yield step, replica, name, float(value)

    def _check(self, name: str) -> None:
        if name not in self._names:
            raise UnknownNameError("logged name", name, self._names)

    def _append(self, step: int, row: dict[str, np.ndarray]) -> None:
        self._rows.append((step, row))
        self._names.update(dict.fromkeys(row))

    def _parts(self, name: str, value: Any) -> dict[str, np.ndarray]:
        try:
            x = np.array(value.detach().cpu().double().numpy() if hasattr(value, "detach") else value, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise SettingError(f"info[{name!r}] is {value!r:.60}; report numbers or arrays of numbers") from error
        if x.size == 1:
            return {name: _finite(x.reshape(1))}
        if x.shape == (self.replicas,):
            return {name: _finite(x)}
        rows = self.replicas if x.shape[0] == self.replicas else 1
        flat = x.reshape(rows, -1) if x.size else np.full((rows, 1), np.nan)
        with np.errstate(all="ignore"):
            return {f"{name}/{how.__name__}": _finite(how(flat, axis=1)) for how in (np.mean, np.min, np.max)}


class HistoryFile:
    """The history on disk: JSON lines that are only appended to, and cut back to the checkpointed length at resume."""

    def __init__(self, folder: Path):
        self.path = folder / FILE
        self.length = self.crc32 = self.steps = 0  # what the file holds: bytes, their checksum, steps

    def restart(self) -> None:
        """Begin a fresh file: what was there belongs to no checkpoint."""
        self.path.write_bytes(b"")
        self.length = self.crc32 = self.steps = 0

    def append(self, history: History) -> dict[str, int]:
        """Write the rows since the last call through to the disk; returns the mark that a checkpoint keeps."""
        data = "".join(_to_line(step, row) for step, row in history._rows[self.steps :]).encode()
        try:
            with self.path.open("ab") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise StorageError(
                f"cannot write {self.path}: {error.strerror}; make room, or take another folder"
            ) from error
        self.steps = len(history._rows)
        self.length += len(data)
        self.crc32 = zlib.crc32(data, self.crc32)
        return {"bytes": self.length, "crc32": self.crc32}

    def read(self, mark: dict[str, int], replicas: int) -> History:
        """The history up to a mark. Raises `CheckpointError` when the file is shorter or was changed."""
        try:
            with self.path.open("rb") as file:
                data = file.read(mark["bytes"])
        except OSError as error:
            raise CheckpointError(f"cannot read {self.path}: {error.strerror}") from error
        if len(data) != mark["bytes"] or zlib.crc32(data) != mark["crc32"]:
            raise CheckpointError(f"{self.path} is damaged: its first {mark['bytes']} bytes are not what was saved")
        history = History(replicas)
        for line in data.decode().splitlines():
            row = json.loads(line)
            values = {name: np.atleast_1d(np.array(x, dtype=np.float64)) for name, x in row["values"].items()}
            history._append(row["step"], values)
        return history

    def adopt(self, mark: dict[str, int], history: History) -> None:
        """Continue this file after a mark, with the history read up to there: what follows the mark is cut off."""
        os.truncate(self.path, mark["bytes"])
        self.length, self.crc32, self.steps = mark["bytes"], mark["crc32"], len(history._rows)


def _finite(x: np.ndarray) -> np.ndarray:
    x[~np.isfinite(x)] = np.nan
    return x


def _to_line(step: int, row: dict[str, np.ndarray]) -> str:
    values = {name: [v if math.isfinite(v) else None for v in x.tolist()] for name, x in row.items()}
    short = {name: x[0] if len(x) == 1 else x for name, x in values.items()}
    return json.dumps({"step": step, "values": short}, allow_nan=False) + "\n"
