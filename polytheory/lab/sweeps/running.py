"""Run what a study lacks: on this process, on all cores (loky), on a Ray cluster, or one shard of it."""

from __future__ import annotations

import itertools
import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from polytheory.catalog import find
from polytheory.errors import RunError, SettingError, UnknownNameError, require
from polytheory.lab.build import algorithm_class, make_algorithm, make_model
from polytheory.lab.sweeps.cells import Cell, Job, blocks, missing
from polytheory.lab.sweeps.cluster import on_ray
from polytheory.lab.sweeps.folder import Found, look, open_folder, plan_of
from polytheory.lab.sweeps.measures import measure_named
from polytheory.lab.sweeps.remains import died, leftover
from polytheory.lab.sweeps.study import Study
from polytheory.lab.sweeps.work import Failure, follow, perform
from polytheory.progress import Progress

BACKENDS = ("loky", "ray", "serial")
Results = dict[int, list[Failure]]  # of the jobs, by their number


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of a sweep.

    Fields: ``folder``; ``cells`` of the study; ``jobs`` that were run now, ``failures`` among them; ``found`` seeds that were
    there before; ``stale`` files of cells that the study no longer asks for, ``seconds`` of wall time.
    """

    folder: Path
    cells: list[Cell]
    jobs: list[Job]
    found: int
    stale: int
    seconds: float
    failures: list[Failure] = field(default_factory=list)

    def check(self) -> Outcome:
        """Itself. Raises `RunError` when a cell failed."""
        if self.failures:
            job, why, log = self.failures[0]
            raise RunError(
                f"{len(self.failures)} failures in {len(self.jobs)} jobs, the others are kept; {job.title}: {why} (cell "
                f"{job.cell.key}, traceback: {log})"
            )
        return self


def run_study(
    study: Study,
    folder: Path,
    *,
    backend: str = "loky",
    jobs: int | None = None,
    shard: tuple[int, int] | None = None,
    progress: bool | None = None,
    only: str | None = None,
) -> Outcome:
    """Run the seeds that ``folder`` does not hold yet.

    Results are published as seeds end: a kill at any moment loses only what was running, and the same call goes on. Ctrl-C
    raises `KeyboardInterrupt`; what was finished stays. A job that fails leaves the others alone and is told in the outcome.

    Args:
        study: what to run.
        folder: where its results lie, see `polytheory.lab.sweeps.folder`.
        backend: "loky" uses worker processes, "ray" a Ray cluster (the one that RAY_ADDRESS names, or a local one), "serial"
            this process, whose numerical libraries are left at one thread. The numbers are the same.
        jobs: workers; default every core, or all that the cluster has. One means this process.
        shard: (i, n) runs the i-th of n parts of the study, i from 1; all n together run it all.
        progress: as in `polytheory.run.run`.
        only: the beginning of a cell's key: run no other cell.

    Raises:
        SettingError, UnknownNameError: something cannot be run as asked; nothing was run.
        MissingExtraError: polars, joblib or ray is not installed. StorageError: the folder cannot be written.
    """
    _check(backend, jobs, shard)
    cells = study.cells()
    chosen = _chosen(cells, only)
    validate(chosen)
    open_folder(folder, plan_of(study.name, cells))
    found = look(folder)
    for path in found.damaged:
        path.unlink(missing_ok=True)
    todo = list(plan(chosen, found, shard or (1, 1)))
    start = time.monotonic()
    with Progress(study.name, len(todo), progress, unit="job") as shown:
        numbers = itertools.count(1)
        failures = run_jobs(todo, folder, backend, jobs, lambda: shown.update(next(numbers)))
        shown.finish(len(todo), f"{len(failures)} failed" if failures else "all done")
    before = sum(len(found.seeds(c.key) & set(range(c.seeds))) for c in chosen)
    stale = len(found.stale(c.key for c in cells))
    return Outcome(folder, chosen, todo, before, stale, time.monotonic() - start, failures)


def plan(cells: Sequence[Cell], found: Found, shard: tuple[int, int]) -> Iterator[Job]:
    """The jobs of a shard: every n-th block of the study, whatever is done already, without the seeds that are."""
    i, n = shard
    every = ((cell, block) for cell in cells for block in blocks(cell))
    for number, (cell, block) in enumerate(every):
        if number % n == i - 1:
            yield from missing(cell, block, found.seeds(cell.key))


def validate(cells: Sequence[Cell]) -> None:
    """Make every algorithm of the study once, so that a wrong setting is told before any work."""
    models: dict[str, Any] = {}
    seen = set()
    for name in {name for cell in cells for name in cell.measure}:
        measure_named(name)
    for cell in cells:
        made = (cell.method, cell.algorithm, str(cell.settings), cell.environment)
        if made in seen:
            continue
        seen.add(made)
        if cell.environment not in models:
            models[cell.environment] = make_model(cell.environment, cell.options)
        cls = algorithm_class(find(cell.method), cell.algorithm, cell.room)
        make_algorithm(cls, cell.settings, models[cell.environment])


def run_jobs(
    jobs: Sequence[Job], folder: Path, backend: str, workers: int | None, ended: Callable[[], None]
) -> list[Failure]:
    """Perform every job; ``ended`` is called as each ends. Returns what failed, in order.

    A process that dies ends no sweep: what it was at runs once more, alone, and is told as failed if that one dies too.
    """
    here = workers or os.cpu_count() or 1
    if backend == "ray":
        results = on_ray(jobs, folder, workers, ended)
    elif backend == "loky" and here > 1:
        results = _on_loky(jobs, folder, here, ended)
    else:
        results = {}
        for i, job in enumerate(jobs):
            results[i] = perform(job, folder)
            ended()
    return [failure for _, failures in sorted(results.items(), key=lambda x: x[0]) for failure in failures]


def _on_loky(jobs: Sequence[Job], folder: Path, workers: int, ended: Callable[[], None]) -> Results:
    """On worker processes. When one dies, all of them are gone, and any job that was begun may have killed it."""
    results: Results = {}
    todo, suspects = list(range(len(jobs))), []
    with _one_thread_each():
        while todo:
            begun: list[int] = []
            try:
                for i, failures in _workers(jobs, todo, folder, workers, begun):
                    results[i] = failures
                    ended()
                todo = []
            except BrokenProcessPool:
                suspects += [i for i in begun if i not in results]
                todo = todo[len(begun) :]
        for i in suspects:
            results[i] = [failure for part in leftover(jobs[i], folder) for failure in _alone(part, folder)]
            ended()
    return results


def _alone(job: Job, folder: Path) -> list[Failure]:
    try:
        ((_, failures),) = _workers([job], [0], folder, 2, [])
    except BrokenProcessPool as error:
        return [died(job, folder, error)]
    return failures


def _workers(
    jobs: Sequence[Job], which: Sequence[int], folder: Path, workers: int, begun: list[int]
) -> Iterator[tuple[int, list[Failure]]]:
    """Jobs as they end; ``begun`` grows as they are handed out."""
    joblib = require("joblib", "lab")

    def handed_out() -> Iterator[Any]:
        for i in which:
            begun.append(i)
            yield joblib.delayed(_numbered)(i, jobs[i], folder, os.getpid())

    return joblib.Parallel(
        n_jobs=workers, backend="loky", batch_size=1, pre_dispatch="2*n_jobs", return_as="generator_unordered"
    )(handed_out())


def _numbered(i: int, job: Job, folder: Path, parent: int) -> tuple[int, list[Failure]]:
    follow(parent)
    return i, perform(job, folder)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Numerical libraries of the workers start with one thread: they read this as they load."""
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "POLARS_MAX_THREADS")
    before = {name: os.environ.get(name) for name in names}
    os.environ.update(dict.fromkeys(names, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _check(backend: str, jobs: int | None, shard: tuple[int, int] | None) -> None:
    if backend not in BACKENDS:
        raise UnknownNameError("backend", backend, BACKENDS)
    for package in ("polars", "threadpoolctl", *(("joblib",) if backend == "loky" else ())):
        require(package, "lab")
    if backend == "ray":
        require("ray", "ray")
    if jobs is not None and jobs < 1:
        raise SettingError(f"jobs = {jobs}; at least 1 worker is needed")
    if shard is not None and not (len(shard) == 2 and 1 <= shard[0] <= shard[1]):
        raise SettingError(f"shard = {shard}; (i, n) with 1 <= i <= n is needed: (1, 4) is the first of four parts")


def _chosen(cells: list[Cell], only: str | None) -> list[Cell]:
    if only is None:
        return cells
    chosen = [cell for cell in cells if only and cell.key.startswith(only)]
    if not chosen:
        raise UnknownNameError("cell", only, (cell.key for cell in cells))
    return chosen
