"""``polytheory report``: the HTML report again, from the saved numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("report")(report)


def report(
    results: Annotated[
        Path, typer.Option("--from", metavar="PATH", help="What `polytheory verify` saved beside its report.")
    ] = Path("reports/verify.json"),
    out: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Where to write; default: beside the numbers.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print the table of the saved results as JSON.")] = False,
) -> None:
    """Write the HTML report of a verification that was saved, without running anything."""
    import sys

    from polytheory.cli._output import print_json
    from polytheory.cli.verify import print_rows, results_path
    from polytheory.lab.records import load, write_atomically
    from polytheory.lab.report import page
    from polytheory.lab.summary import row_of

    target = out or results.with_suffix(".html")
    results_path(target)
    found = load(results)
    write_atomically(target, page(found))
    rows = [row_of(record) for record in found.methods]
    print_json(rows) if json else print_rows(rows)
    print(f"report: {target}", file=sys.stderr if json else sys.stdout)
