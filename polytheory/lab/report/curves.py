"""Learning curves and error bounds as SVG."""

from __future__ import annotations

import math

from polytheory.lab.records import Curve, Series
from polytheory.lab.report.html import Safe, el, join
from polytheory.lab.report.scales import Scale, fit, label

WIDTH, HEIGHT = 460, 300
LEFT, RIGHT, TOP, BOTTOM = 68, 12, 12, 46
COLOURS = 4  # of the palette in the style sheet: classes c0 to c3


def figure(curve: Curve) -> Safe:
    """The curve with title, legend and caption."""
    marks = [_legend(f"line c{i % COLOURS}{_kind(i, s)}", s.label) for i, s in enumerate(curve.series)]
    marks += [_legend("level", item.label) for item in curve.levels]
    return el(
        "figure",
        el("h4", curve.title),
        _drawing(curve),
        el("ul", *marks, class_="legend"),
        el("figcaption", curve.caption) if curve.caption else None,
    )


def _drawing(curve: Curve) -> Safe:
    log_x = curve.log_x and all(x > 0 for s in curve.series for x in s.x)
    x = fit((v for s in curve.series for v in s.x), LEFT, WIDTH - RIGHT, log=log_x)
    if not log_x:
        x = _tight(curve, x)
    levels = [item.y for item in curve.levels]
    heights = [v for s in curve.series for v in (*s.y, *s.low, *s.high)] + levels
    y = fit(heights, HEIGHT - BOTTOM, TOP, log=curve.log_y)
    parts: list[Safe | None] = [_axes(x, y, curve)]
    for i, s in enumerate(curve.series):
        parts.append(_band(s, i, x, y))
        parts += [
            el("polyline", points=_points(run), class_=f"line c{i % COLOURS}{_kind(i, s)}")
            for run in _runs(s.x, s.y, x, y)
        ]
    for item in curve.levels:
        h = y.at(item.y)
        parts.append(el("line", x1=float(LEFT), x2=float(WIDTH - RIGHT), y1=h, y2=h, class_="level"))
    text = f"{curve.title}. {curve.y_label} over {curve.x_label}. " + " ".join(_ends(s) for s in curve.series)
    text += "".join(f" {item.label}: {item.y:.4g}." for item in curve.levels)
    return el(
        "svg", el("title", curve.title), el("desc", text), *parts,
        viewBox=f"0 0 {WIDTH} {HEIGHT}", role="img", aria_label=text, class_="chart",
    )  # fmt: skip


def _tight(curve: Curve, x: Scale) -> Scale:
    values = [v for s in curve.series for v in s.x] or [0.0, 1.0]
    low, high = min(values), max(values)
    return Scale(low, high, x.start, x.end) if high > low else x


def _axes(x: Scale, y: Scale, curve: Curve) -> Safe:
    parts = []
    for v in y.ticks():
        h = y.at(v)
        parts.append(el("line", x1=float(LEFT), x2=float(WIDTH - RIGHT), y1=h, y2=h, class_="rule"))
        parts.append(el("text", label(v), x=LEFT - 6, y=h + 4, text_anchor="end"))
    for v in x.ticks():
        at = x.at(v)
        parts.append(el("line", x1=at, x2=at, y1=float(HEIGHT - BOTTOM), y2=HEIGHT - BOTTOM + 4.0, class_="axis"))
        parts.append(el("text", label(v), x=at, y=HEIGHT - BOTTOM + 17, text_anchor="middle"))
    bottom = float(HEIGHT - BOTTOM)
    parts.append(el("line", x1=float(LEFT), x2=float(WIDTH - RIGHT), y1=bottom, y2=bottom, class_="axis"))
    middle = (TOP + HEIGHT - BOTTOM) / 2
    parts.append(el("text", curve.x_label, x=(LEFT + WIDTH - RIGHT) / 2, y=HEIGHT - 8, text_anchor="middle"))
    turned = f"rotate(-90 14 {middle:g})"
    parts.append(el("text", curve.y_label, x=14, y=middle, text_anchor="middle", transform=turned))
    return el("g", *parts, class_="axes")


def _band(s: Series, i: int, x: Scale, y: Scale) -> Safe | None:
    if not s.low:
        return None
    upper = [p for run in _runs(s.x, s.high, x, y) for p in run]
    lower = [p for run in _runs(s.x, s.low, x, y) for p in run]
    return el("polygon", points=_points(upper + lower[::-1]), class_=f"band c{i % COLOURS}")


def _runs(xs: list[float], ys: list[float | None], x: Scale, y: Scale) -> list[list[tuple[float, float]]]:
    """Positions, cut into pieces where a value cannot be shown."""
    runs: list[list[tuple[float, float]]] = [[]]
    for a, b in zip(xs, ys, strict=True):
        if b is None or not math.isfinite(b) or (y.log and b <= 0):
            runs.append([])
        else:
            runs[-1].append((x.at(a), y.at(b)))
    return [run for run in runs if run]


def _points(run: list[tuple[float, float]]) -> str:
    return " ".join(f"{a:.1f},{b:.1f}" for a, b in run)


def _ends(s: Series) -> str:
    shown = [v for v in s.y if v is not None]
    return f"{s.label}: from {shown[0]:.3g} to {shown[-1]:.3g}." if shown else f"{s.label}: nothing to show."


def _kind(i: int, s: Series) -> str:
    # the first line is drawn broad, so that another one on top of it does not hide it
    return " dashed" if s.dashed else " broad" if i == 0 and not s.low else ""


def _legend(kind: str, text: str) -> Safe:
    swatch = el("svg", el("line", x1=1, x2=27, y1=6, y2=6, class_=kind), viewBox="0 0 28 12", aria_hidden="true")
    return el("li", join(swatch, text))
