"""The folder of a study: what was asked for, and one file of results for each block of seeds.

::

    DIR/study.json                                       the cells that the study asks for
    DIR/cells/<key>-<first seed>-<seeds>-<sha256>.parquet
    DIR/errors/<key>-<first seed>-<seeds>.txt            the last failure of a job, with its traceback; gone when it succeeds

A file is written aside and published by one rename, and its name holds the digest of its content: a kill leaves whole files
only, and a file that was cut or changed afterwards is recognised and made again.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import time
import uuid
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytheory import __version__
from polytheory.errors import SettingError, StorageError
from polytheory.lab.sweeps.cells import FORMAT, Cell, Job

PLAN, CELLS, ERRORS = "study.json", "cells", "errors"
ABANDONED = 3600.0  # seconds; a file takes milliseconds to write, so one this old was left by a kill
_NAME = re.compile(r"([0-9a-f]{16})-(\d{6,})-(\d{6,})-([0-9a-f]{16})\.parquet")


@dataclass(frozen=True)
class Found:
    """What lies in a folder.

    Fields: ``files`` for each key the (first seed, seeds, path) of its files, in order; ``damaged`` files whose content is
    not what was written.
    """

    files: dict[str, list[tuple[int, int, Path]]] = field(default_factory=dict)
    damaged: list[Path] = field(default_factory=list)

    def seeds(self, key: str) -> set[int]:
        """The seeds of a cell that are done."""
        return {seed for first, count, _ in self.files.get(key, ()) for seed in range(first, first + count)}

    def stale(self, keys: Iterable[str]) -> list[Path]:
        """Files of cells that are not among ``keys``."""
        wanted = set(keys)
        return [path for key, files in self.files.items() if key not in wanted for _, _, path in files]


@dataclass(frozen=True)
class Planned:
    """A cell as the folder remembers it."""

    key: str
    seeds: int
    columns: dict[str, Any]


def plan_of(name: str, cells: Iterable[Cell]) -> dict[str, Any]:
    """What ``study.json`` holds."""
    rows = [{"key": c.key, "seeds": c.seeds, "columns": c.columns} for c in cells]
    return {"format": FORMAT, "polytheory": __version__, "study": name, "cells": rows}


def open_folder(folder: Path, plan: dict[str, Any]) -> None:
    """Make the folder ready for a study, and note what the study asks for.

    Raises `SettingError` when something else lies there, `StorageError` when it cannot be written.
    """
    before = read_plan(folder) if (folder / PLAN).exists() else None
    if before is None and folder.exists() and not _begun(folder):
        raise SettingError(f"{folder} holds something that is no study; take an empty or new folder")
    if before is not None and before["study"] != plan["study"]:
        raise SettingError(
            f"{folder} holds the study {before['study']!r}, this one is {plan['study']!r}; take another folder"
        )
    try:
        for name in (CELLS, ERRORS):
            (folder / name).mkdir(parents=True, exist_ok=True)
        for path in (folder / CELLS).glob(".*.tmp"):
            if time.time() - path.stat().st_mtime > ABANDONED:
                path.unlink(missing_ok=True)
        if before != plan:
            _replace(folder / PLAN, json.dumps(plan, indent=1, ensure_ascii=False, allow_nan=False).encode())
    except OSError as error:
        raise StorageError(f"cannot write to {folder}: {error.strerror or error}; take another folder") from error


def _begun(folder: Path) -> bool:
    """True for a folder that is empty, or that was made ready when a kill came."""
    return folder.is_dir() and all(
        path.name in (CELLS, ERRORS) or path.name.startswith(f".{PLAN}") for path in folder.iterdir()
    )


def read_plan(folder: Path) -> dict[str, Any]:
    """The content of ``study.json``. Raises `SettingError` when the folder is none of a study."""
    try:
        plan = json.loads((folder / PLAN).read_bytes())
        names = {name: plan[name] for name in ("format", "study", "cells")}
    except FileNotFoundError as error:
        raise SettingError(f"{folder} holds no study (it has no {PLAN}); run polytheory sweep there first") from error
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SettingError(f"{folder / PLAN} is damaged; remove it and run the study again: no cell is lost") from error
    if names["format"] != FORMAT:
        raise SettingError(f"{folder} has format {names['format']}; this version reads {FORMAT}: take another folder")
    return plan


def planned(plan: dict[str, Any]) -> list[Planned]:
    """The cells of a plan."""
    return [Planned(**row) for row in plan["cells"]]


def look(folder: Path, key: str = "") -> Found:
    """Every whole file of results, of the cells whose key begins so; each is read once to compare it with its digest."""
    found = Found()
    for path in sorted((folder / CELLS).glob(f"{key}*.parquet")):
        match = _NAME.fullmatch(path.name)
        if match is None:
            continue
        key, first, count, digest = match.groups()
        if _digest(path.read_bytes()) == digest:
            found.files.setdefault(key, []).append((int(first), int(count), path))
        else:
            found.damaged.append(path)
    return found


def keep(folder: Path, job: Job, data: bytes) -> Path:
    """Publish the results of a job. Raises `StorageError` when the disk refuses."""
    path = folder / CELLS / f"{_stem(job)}-{_digest(data)}.parquet"
    try:
        _replace(path, data)
        (folder / ERRORS / f"{_stem(job)}.txt").unlink(missing_ok=True)
    except OSError as error:
        raise StorageError(f"cannot write {path}: {error.strerror or error}; make room and run again") from error
    return path


def note(folder: Path, job: Job, text: str) -> Path | None:
    """Keep what is known of a job's failure, in place of an earlier note; None when the disk refuses that too."""
    path = folder / ERRORS / f"{_stem(job)}.txt"
    try:
        _replace(path, f"{job.title}\n\n{text}".encode())
    except OSError:
        return None
    return path


def drop(folder: Path, jobs: Iterable[Job]) -> None:
    """Remove the files of jobs whose seeds lie in a larger file by now."""
    for job in jobs:
        for path in (folder / CELLS).glob(f"{_stem(job)}-*.parquet"):
            path.unlink(missing_ok=True)


def _stem(job: Job) -> str:
    return f"{job.cell.key}-{job.first:06d}-{job.count:06d}"


def _replace(path: Path, data: bytes) -> None:
    # not forced to the disk: what a power cut takes is seen by its digest and made again
    temp = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        temp.write_bytes(data)
        os.replace(temp, path)
    except BaseException:
        temp.unlink(missing_ok=True)
        raise


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]
