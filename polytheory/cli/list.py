"""``polytheory list``: every method, where it lies and how many claims guard it."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("list")(list_methods)


def list_methods(json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """List the methods with their papers, files, claims and mutants."""
    from polytheory.catalog import methods
    from polytheory.cli._output import print_json, print_table

    rows = [row_of(entry) for entry in methods()]
    if json:
        print_json(rows)
        return
    columns = ("method", "family", "title", "claims", "mutants")
    print_table(columns, [[row[name] for name in columns] for row in rows])


def row_of(entry: Any) -> dict[str, Any]:
    """One method as ``list --json`` shows it; a claim counts once, however many rooms it is checked in."""
    from polytheory.proofs_check.claims import claims_of
    from polytheory.proofs_check.runner import load_method

    load_method(entry.name)
    claims = claims_of(entry.name)
    paths = {room: entry.path(room) for room in ("reference", "scaled")}
    return {
        "method": entry.name,
        "family": entry.family,
        "title": entry.title,
        "paper": entry.paper,
        **paths,
        "claims": len(claims),
        "mutants": sum(len(c.breaks) for c in claims),
        "page": entry.page,
    }
