"""The whole page."""

from __future__ import annotations

from polytheory.lab.records import DemoRecord, MethodRecord, TrainingRecord, Verification
from polytheory.lab.report import claims, curves, heatmap
from polytheory.lab.report.html import Safe, el, join
from polytheory.lab.report.scales import label
from polytheory.lab.report.style import CSS
from polytheory.lab.summary import failures, row_of

COLUMNS = (
    "method",
    "claims held",
    "mutants caught",
    "reference − scaled",
    "episodes",
    "transitions",
    "time",
    "verdict",
)


def page(found: Verification) -> str:
    """A self-contained HTML document: nothing is loaded from anywhere."""
    head = el(
        "head", el("meta", charset="utf-8"), el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"), el("title", "polytheory: verification report"),
        el("style", Safe(CSS)),
    )  # fmt: skip
    body = el(
        "body",
        _top(found),
        claims.legend(),
        *(_method(record) for record in found.methods),
        _training(found.training),
        _foot(found),
    )
    return "<!DOCTYPE html>\n" + el("html", head, body, lang="en") + "\n"


def _top(found: Verification) -> Safe:
    rows = [_row(record) for record in found.methods]
    bad = [line for record in found.methods for line in failures(record)]
    verdict = (
        el("p", "Everything that was checked holds.", class_="good")
        if not bad
        else join(
            el("p", f"What fails ({len(bad)}):", class_="bad"),
            el("ul", *(el("li", line, class_="bad") for line in bad)),
        )
    )
    return el(
        "header",
        el("h1", "Do the methods do what their theorems say?"),
        el(
            "p",
            "Each method below solved real problems with its reference version, every claim of its theory was run "
            "against the code, deliberate errors were put in to see that the claims notice, and the scaled version was "
            "compared with the reference step by step on the same random numbers.",
        ),
        verdict,
        el(
            "div",
            el("table", el("thead", el("tr", *(el("th", c, scope="col") for c in COLUMNS))), el("tbody", *rows)),
            class_="scroll", tabindex=0,
        ),
    )  # fmt: skip


def _row(record: MethodRecord) -> Safe:
    row = row_of(record)
    cells = (
        el("a", record.method, href=f"#{record.method}"),
        f"{row['claims_held']} of {row['claims']}",
        f"{row['mutants_caught']} of {row['mutants']}",
        _number(row["lockstep_error"]),
        label(row["episodes"]),
        label(row["transitions"]),
        f"{row['seconds']:.1f} s",
        _verdict(row["passed"]),
    )
    return el("tr", *(el("td", cell) for cell in cells))


def _method(record: MethodRecord) -> Safe:
    return el(
        "section",
        el("h2", record.title),
        el("p", el("code", record.method), " · ", record.paper, " · ", _link(record.url), class_="soft"),
        *(el("p", line, class_="bad") for line in failures(record)),
        el("h3", "What was solved") if record.demos else None,
        *(_demo(d) for d in record.demos),
        claims.claims_of(record),
        class_="method", id=record.method,
    )  # fmt: skip


def _training(found: TrainingRecord | None) -> Safe | None:
    """A language model trained with the methods above."""
    if found is None:
        return None
    head = el("tr", *(el("th", c, scope="col") for c in ("held-out prompts", "before", "after")))
    rows = (el("tr", *(el("td", cell) for cell in row)) for row in found.accuracy)
    return el(
        "section",
        el("h2", "A language model in training"),
        el(
            "p",
            f"{found.title}: a transformer made here, with a short supervised start, trained for {found.seconds:.0f} s by "
            "polytheory train without a word. Only ascending answers are rewarded; the start learned two other answers too, so "
            "that most of what happens is selection.",
        ),
        el("div", el("table", el("thead", head), el("tbody", *rows)), class_="scroll", tabindex=0),
        el("div", curves.figure(found.curve), class_="figures solo"),
        class_="method", id="training",
    )  # fmt: skip


def _demo(d: DemoRecord) -> Safe:
    figures = [curves.figure(d.curve)] + ([heatmap.figure(d.grid, d.model)] if d.grid else [])
    return el(
        "article",
        el("h4", f"{d.model} by {d.algorithm}"),
        _facts(d),
        el("div", *figures, class_="figures" if len(figures) > 1 else "figures solo"),
        class_="demo",
    )


def _facts(d: DemoRecord) -> Safe:
    end = {"done": "certified", "steps": "budget of steps spent", "episodes": "budget of episodes spent"}
    facts = [
        ("states × actions", f"{d.S} × {d.A}"),
        ("discount γ", f"{d.gamma:g}" if d.horizon is None else f"{d.gamma:g}, horizon {d.horizon}"),
        ("access", d.access),
        ("steps", f"{label(d.steps)}, {end.get(d.status, d.status)}"),
        ("return of the policy found", f"{d.value:.6g}"),
        ("optimum J*", f"{d.optimum:.6g}"),
    ]
    if d.bound is not None:
        facts.append(("certified error", _number(d.bound)))
    counts = {"episodes": d.episodes, "transitions": d.transitions, "backups": d.backups}
    facts += [(name, label(n)) for name, n in counts.items() if n]
    rows = [el("div", el("dt", name), el("dd", text)) for name, text in facts]
    settings = ", ".join(f"{name} = {value}" for name, value in d.settings.items())
    rows.append(el("div", el("dt", "settings"), el("dd", el("code", settings or "none")), class_="wide"))
    rows.append(el("div", el("dt", "reference and scaled in lock-step"), el("dd", *_lockstep(d)), class_="wide"))
    return el("dl", *rows, class_="facts")


def _lockstep(d: DemoRecord) -> list[Safe | str]:
    step = d.lockstep
    if step is None:
        return [el("span", "not compared", class_="bad")]
    size = "not comparable" if step.error is None else f"largest relative difference {_number(step.error)}"
    verdict = el("span", "✓ agree", class_="good") if step.holds else el("span", "✗ differ", class_="bad")
    fields = ", ".join(step.fields) or "no common field"
    return [
        verdict, f" over {step.steps} steps of {step.replicas} replicas: {size}"
        f"{f' (in {step.worst})' if step.error else ''}, tolerance {_number(step.tolerance)}; compared: {fields}",
    ]  # fmt: skip


def _foot(found: Verification) -> Safe:
    versions = ", ".join(f"{name} {version}" for name, version in found.software.items())
    return el("footer", f"Made by polytheory verify on {found.made} in {found.seconds:.0f} s of wall time. {versions}.")


def _link(url: str) -> Safe | str:
    return el("a", url, href=url, rel="noreferrer") if url.startswith(("https://", "http://")) else url


def _verdict(passed: bool) -> Safe:
    return el("span", "passed", class_="good") if passed else el("span", "FAILED", class_="bad")


def _number(x: float | None) -> str:
    return "none" if x is None else label(float(f"{x:.3g}"))
