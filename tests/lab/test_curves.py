"""Curves pass through their points."""

from __future__ import annotations

import math

import pytest
from verifications import Reader, curve

from polytheory.lab.records import Level, Series
from polytheory.lab.report import curves
from polytheory.lab.report.scales import fit

X = [1.0, 10.0, 100.0]
ROUNDED = 0.05 + 1e-9  # positions are written with one decimal


def points(text: str) -> list[tuple[float, float]]:
    return [tuple(map(float, p.split(","))) for p in text.split()]  # type: ignore[misc]


def lines(page):
    return [a for a, _ in page.all("polyline")]


@pytest.mark.parametrize("log", [False, True])
def test_a_line_goes_through_its_points(log):
    y = [1.0, 0.1, 0.001]
    page = Reader(str(curves.figure(curve(series=[Series("s", X, y)], levels=[], log_x=log, log_y=log))))
    (line,) = lines(page)
    at = points(line["points"])
    x_range, y_range = (X[0], X[-1]), (y[-1], y[0])
    for (px, py), a, b in zip(at, X, y, strict=True):
        assert _share(px, at[0][0], at[-1][0]) == pytest.approx(_part(a, x_range, log), abs=1e-3)
        assert _share(py, at[-1][1], at[0][1]) == pytest.approx(_part(b, y_range, log), abs=1e-3)
    assert at[0][1] < at[-1][1]  # larger is higher


def _share(p: float, start: float, end: float) -> float:
    return (p - start) / (end - start)


def _part(v: float, ends: tuple[float, float], log: bool) -> float:
    low, high = (math.log(e) for e in ends) if log else ends
    return ((math.log(v) if log else v) - low) / (high - low)


def test_missing_points_cut_the_line():
    series = [Series("s", [1.0, 2.0, 3.0, 4.0, 5.0], [1.0, 2.0, None, 4.0, 5.0])]
    page = Reader(str(curves.figure(curve(series=series, levels=[], log_y=False))))
    assert [len(points(a["points"])) for a in lines(page)] == [2, 2]


def test_a_band_holds_its_line():
    low, mid, high = [0.0, 1.0, 2.0], [1.0, 2.0, 3.0], [2.0, 3.0, 4.5]
    page = Reader(str(curves.figure(curve(series=[Series("s", X, mid, low, high)], levels=[], log_y=False))))
    band = points(page.all("polygon")[0][0]["points"])
    line = points(lines(page)[0]["points"])
    upper, lower = band[:3], band[3:][::-1]
    for (x, y), (x_up, y_up), (x_low, y_low) in zip(line, upper, lower, strict=True):
        assert x == x_up == x_low
        assert y_up - ROUNDED <= y <= y_low + ROUNDED


def test_the_optimum_is_a_level_across():
    page = Reader(str(curves.figure(curve(series=[Series("s", X, X)], levels=[Level("J*", 200.0)], log_y=False))))
    (level,) = [a for a, _ in page.all("line", class_="level") if float(a["x2"]) > 100]
    assert level["y1"] == level["y2"]
    assert float(level["y1"]) < min(p[1] for p in points(lines(page)[0]["points"]))
    assert "J*: 200" in page.all("svg")[0][0]["aria-label"]


@pytest.mark.parametrize("y", [[], [None, None], [0.0, 0.0]])
def test_nothing_to_show_is_said(y):
    page = Reader(str(curves.figure(curve(series=[Series("s", [1.0, 2.0][: len(y)], y)], levels=[], log_y=True))))
    assert page.all("svg")[0][0]["aria-label"]
    assert fit(y, 0.0, 1.0, log=True).ticks()
