"""Curves drawn by matplotlib: lines with bands, and a theorem's slope beside the data."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from polytheory.lab.figures.style import COLOURS, MARKS, THEOREM, blank, house, save
from polytheory.lab.records import Curve, Series

FEW_TICKS = 6  # as many labels as a logarithmic axis has room for
MARKED = 24  # lines of more points go without marks


def draw(curve: Curve, path: Path, *, width: float = 5.6, height: float = 3.6) -> Path:
    """Write a figure as SVG, PDF or PNG.

    Dashed series are statements (a theorem's slope, a bound) and are drawn dark and without marks; the others are data. What is
    not finite, or not positive on a logarithmic axis, is left out.
    """
    with house():
        figure = blank(width=width, height=height)
        axes = figure.add_subplot()
        if curve.log_x:
            axes.set_xscale("log")
        if curve.log_y:
            axes.set_yscale("log")
        data = [s for s in curve.series if not s.dashed]
        for i, s in enumerate(data):
            _line(axes, s, i, curve, under=len(data) - 1 - i)
        for i, s in enumerate(x for x in curve.series if x.dashed):
            axes.plot(
                *_shown(s, s.y, curve),
                color=THEOREM,
                linewidth=1.1,
                dashes=((5, 3), (1, 2), (5, 2, 1, 2))[i % 3],
                label=s.label,
            )
        for item in curve.levels:
            axes.axhline(item.y, color=THEOREM, linewidth=0.9, linestyle=":", label=item.label)
        _ticks(axes, sorted({v for s in data for v in s.x}), curve)
        axes.set(xlabel=curve.x_label, ylabel=curve.y_label, title=curve.title)
        if len(curve.series) + len(curve.levels) > 1:
            _legend(figure, axes, len(curve.series) + len(curve.levels))
        return save(figure, path)


def _line(axes: Any, s: Series, i: int, curve: Curve, *, under: int) -> None:
    colour, few = COLOURS[i % len(COLOURS)], len(s.x) <= MARKED
    # a line without marks is broader than those drawn over it, so that it shows where they coincide
    mark = {"marker": MARKS[i % len(MARKS)]} if few else {"linewidth": 1.6 + 0.9 * min(under, 3)}
    axes.plot(*_shown(s, s.y, curve), color=colour, label=s.label, **mark)
    if s.low:
        x, low = _shown(s, s.low, curve)
        _, high = _shown(s, s.high, curve)
        both = np.isfinite(low) & np.isfinite(high)
        axes.fill_between(x[both], low[both], high[both], color=colour, alpha=0.18, linewidth=0)


def _ticks(axes: Any, values: list[float], curve: Curve) -> None:
    """Ticks at the points themselves where they are few: a horizon of 3.5 means nothing, and half a decade has no power
    of ten."""
    whole = all(float(v).is_integer() for v in values)
    if whole and len(values) <= (FEW_TICKS if curve.log_x else 10):
        axes.set_xticks(values, [f"{v:g}" for v in values])
        axes.set_xticks([], minor=True)


def _shown(s: Series, values: list[float | None], curve: Curve) -> tuple[np.ndarray, np.ndarray]:
    x = np.array(s.x, dtype=float)
    y = np.array([np.nan if v is None else v for v in values], dtype=float)
    y[~np.isfinite(y) | (curve.log_y & (y <= 0)) | (curve.log_x & (x <= 0))] = np.nan
    return x, y


def _legend(figure: Any, axes: Any, lines: int) -> None:
    if lines <= 4:
        axes.legend()
    else:  # many lines leave no room inside
        figure.legend(*axes.get_legend_handles_labels(), loc="outside lower left", ncols=2)
