"""A page of figures with the table behind each: one self-contained HTML file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from polytheory.lab.records import Curve
from polytheory.lab.report import curves
from polytheory.lab.report.html import Safe, el
from polytheory.lab.report.scales import label
from polytheory.lab.report.style import CSS


@dataclass(frozen=True)
class Shown:
    """A figure, and sentences about what was found in it."""

    curve: Curve
    findings: Sequence[str] = ()
    notes: Sequence[str] = field(default_factory=tuple)


def page(title: str, intro: str, shown: Sequence[Shown]) -> str:
    """An HTML document: nothing is loaded from anywhere."""
    head = el(
        "head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"), el("title", f"polytheory: {title}"), el("style", Safe(CSS)),
    )  # fmt: skip
    body = el("body", el("header", el("h1", title), el("p", intro)), *(_section(x) for x in shown))
    return "<!DOCTYPE html>\n" + el("html", head, body, lang="en") + "\n"


def _section(x: Shown) -> Safe:
    return el(
        "section",
        el("div", curves.figure(x.curve), class_="figures solo"),
        el("ul", *(el("li", line) for line in x.findings)) if x.findings else None,
        *(el("p", line, class_="soft") for line in x.notes),
        el("details", el("summary", "the numbers"), el("div", table(x.curve), class_="scroll", tabindex=0)),
        class_="method",
    )


def table(curve: Curve) -> Safe:
    """Every number of a curve, one row for each point of each line."""
    banded = any(s.low for s in curve.series)
    head = ["", curve.x_label, curve.y_label, *(["from", "to"] if banded else [])]
    rows = []
    for s in curve.series:
        for i, x in enumerate(s.x):
            ends = [s.low[i], s.high[i]] if s.low else [None, None]
            cells = [s.label, *(_number(v) for v in (x, s.y[i], *(ends if banded else [])))]
            rows.append(el("tr", *(el("td", c) for c in cells)))
    rows += [
        el("tr", el("td", item.label), el("td", ""), el("td", _number(item.y)), *([el("td", "")] * 2 * banded))
        for item in curve.levels
    ]
    return el("table", el("thead", el("tr", *(el("th", c, scope="col") for c in head))), el("tbody", *rows))


def _number(v: float | None) -> str:
    return "" if v is None else label(float(f"{v:.5g}"))
