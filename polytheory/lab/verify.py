"""Verify methods: solve their demonstrations, check their claims and mutants, compare the rooms."""

from __future__ import annotations

import datetime
import platform
from collections.abc import Callable, Sequence
from dataclasses import replace
from importlib import metadata
from importlib.util import find_spec
from typing import Any, NamedTuple

from polytheory.catalog import find, methods
from polytheory.errors import MissingExtraError, SettingError, UnknownNameError
from polytheory.lab.demos import solve_demo
from polytheory.lab.pool import each
from polytheory.lab.records import DemoRecord, MethodRecord, Verification
from polytheory.proofs_check.claims import claims_of
from polytheory.proofs_check.runner import ClaimResult, check_method, demos_of, find_claim, load_method

NEEDS = {"torch": "scaled", "gymnasium": "envs", "hypothesis": "conform", "sympy": "certify", "cvxpy": "certify"}


class Job(NamedTuple):
    """One piece of work: a demonstration (``what`` is its number) or a claim (its name) of a method."""

    method: str
    what: int | str
    effort: str = "verify"
    mutants: bool = True


def names_or_all(names: Sequence[str] | None) -> list[str]:
    """The methods of these names, each once; all of the catalog without names. Raises `UnknownNameError`."""
    return [find(name).name for name in dict.fromkeys(names or ())] or [entry.name for entry in methods()]


def verify_jobs(names: Sequence[str]) -> list[Job]:
    """Demonstrations first: they take longest, and the claims that follow fill all workers to the end."""
    demos = [Job(name, i) for name in names for i in range(len(demos_of(name)))]
    return demos + claim_jobs(names, effort="verify")


def claim_jobs(names: Sequence[str], *, effort: str, mutants: bool = True, only: str | None = None) -> list[Job]:
    """One job for each claim. Raises `UnknownNameError` when no method has a claim of the name ``only``."""
    known = [(name, c.name) for name in names if load_method(name) for c in claims_of(name)]
    if only is not None and only not in {c for _, c in known}:
        raise UnknownNameError("claim", only, {c for _, c in known})
    return [Job(name, c, effort, mutants) for name, c in known if only in (None, c)]


def perform(jobs: Sequence[Job], *, workers: int = 2, progress: Callable[[Job], None] = lambda job: None) -> list[Any]:
    """The result of each job: a `DemoRecord`, `ClaimResult`s, or a sentence about a demonstration that crashed.

    Args:
        workers: processes; 1 works in this one.
        progress: called with each job that ended.

    Raises `MissingExtraError` before any work, `SettingError` for less than one worker.
    """
    if workers < 1:
        raise SettingError(f"jobs = {workers}; at least 1 process has to work")
    for package, extra in NEEDS.items():
        if find_spec(package) is None:
            raise MissingExtraError(package, extra)
    results: list[Any] = [None] * len(jobs)
    for i, result in each(do, [(job,) for job in jobs], workers):
        results[i] = _crashed(jobs[i], f"the worker died: {result}") if isinstance(result, Exception) else result
        progress(jobs[i])
    return results


def collect(names: Sequence[str], jobs: Sequence[Job], results: Sequence[Any], seconds: float) -> Verification:
    """Results as one record a method; ``seconds`` is the wall time of it all, each method's is that of its jobs."""
    entries = [find(name) for name in names]
    records = {e.name: MethodRecord(e.name, e.title, e.paper, e.url) for e in entries}
    for job, found in zip(jobs, results, strict=True):
        record = records[job.method]
        if isinstance(found, str):
            record.errors.append(found)
        elif isinstance(found, DemoRecord):
            record.demos.append(found)
        else:
            record.claims.extend(found)
    return Verification(
        methods=[replace(r, seconds=sum(x.seconds for x in (*r.demos, *r.claims))) for r in records.values()],
        software=software(), seconds=seconds,
        made=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
    )  # fmt: skip


def do(job: Job) -> DemoRecord | list[ClaimResult] | str:
    """One job; whatever goes wrong in it becomes a result that fails and says how."""
    try:
        if isinstance(job.what, str):
            return check_method(job.method, mutants=job.mutants, effort=job.effort, only=[job.what])
        return solve_demo(job.method, demos_of(job.method)[job.what])
    except Exception as error:
        return _crashed(job, f"{type(error).__name__}: {' '.join(str(error).split())}")


def software() -> dict[str, str]:
    """Versions of what the numbers depend on."""
    names = ("polytheory", "numpy", "scipy", "torch", "gymnasium")
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in names}}


def _crashed(job: Job, why: str) -> list[ClaimResult] | str:
    """The result of a job that came to no end."""
    if isinstance(job.what, int):
        demo = demos_of(job.method)[job.what]
        return f"{demo.environment} with {demo.algorithm} crashed: {why}"
    c = find_claim(job.method, job.what)
    known = {"claim": c.name, "method": c.method, "level": c.level.name, "source": c.source, "statement": c.statement}
    nothing = {"instances": 0, "margin": None, "tolerance": None, "holds": False, "seconds": 0.0}
    return [ClaimResult(**known, **nothing, room=room, error=why) for room in c.rooms]
