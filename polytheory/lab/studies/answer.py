"""From tidy results to a figure with findings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.errors import SettingError, UnknownNameError
from polytheory.lab.estimates import band, fit, kaplan_meier, mean_logs, passage_logs, passages
from polytheory.lab.estimates.exponents import Exponent
from polytheory.lab.figures import laws
from polytheory.lab.figures.page import Shown
from polytheory.lab.records import Curve, Series
from polytheory.lab.studies.orders import Line, orders
from polytheory.lab.studies.question import RUNNING, Question

if TYPE_CHECKING:
    import polars

NAMES = ("method", "algorithm", "environment")
MARKS = ("study", *NAMES, "budget", "room")  # with the knobs they name a cell


@dataclass(frozen=True)
class Answer:
    """The figure with its findings, and the exponents by line; ``refused`` says of which lines none could be had, and why."""

    shown: Shown
    exponents: dict[str, Exponent]
    refused: dict[str, str]


def answer(question: Question, table: polars.DataFrame) -> Answer:
    """Ask a question of the table of `lab.collect`.

    Raises `UnknownNameError` for a column that is not there, `SettingError` where no row is left or a line mixes several cells.
    """
    lines = []
    for y in question.measures:
        rows = _rows(question, y, table)
        lines += [_line(question, y, _label(question, y, words), part) for words, part in _parts(question, rows)]
    return _passage_answer(question, lines) if question.eps else _curve_answer(question, lines)


def _label(question: Question, y: str, words: list[str]) -> str:
    label = ", ".join([*words, *([y] if len(question.measures) > 1 else [])])
    return question.labels.get(label, label)


def _rows(question: Question, y: str, table: polars.DataFrame) -> polars.DataFrame:
    for name in (y, *([] if question.eps else [question.x]), *question.lines, *question.where):
        if name not in table.columns:
            raise UnknownNameError("column of the results", name, table.columns)
    for name, value in question.where.items():
        table = table.filter(table[name].is_in(value if isinstance(value, list) else [value]))
    rows = table.filter(table[y].is_not_null() & table[y].cast(float).is_not_nan())
    if not len(rows):
        raise SettingError(
            f"no row of the results has {y}" + (f" with {dict(question.where)}" if question.where else "")
        )
    return rows


def _parts(question: Question, rows: polars.DataFrame) -> list[tuple[list[str], polars.DataFrame]]:
    names = list(question.lines) or [
        c for c in _marks(rows) if c != question.x and rows[c].n_unique() > 1 and not _follows(rows, c, question.x)
    ]
    if not question.lines and "algorithm" in names and "method" in names:
        names.remove("method")
    if not names:
        return [([rows["algorithm"][0]] if len(question.measures) == 1 else [], rows)]
    parts = rows.partition_by(names, as_dict=True, maintain_order=True).items()
    return [([_word(n, v) for n, v in zip(names, key, strict=True) if v is not None], part) for key, part in parts]


def _line(question: Question, measure: str, label: str, part: polars.DataFrame) -> Line:
    along = question.x in RUNNING or bool(question.eps)
    marks = [c for c in _marks(part) if c != question.x]
    mixed = [c for c in marks if part[c].n_unique() > 1 and (along or not _follows(part, c, question.x))]
    if mixed:
        raise SettingError(
            f"the line {label!r} mixes several values of {mixed[0]}; put it into lines, or choose one by where"
        )
    x = "episodes" if question.eps else question.x
    if along:
        steps = part["step"].unique().sort()
        wide = part.pivot(on="step", index="seed", values=measure, sort_columns=False).sort("seed")
        y = wide.select(str(s) for s in steps).to_numpy().astype(float)
        at = np.array([part.filter(part["step"] == s)[x].mean() for s in steps], dtype=float)
        return Line(label, at, y, paired=True)
    last = part.sort("step").group_by([x, "seed"], maintain_order=True).last().sort(x, "seed")
    groups = [g[measure].to_numpy().astype(float) for g in last.partition_by(x, maintain_order=True)]
    y = np.full((max(map(len, groups)), len(groups)), np.nan)
    for j, group in enumerate(groups):
        y[: len(group), j] = group
    return Line(label, last[x].unique(maintain_order=True).to_numpy().astype(float), y, paired=False)


def _curve_answer(question: Question, lines: list[Line]) -> Answer:
    series, found, refused, beside = [], {}, {}, []
    for line in lines:
        stated = any(question.labels.get(x, x) == line.label for x in question.statements)
        series.append(replace(_series(line, question), dashed=stated))
        if question.fits(line.label):
            try:
                found[line.label] = _fitted(question, line)
            except SettingError as error:
                refused[line.label] = str(error)
                continue
            drawn = laws.theorem(found[line.label])
            beside += [drawn] if drawn is not None and drawn.label not in {b.label for b in beside} else []
    y = " and ".join(question.measures)
    made = _answer(question, series + beside, found, refused, question.x, y)
    return replace(made, shown=replace(made.shown, findings=[*made.shown.findings, *orders(question, lines)]))


def _fitted(question: Question, line: Line) -> Exponent:
    mean = np.nanmean(line.y, axis=0)
    whole = ~np.isnan(line.y).any(axis=0) if line.paired else np.ones(len(line.x), dtype=bool)
    kept = np.flatnonzero((line.x > 0) & (line.x >= question.start) & (mean > 0) & whole)
    kept = _spread(kept, line.x, question.points)
    if len(kept) < 3:
        raise SettingError(f"{len(kept)} of {len(line.x)} points have positive x and mean; a fit needs 3 or more")
    logs = mean_logs(np.ascontiguousarray(line.y[:, kept]), paired=line.paired)
    return fit(
        line.x[kept], logs, stated=question.stated(line.label), law=question.law, towards=question.towards,
        level=question.level, names=(question.x_label or _short(question.x), question.y_label or _short(question.measures[0])),
    )  # fmt: skip


def _passage_answer(question: Question, lines: list[Line]) -> Answer:
    series, found, refused, beside = [], {}, {}, []
    for line in lines:
        eps, events = np.sort(np.array(question.eps, dtype=float))[::-1], []
        events = [passages(line.x, line.y, float(e), kind=question.passage) for e in eps]
        curves = [kaplan_meier(e) for e in events]
        n = np.array([c.quantile(question.quantile) for c in curves])
        ends = np.array([c.quantile_interval(question.quantile, level=question.level) for c in curves])
        series.append(laws.data(line.label, eps, n, ends[:, 0], ends[:, 1]))
        if question.fits(line.label):
            kept = np.flatnonzero(np.isfinite(n) & (n > 0))
            try:
                found[line.label] = fit(
                    eps[kept], passage_logs([events[j] for j in kept], q=question.quantile),
                    stated=question.stated(line.label), towards="small", level=question.level, names=("eps", "N"),
                )  # fmt: skip
            except (SettingError, ValueError) as error:
                refused[line.label] = str(error)
                continue
            drawn = laws.theorem(found[line.label])
            beside += [drawn] if drawn is not None and drawn.label not in {b.label for b in beside} else []
        censored = [
            f"{1 - e.observed.mean():.0%} at {x:g}" for e, x in zip(events, eps, strict=True) if not e.observed.all()
        ]
        if censored:
            refused[f"{line.label}: censored runs"] = ", ".join(censored)
    return _answer(question, series + beside, found, refused, "eps", f"N(eps), {question.passage}")


def _answer(question: Question, series: list[Series], found: dict, refused: dict, x: str, y: str) -> Answer:
    curve = Curve(
        title=question.title or f"{y} against {x}", x_label=question.x_label or x, y_label=question.y_label or y,
        series=series, log_x="x" in question.log, log_y="y" in question.log, caption=question.caption,
    )  # fmt: skip
    findings = [f"{label}: {e}" for label, e in found.items()]
    return Answer(Shown(curve, findings, [f"{label}: {why}" for label, why in refused.items()]), found, refused)


def _series(line: Line, question: Question) -> Series:
    runs = (~np.isnan(line.y)).sum(axis=0)
    mean = np.nanmean(line.y, axis=0)
    if runs.min() < 2 or not np.nanmax(np.nanmax(line.y, axis=0) - np.nanmin(line.y, axis=0)) > 0:
        return laws.data(line.label, line.x, mean)
    ends = [band(c[~np.isnan(c)][:, None], level=question.level) for c in line.y.T]
    return laws.data(line.label, line.x, mean, np.array([e.low[0] for e in ends]), np.array([e.high[0] for e in ends]))


def _spread(kept: np.ndarray, x: np.ndarray, points: int) -> np.ndarray:
    """At most ``points`` of the kept positions, about evenly over log x, the ends included."""
    if len(kept) <= points:
        return kept
    wanted = np.geomspace(x[kept[0]], x[kept[-1]], points)
    nearest = np.abs(np.log(x[kept]) - np.log(wanted)[:, None]).argmin(axis=1)
    return kept[np.unique(nearest)]


def _marks(rows: polars.DataFrame) -> list[str]:
    return [c for c in rows.columns if c in MARKS or c.startswith(("env.", "algo.", "access."))]


def _follows(rows: polars.DataFrame, name: str, x: str) -> bool:
    """Whether a column is known once x is, as a setting that takes the budget."""
    if x in RUNNING or x not in rows.columns:
        return False
    known = rows.filter(rows[name].is_not_null())
    return len(known.select(name, x).unique()) == known[x].n_unique()


def _word(name: str, value: Any) -> str:
    return str(value) if name in NAMES else f"{_short(name)} = {value}"


def _short(name: str) -> str:
    return "T" if name == "budget" else name.removeprefix("env.").removeprefix("algo.").removeprefix("access.")
