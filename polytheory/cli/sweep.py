"""``polytheory sweep STUDY.toml``: run a study, or what is left of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("sweep")(sweep)


def sweep(
    study: Annotated[Path, typer.Argument(metavar="STUDY.toml", help="What to run and what to record.")],
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where results lie; default sweeps/NAME.")] = None,
    backend: Annotated[str, typer.Option(help="loky (all cores), ray (a cluster) or serial.")] = "loky",
    jobs: Annotated[int | None, typer.Option(help="Workers; default: all there are.")] = None,
    shard: Annotated[
        str | None, typer.Option(metavar="I/N", help="Run part I of N, for job arrays: 1/4 to 4/4.")
    ] = None,
    small: Annotated[bool, typer.Option("--small", help="The study's small form.")] = False,
    cell: Annotated[str | None, typer.Option(metavar="KEY", help="Run this cell alone.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a study: methods x environments x settings x seeds. Typed again after a kill, it goes on.

    Exit code 1 when a cell failed: each is named on stderr with its seeds and the command that runs it again.
    """
    import sys

    from polytheory.cli._output import print_json
    from polytheory.cli.verify import tell
    from polytheory.lab.sweeps.running import run_study
    from polytheory.lab.sweeps.study import Study

    asked = Study.read(study, small=small)
    folder = out or Path("sweeps") / (asked.name + ("-small" if small else ""))
    try:
        end = run_study(
            asked, folder, backend=backend, jobs=jobs, shard=None if shard is None else _shard(shard), only=cell,
            progress=True,
        )  # fmt: skip
    except KeyboardInterrupt:
        print("interrupted: what was finished is kept, the same command goes on", file=sys.stderr)
        raise typer.Exit(130) from None
    again = " ".join(["polytheory sweep", _quoted(study), "--out", _quoted(folder), *(["--small"] if small else [])])
    if json:
        failed = [
            {
                "cell": f.job.cell.key, "seed": f.job.first, "seeds": f.job.count, "why": f.why,
                "traceback": f.log and str(f.log),
            }
            for f in end.failures
        ]  # fmt: skip
        print_json({
            "study": asked.name, "folder": str(folder), "cells": len(end.cells), "jobs": len(end.jobs),
            "found": end.found, "stale": end.stale, "failed": failed, "seconds": end.seconds,
        })  # fmt: skip
    else:
        _print(asked, end)
    tell([
        f"{f.job.title}: {f.why}; traceback: {f.log}; again: {again} --cell {f.job.cell.key}" for f in end.failures
    ])  # fmt: skip
    if end.failures:
        raise typer.Exit(1)


def _print(asked: Any, end: Any) -> None:
    seeds = sum(job.count for job in end.jobs) - sum(f.job.count for f in end.failures)
    print(f"{asked.name}: {len(end.cells)} cells; {end.found} seeds were there, {seeds} are new ({end.seconds:.1f} s)")
    if end.stale:
        print(f"{end.stale} files in {end.folder} are of cells that the study does not ask for; they are left out")
    print(f"in Python: polytheory.lab.collect({str(end.folder)!r})")


def _shard(text: str) -> tuple[int, int]:
    from polytheory.errors import SettingError

    i, slash, n = text.partition("/")
    if not (slash and i.strip().isdigit() and n.strip().isdigit()):
        raise SettingError(f"--shard {text}; write I/N, such as 1/4 for the first of four parts")
    return int(i), int(n)


def _quoted(path: Path) -> str:
    import shlex

    return shlex.quote(str(path))
