"""What one worker does: run the seeds of a job, and publish their rows."""

from __future__ import annotations

import io
import json
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from functools import cache, lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from polytheory.access.defaults import default_access
from polytheory.catalog import find
from polytheory.errors import require
from polytheory.lab.build import algorithm_class, make_algorithm, make_model
from polytheory.lab.exact import Oracle
from polytheory.lab.sweeps.cells import Cell, Job
from polytheory.lab.sweeps.folder import drop, keep, note
from polytheory.lab.sweeps.measures import Look, Recorder
from polytheory.run import Status, run


class Failure(NamedTuple):
    """A job that came to no end, why in one line, and the file with its traceback (None where the disk refused it)."""

    job: Job
    why: str
    log: Path | None = None


def perform(job: Job, folder: Path) -> list[Failure]:
    """Run a job and publish its rows; whatever goes wrong becomes a `Failure`, and the other seeds go on.

    What runs at once is published as it ends, and a job of several pieces once more as a whole, in place of them: a kill
    loses what was running.
    """
    parts: list[dict[str, Any]] = []

    def one(piece: Job) -> None:
        columns = rows(piece)
        keep(folder, piece, parquet(columns))
        parts.append(columns)

    def whole(job: Job) -> None:
        keep(folder, job, parquet(_joined(job.cell, parts)))
        drop(folder, job.pieces)

    failures = [failure for piece in job.pieces if (failure := _tried(one, piece, folder))]
    if len(job.pieces) > 1 and not failures and (failure := _tried(whole, job, folder)):
        failures.append(failure)
    return failures


def _tried(do: Callable[[Job], None], job: Job, folder: Path) -> Failure | None:
    try:
        do(job)
    except Exception as error:
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Failure(job, why, note(folder, job, traceback.format_exc()))
    return None


@cache
def follow(parent: int) -> None:
    """Make this process a worker: Ctrl-C is for its parent, and it ends when that is gone."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(1)  # killed: nobody waits for results

    threading.Thread(target=watch, daemon=True).start()


def rows(job: Job) -> dict[str, Any]:
    """The rows of a job as columns: the cell's (one value each), ``seed``, ``step``, the meter's counts, the measures.

    Seeds run in lock-step in the scaled room, one after another in the reference. Raises what the run raises.
    """
    if len(job.pieces) > 1:
        return _joined(job.cell, [rows(piece) for piece in job.pieces])
    cell = job.cell
    oracle = _oracle(cell.environment, json.dumps(cell.options))
    cls = algorithm_class(find(cell.method), cell.algorithm, cell.room)
    algorithm = make_algorithm(cls, cell.settings, oracle.model)
    one_thread(cell.room)
    access = default_access(cell.access, oracle.model, known_rewards=bool(cell.known_rewards))
    seeds = job.seeds
    its_access = access.replicate(job.count) if cell.room == "scaled" else access.fresh()
    steps, measured = _run(cell, algorithm, its_access, oracle, job.first)
    # seed by seed, and step by step within each
    ids = {"seed": np.repeat(seeds, len(steps)), "step": np.tile(steps, len(seeds))}
    return {**cell.columns, **ids, **{name: x.T.reshape(-1) for name, x in measured.items()}}


def _joined(cell: Cell, parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The rows of several jobs of a cell."""
    measured = [name for name in parts[0] if name not in cell.columns]
    return {**cell.columns, **{name: np.concatenate([part[name] for part in parts]) for name in measured}}


def parquet(columns: dict[str, Any]) -> bytes:
    """Columns as a Parquet file; NaN becomes a missing value."""
    pl = require("polars", "lab")
    n = len(columns["seed"])
    series = [
        pl.Series(name, x, nan_to_null=True) if isinstance(x, np.ndarray) else pl.Series(name, [x] * n, _kind(pl, x))
        for name, x in columns.items()
    ]
    file = io.BytesIO()
    pl.DataFrame(series).write_parquet(file)
    return file.getvalue()


def _kind(pl: Any, x: Any) -> Any:
    kinds = {bool: pl.Boolean, int: pl.Int64, float: pl.Float64, str: pl.String}
    return pl.Null if x is None else kinds[type(x)]


def _run(cell: Cell, algorithm: Any, access: Any, oracle: Oracle, replica: int) -> tuple[list[int], dict[str, Any]]:
    start = algorithm.init(access, cell.seed, replica)  # asks nothing of the access
    look = Look(oracle, algorithm, start, access.meter.replicas, cell.room == "scaled")
    recorder = Recorder(cell.measure, cell.density, look, access)
    budget: dict[str, Any] = {cell.unit: cell.budget}
    silent: dict[str, Any] = {"history": False, "progress": False}
    end = run(algorithm, access, callbacks=[recorder], seed=cell.seed, replica=replica, **budget, **silent)
    if end.status == Status.INTERRUPTED:
        raise KeyboardInterrupt
    columns = recorder.columns(end.steps)
    return recorder.steps, columns


@lru_cache(maxsize=4)
def _oracle(environment: str, options: str) -> Oracle:
    """Jobs come cell by cell: the next one mostly asks for the same environment."""
    return Oracle(make_model(environment, json.loads(options)))


@cache
def one_thread(room: str) -> None:
    """One thread for all numerical work of this process: more of them on small arrays only wait for each other, and the
    order of sums would depend on their number."""
    require("threadpoolctl", "lab").threadpool_limits(1)
    if room == "scaled":
        require("torch", "scaled").set_num_threads(1)
