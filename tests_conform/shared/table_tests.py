"""What both frameworks' numbers are tested for."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from mutants import shifted, tilted

from polytheory.conformance.table.numbers import ROWS, Numbers, all_numbers, compute, differences, read, verdict
from polytheory.conformance.table.rows import Row

KEPT = Path(__file__).resolve().parents[2] / "docs" / "conformance"


@cache
def kept(framework: str) -> dict[str, Numbers | str]:
    """The numbers of the page."""
    return read(framework, KEPT)


def rows(framework: str) -> list[Row]:
    """Every row once."""
    return list({row.name: row for row in ROWS[framework]}.values())


def changed(framework: str) -> set[str]:
    """Names of the rows whose numbers are no longer those of the page; recomputes all."""
    now = {row.name: compute(row) for row in rows(framework)}
    return {name for name in now if differences({name: kept(framework)[name]}, {name: now[name]})}


def check_numbers(framework: str) -> None:
    """Everything the framework computes is what the page says, refusals included."""
    assert differences(kept(framework), all_numbers(framework)) == []


def check_verdicts(framework: str) -> None:
    """Every row equals its formula or has a reason why not, on freshly computed numbers."""
    now = all_numbers(framework)
    for row in ROWS[framework]:
        verdict(row, now[row.name], now)


def check_teeth(row: Row) -> None:
    """A small mistake in a row's value or gradient is noticed."""
    before = kept(row.framework)[row.name]
    if isinstance(before, str):
        assert differences({row.name: before}, {row.name: "another reason"})
        return
    call = getattr(import_module(f"polytheory.conformance.adapters.{row.framework}"), row.call)
    for mutant in (shifted, tilted) if before.values is None else (shifted,):
        now: Any = compute(row, counted(mutant(call), call, row))
        assert differences({row.name: before}, {row.name: now}), mutant.__name__


def counted(mutant: Callable[..., Any], call: Callable[..., Any], row: Row) -> Callable[..., Any]:
    """Of several micro-batches only the first is wrong, as a mistake in one of them must be noticed too."""
    seen = []

    def function(*args: Any, **settings: Any) -> Any:
        seen.append(row)
        return (mutant if len(seen) == 1 else call)(*args, **settings)

    return function
