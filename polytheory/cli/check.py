"""``polytheory check [METHOD ...]``: the claims in full."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("check")(check)


def check(
    method: Annotated[list[str] | None, typer.Argument(help="Names of methods; default: all.")] = None,
    mutants: Annotated[bool, typer.Option("--mutants", help="Show each claim its mutants as well.")] = False,
    claim: Annotated[str | None, typer.Option(metavar="NAME", help="Only the claim of this name.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    jobs: Annotated[int, typer.Option(help="Worker processes; 1 works in this one.")] = 2,
) -> None:
    """Check claims on more instances than verify does. Exit code 1 when one does not hold or misses a mutant."""
    from polytheory.cli._output import print_json
    from polytheory.cli._progress import JobProgress
    from polytheory.cli.verify import tell
    from polytheory.lab.summary import claim_failures
    from polytheory.lab.verify import claim_jobs, names_or_all, perform

    names = names_or_all(method)
    plan = claim_jobs(names, effort="full", mutants=mutants, only=claim)
    with JobProgress(plan, "checking") as progress:
        results = [r for found in perform(plan, workers=jobs, progress=progress) for r in found]
    if json:
        print_json([as_row(r) for r in results])
    else:
        _print(results, mutants)
    bare = set(names) - {job.method for job in plan} if claim is None else set()
    unchecked = [f"{name}: no claim was checked" for name in names if name in bare]
    bad = unchecked + [line for r in results for line in claim_failures(r)]
    tell(bad)
    if bad:
        raise typer.Exit(1)


def as_row(r: Any) -> dict[str, Any]:
    """One result as ``check --json`` shows it."""
    names = ("claim", "method", "room", "level", "source", "instances", "margin", "tolerance", "holds", "seconds")
    mutants = [{"name": m.name, "caught": m.caught, "how": m.how} for m in r.mutants]
    return {name: getattr(r, name) for name in names} | {"mutants": mutants}


def _print(results: list[Any], mutants: bool) -> None:
    from polytheory.cli._output import print_table
    from polytheory.lab.summary import number

    columns = ["method", "claim", "room", "level", "instances", "margin", "tolerance", "holds", "time"]
    rows = []
    for r in results:
        holds = "crashed" if r.error else "yes" if r.holds else "NO"
        row = [r.method, r.claim, r.room, r.level.lower(), r.instances, number(r.margin), number(r.tolerance), holds]
        rows.append([*row, f"{r.seconds:.2f} s", f"{sum(m.caught for m in r.mutants)}/{len(r.mutants)}"])
    if mutants:
        print_table([*columns, "mutants caught"], rows)
    else:
        print_table(columns, [row[:-1] for row in rows])
