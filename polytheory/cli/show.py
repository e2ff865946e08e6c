"""``polytheory show METHOD``: one method with its algorithms, settings and claims."""

from __future__ import annotations

import dataclasses
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("show")(show)


def show(
    method: Annotated[str, typer.Argument(help="Name of a method; see `polytheory list`.")],
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Show one method: paper, files, algorithms with their settings, claims with their mutants."""
    from polytheory.catalog import find
    from polytheory.cli._output import print_json
    from polytheory.cli.list import row_of

    entry = find(method)
    facts = row_of(entry) | {
        "bib": entry.bib,
        "url": entry.url,
        "access": entry.access,
        "proofs_check": entry.path("proofs_check"),
        "algorithms": [_algorithm(entry, name) for name in entry.algorithms],
        "statements": _statements(entry.name),
    }
    print_json(facts) if json else _print(facts)


def _algorithm(entry: Any, name: str) -> dict[str, Any]:
    from polytheory.cli._build import algorithm_class
    from polytheory.errors import SettingError

    try:
        cls = algorithm_class(entry, name, "reference")
    except SettingError:  # the scaled room's alone
        cls = algorithm_class(entry, name, "scaled")
    settings = {f.name: _default(f) for f in dataclasses.fields(cls)}
    return {"name": name, "summary": (cls.__doc__ or "").strip().split("\n")[0], "settings": settings}


def _default(f: dataclasses.Field) -> Any:
    if f.default is not dataclasses.MISSING:
        return f.default
    return f.default_factory() if f.default_factory is not dataclasses.MISSING else "required"


def _statements(method: str) -> list[dict[str, Any]]:
    from polytheory.proofs_check.claims import claims_of

    return [
        {
            "claim": c.name,
            "statement": c.statement,
            "level": c.level.name,
            "source": c.source,
            "rooms": list(c.rooms),
            "mutants": [b.name for b in c.breaks],
        }
        for c in claims_of(method)
    ]


def _print(facts: dict[str, Any]) -> None:
    from polytheory.cli._output import print_table

    print(f"{facts['method']}: {facts['title']}\n{facts['paper']}\n{facts['url']}\n")
    places = ("reference", "scaled", "proofs_check", "page")
    print_table(("file", ""), [(name, facts[name]) for name in places])
    for algorithm in facts["algorithms"]:
        print(f"\n{algorithm['name']}: {algorithm['summary']}")
        print("  " + ", ".join(f"{name} = {value}" for name, value in algorithm["settings"].items()))
    print()
    rows = [(c["claim"], c["level"], c["source"], len(c["mutants"]), c["statement"]) for c in facts["statements"]]
    print_table(("claim", "level", "source", "mutants", "statement"), rows)
