"""Claims with their margins, levels and mutants."""

from __future__ import annotations

from polytheory.lab.records import MethodRecord
from polytheory.lab.report.html import Safe, el, join
from polytheory.lab.report.scales import label
from polytheory.lab.summary import by_claim, by_mutant
from polytheory.proofs_check.runner import ClaimResult

LEVELS = {
    "SYMBOLIC": "proved for all values at once by computer algebra or an SMT solver, on the code's own formula.",
    "CERTIFICATE": "each instance carries a proof of its own: a primal-dual pair, exact fractions or intervals.",
    "PROPERTY": "checked on worked numbers and generated instances, the ugly ones included: evidence, not proof.",
    "STATISTICAL": "sampled with fixed seeds at a stated error level: the weakest evidence, for claims about chance.",
}


def legend() -> Safe:
    """What the levels and a margin mean."""
    rows = [join(el("dt", _badge(name)), el("dd", text)) for name, text in LEVELS.items()]
    return el(
        "section",
        el("h3", "How to read the claims"),
        el(
            "p",
            "A claim is a theorem one can run. Its margin is the slack of the inequality, or minus the size of the "
            "discrepancy of an equality, on the worst instance; it holds when the margin is no lower than minus the "
            "tolerance, which is derived from the statement and never tuned. A mutant is a deliberate error put into "
            "the code: a claim that cannot tell the broken code from the right one proves nothing, so every mutant must "
            "be caught. The level says how strong the evidence is:",
        ),
        el("dl", *rows, class_="levels"),
    )


def claims_of(record: MethodRecord) -> Safe:
    """All claims of a method."""
    items = [_claim(name, results) for name, results in by_claim(record.claims).items()]
    return join(el("h3", "Claims"), el("ol", *items, class_="claims"))


def _claim(name: str, results: list[ClaimResult]) -> Safe:
    first = results[0]
    return el(
        "li",
        el("div", _badge(first.level), el("code", name)),
        el("p", first.statement, el("span", f" [{first.source}]", class_="soft")),
        el("div", *(_room(r) for r in results), class_="rooms"),
        _mutants(results),
    )


def _room(r: ClaimResult) -> Safe:
    if r.error is not None:
        return el("div", el("span", "✗ crashed", class_="bad"), f" in {r.room}: {r.error}")
    verdict = el("span", "✓ holds", class_="good") if r.holds else el("span", "✗ does not hold", class_="bad")
    count = "1 instance" if r.instances == 1 else f"{r.instances} instances"
    return el("div", verdict, f" in {r.room}: margin {_number(r.margin)}, tolerance {_number(r.tolerance)}, {count}")


def _mutants(results: list[ClaimResult]) -> Safe | None:
    found = by_mutant(results)
    if not found:
        return None
    caught = sum(map(all, found.values()))
    lines = [
        el("li", el("code", m.name), f" in {r.room}: ", _verdict(m.caught), f", {m.how}")
        for r in results
        for m in r.mutants
    ]
    missed = caught < len(found)
    head = el("summary", f"{caught} of {len(found)} mutants caught", class_="bad" if missed else None)
    return el("details", head, el("ul", *lines), **({"open": ""} if missed else {}))


def _verdict(caught: bool) -> Safe:
    return el("span", "caught", class_="good") if caught else el("span", "survived", class_="bad")


def _badge(level: str) -> Safe:
    return el("span", level.lower(), class_="badge")


def _number(x: float | None) -> str:
    return "none" if x is None else label(float(f"{x:.3g}"))
