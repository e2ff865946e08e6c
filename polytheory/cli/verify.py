"""``polytheory verify [METHOD ...]``: the main job."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("verify")(verify)


def verify(
    method: Annotated[list[str] | None, typer.Argument(help="Names of methods; default: all.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON, and nothing else, on standard output.")] = False,
    report: Annotated[Path, typer.Option(help="Where the HTML report goes.")] = Path("reports/verify.html"),
    jobs: Annotated[int, typer.Option(help="Worker processes; 1 works in this one.")] = 2,
    train: Annotated[
        bool, typer.Option("--train/--no-train", help="Without a method: train the embedded language model too.")
    ] = True,
) -> None:
    """Solve real environments, check claims and mutants, run reference and scaled in lock-step, write a report.

    Exit code 1 when anything does not hold, with the reason on stderr.
    """
    import sys
    import time
    from dataclasses import replace

    from polytheory.cli._output import print_json
    from polytheory.cli._progress import JobProgress
    from polytheory.lab.records import dump, write_atomically
    from polytheory.lab.report import page
    from polytheory.lab.summary import failures, row_of
    from polytheory.lab.verify import collect, names_or_all, perform, verify_jobs

    start = time.perf_counter()
    names = names_or_all(method)
    saved = results_path(report)  # a place that cannot be written is told before the work
    plan = verify_jobs(names)
    with JobProgress(plan, "verifying") as progress:
        results = perform(plan, workers=jobs, progress=progress)
    found = collect(names, plan, results, time.perf_counter() - start)
    if train and not method:
        found = replace(found, training=_trained())
    write_atomically(saved, dump(found))
    write_atomically(report, page(found))
    rows = [row_of(record) for record in found.methods]
    if json:
        print_json(rows)
    else:
        print_rows(rows)
        print(f"{found.seconds:.1f} s in all")
    bad = [line for record in found.methods for line in failures(record)]
    tell(bad)
    print(f"report: {report}", file=sys.stderr if json else sys.stdout)
    if bad:
        raise typer.Exit(1)


def _trained() -> Any:
    """The embedded training, about a minute; where transformers is not installed, one line says so instead."""
    import sys
    from importlib.util import find_spec

    def say(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    if find_spec("transformers") is None:
        say("no language model is trained: transformers is not installed; try: pip install 'polytheory[lm]'")
        return None
    from polytheory.lab.training.embedded import embedded

    return embedded(say)


def results_path(report: Path) -> Path:
    """Where the numbers behind a report are kept: beside it. Raises `SettingError` when the report cannot lie there."""
    import os

    from polytheory.errors import SettingError

    if report.suffix not in (".html", ".htm"):
        raise SettingError(f"{report}: the report is HTML; name a file that ends in .html")
    if report.is_dir():
        raise SettingError(f"{report} is a folder; name a file in it, such as {report / 'verify.html'}")
    try:
        report.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise SettingError(f"{report}: cannot make the folder: {error.strerror}; pass another path") from error
    if not os.access(report.parent, os.W_OK):
        raise SettingError(f"{report}: the folder cannot be written to; pass another path")
    return report.with_suffix(".json")


def tell(failures: list[str]) -> None:
    """Name each failure in one line on stderr, after what was printed so far."""
    import sys

    sys.stdout.flush()
    for line in failures:
        print(f"polytheory: failed: {line}", file=sys.stderr, flush=True)


def print_rows(rows: list[dict[str, Any]]) -> None:
    """The table of `verify`."""
    from polytheory.cli._output import print_table

    columns = ("method", "claims held", "mutants caught", "lock-step error", "episodes", "transitions", "time", "")
    print_table(columns, [_cells(row) for row in rows])


def _cells(row: dict[str, Any]) -> list[str]:
    from polytheory.lab.summary import number

    return [
        row["method"],
        f"{row['claims_held']}/{row['claims']}",
        f"{row['mutants_caught']}/{row['mutants']}",
        number(row["lockstep_error"]),
        f"{row['episodes']:,}",
        f"{row['transitions']:,}",
        f"{row['seconds']:.1f} s",
        "passed" if row["passed"] else "FAILED",
    ]
