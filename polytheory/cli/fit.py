"""``polytheory fit DIR --x budget --y regret --theorem 0.5``: the exponent of a measure in the results of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("fit")(fit)


def fit(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Results of `polytheory sweep`.")],
    y: Annotated[str, typer.Option(help="Measured column, such as regret; the suboptimality for --eps.")],
    x: Annotated[
        str, typer.Option(help="step, episodes, transitions: along each run. budget or a knob: last rows.")
    ] = "step",
    theorem: Annotated[float | None, typer.Option(help="Stated exponent; the base for --law exponential.")] = None,
    lines: Annotated[
        list[str] | None, typer.Option("--by", metavar="COLUMN", help="Tells the lines apart; default: all that vary.")
    ] = None,
    where: Annotated[list[str] | None, typer.Option(metavar="COLUMN=VALUE", help="Rows that count.")] = None,
    eps: Annotated[list[float] | None, typer.Option(help="Ask for N(eps) instead; give three or more.")] = None,
    passage: Annotated[str, typer.Option(help="N(eps) by its first time, or from when it stays.")] = "first",
    law: Annotated[str, typer.Option(help="power or exponential.")] = "power",
    start: Annotated[float, typer.Option(help="Smallest x of the fit.")] = 0.0,
    points: Annotated[int, typer.Option(help="At most so many points.")] = 12,
    level: Annotated[float, typer.Option(help="Of the intervals.")] = 0.95,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Where the figure and its page go; default DIR/figures.")
    ] = None,
    form: Annotated[str, typer.Option("--format", help="svg, pdf or png.")] = "svg",
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Print the measured exponent of each line beside the theorem's, and draw them."""
    import sys

    from polytheory.cli._output import print_json
    from polytheory.errors import SettingError
    from polytheory.lab import collect
    from polytheory.lab.studies import Question, answer
    from polytheory.lab.studies.writing import record, write

    asked = Question(
        y=y, x="eps" if eps else x, lines=lines or (), where=_where(where or ()), theorem=theorem, fit=True, law=law,
        level=level, start=start, points=points, eps=eps or (), passage=passage, log="y" if law == "exponential" else "xy",
    )  # fmt: skip
    found = answer(asked, collect(folder))
    if not found.exponents:
        alike = {why: [at for at, other in found.refused.items() if other == why] for why in found.refused.values()}
        more = {why: f" (the same for {len(at) - 1} more)" if len(at) > 1 else "" for why, at in alike.items()}
        raise SettingError("; ".join(f"{at[0]}: {why}{more[why]}" for why, at in alike.items()))
    intro = f"Results of {folder}."
    place = out or folder / "figures"
    paths = write({asked.stem: found}, place, place / f"{asked.stem}.html", intro=intro, form=form)
    if json:
        rows = [record(label, e) for label, e in found.exponents.items()]
        print_json({"exponents": rows, "refused": found.refused, "files": [str(p) for p in paths]})
        return
    for line in (*found.shown.findings, *found.shown.notes):
        print(line)
    print(f"figure and the numbers behind it: {paths[0]}, {paths[-1]}", file=sys.stderr)


def _where(words: Any) -> dict[str, Any]:
    """``column=value`` words; a column's dots and hyphens stay."""
    import json

    from polytheory.errors import SettingError

    found = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals:
            raise SettingError(f"--where {word}: expected column=value, such as --where env.H=9")
        try:
            found[name] = json.loads(text.lower() if text in ("True", "False") else text)
        except ValueError:
            found[name] = text
    return found
