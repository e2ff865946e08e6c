"""``polytheory conform IMPL``: hold somebody's loss or estimator against the formula."""

from __future__ import annotations

from typing import Annotated, Any

import typer


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command("conform")(conform)


def conform(
    impl: Annotated[
        str | None, typer.Argument(metavar="IMPL", help="package.module:function or path/to/file.py:function.")
    ] = None,
    against: Annotated[str | None, typer.Option(metavar="NAME", help="What to hold it against, see --list.")] = None,
    setting: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="A setting of the target.")
    ] = None,
    arg: Annotated[
        list[str] | None,
        typer.Option("--arg", metavar="KEY=VALUE", help="An argument of the function, instead of the settings."),
    ] = None,
    examples: Annotated[int, typer.Option(min=1, help="Batches that each check tries.")] = 40,
    json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    show: Annotated[
        bool, typer.Option("--list", help="Show what there is to hold against, with its settings.")
    ] = False,
) -> None:
    """Check a function of tensors; a failure is shown on the smallest batch found.

    Exit code 1 when a check fails or a declared deviation does not occur, 2 when the function refuses everything.
    """
    from polytheory.cli._build import parse_pairs
    from polytheory.cli._output import print_json
    from polytheory.conformance.kit import checks_for, conform
    from polytheory.errors import SettingError
    from polytheory.progress import Progress

    if show:
        _list(json)
        return
    if impl is None:
        raise SettingError(
            "conform needs IMPL: package.module:function or path/to/file.py:function; --list shows the targets"
        )
    settings = parse_pairs(setting or (), "--set")
    arguments = parse_pairs(arg, "--arg") if arg else None
    options: dict[str, Any] = {"settings": settings, "arguments": arguments, "examples": examples}
    total = len(checks_for(impl, against, **options))
    done = 0
    with Progress("conform", total, None if json else True) as progress:

        def tick(check: Any) -> None:
            nonlocal done
            done += 1
            progress.update(done)

        reports = conform(impl, against, progress=tick, **options)
    if json:
        print_json([report.row() for report in reports])
    for report in reports:
        if not json:
            _print(report)
        _tell(report)
    if not all(report.passed or report.refused for report in reports):
        raise typer.Exit(1)
    if any(report.refused for report in reports):
        raise SettingError(
            "; ".join(f"{r.candidate.name} refuses: {r.findings[0].reason}" for r in reports if r.refused)
        )


def _print(report: Any) -> None:
    from polytheory.cli._output import print_table
    from polytheory.conformance.kit import wrong

    settings = ", ".join(f"{name} = {value}" for name, value in report.settings.items())
    print(f"{report.candidate.name} against {report.candidate.against} ({settings})")
    rows = []
    for f in report.findings:
        words = [wrong(f.mismatch)] if f.mismatch is not None else []
        status = f.status.upper() if not f.ok else f.status
        rows.append([f.check, status, "; ".join([*words, f.reason] if f.reason else words)])
    rows += [[name, "not checked", reason] for name, reason in report.not_checked.items()]
    print_table(("check", "", "found"), rows)


def _tell(report: Any) -> None:
    """Each failure with its smallest batch on stderr."""
    import sys

    from polytheory.conformance.answers import Case
    from polytheory.conformance.kit import explain
    from polytheory.conformance.targets import target

    sys.stdout.flush()
    case = Case(report.candidate, target(report.candidate.against), report.settings)
    for finding in report.findings:
        if not finding.ok:
            print(f"polytheory: failed: {explain(case, finding)}", file=sys.stderr, flush=True)


def _list(json: bool) -> None:
    from polytheory.cli._output import print_json, print_table
    from polytheory.conformance.targets import TARGETS

    rows = [
        {
            "name": t.name,
            "answer": "loss" if not t.column else t.column,
            "settings": dict(t.defaults),
            "source": t.source,
        }
        for t in TARGETS.values()
    ]
    if json:
        print_json(rows)
        return
    cells = [
        [r["name"], r["answer"], ", ".join(f"{k}={v}" for k, v in r["settings"].items()), r["source"]] for r in rows
    ]
    print_table(("target", "answer", "settings and defaults", "source"), cells)
