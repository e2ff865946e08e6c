"""``polytheory study NAME``: a study that ships, from runs to figures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("study")(study)


def study(
    name: Annotated[str | None, typer.Argument(help="Name of a study, or a TOML file; without one, the list.")] = None,
    small: Annotated[bool, typer.Option("--small", help="The small form: a smoke test, no result.")] = False,
    out: Annotated[Path | None, typer.Option(metavar="DIR", help="Where results lie; default sweeps/NAME.")] = None,
    figures: Annotated[Path | None, typer.Option(metavar="DIR", help="Where figures go; default DIR/figures.")] = None,
    form: Annotated[str, typer.Option("--format", help="svg, pdf or png.")] = "svg",
    backend: Annotated[str, typer.Option(help="loky (all cores), ray (a cluster) or serial.")] = "loky",
    jobs: Annotated[int | None, typer.Option(help="Workers; default: all there are.")] = None,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Run a study that ships, or what is left of it; draw its figures and say what they show."""
    import sys

    from polytheory.cli._output import print_json, print_table
    from polytheory.lab.studies import about, asked, load, names, results
    from polytheory.lab.studies.answer import answer
    from polytheory.lab.studies.writing import record, write

    if name is None:
        rows = [(each, about(each)) for each in names()]
        print_json([{"study": a, "about": b} for a, b in rows]) if json else print_table(("study", ""), rows)
        return
    made = load(name, small=small)
    folder = out or Path("sweeps") / (made.name + ("-small" if small else ""))
    table = results(made, folder, backend=backend, jobs=jobs)
    found = {f"{made.name}-{q.stem}": answer(q, table) for q in asked(made)}
    intro = "Small form: a smoke test, no result." if small else about(name)
    paths = write(found, figures or folder / "figures", folder / f"{made.name}.html", intro=intro, form=form)
    if json:
        print_json({
            "study": made.name, "folder": str(folder), "files": [str(p) for p in paths],
            "figures": [
                {"figure": stem, "findings": list(a.shown.findings), "notes": list(a.shown.notes),
                 "exponents": [record(label, e) for label, e in a.exponents.items()]}
                for stem, a in found.items()
            ],
        })  # fmt: skip
        return
    for stem, a in found.items():
        print(stem)
        for line in (*a.shown.findings, *a.shown.notes):
            print(f"  {line}")
    print(f"figures and the numbers behind them: {paths[-1]}", file=sys.stderr)
