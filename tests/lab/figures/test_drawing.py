"""Figures: the same bytes again, only vector files and PNG, the theorem's slope as it should be, the table behind them."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from verifications import EVIL, Reader, curve

from polytheory.errors import SettingError
from polytheory.lab.estimates import fit, mean_logs
from polytheory.lab.figures import COLOURS, Shown, draw, laws, page
from polytheory.lab.records import Level, Series
from polytheory.lab.report.heatmap import luminance

X = np.array([1.0, 10.0, 100.0, 1000.0])


def shown(**changes):
    series = [Series("a", X.tolist(), [1.0, 3.0, None, 9.0], low=[0.5, 2.0, None, 8.0], high=[2.0, 4.0, None, 10.0])]
    return curve(**{"series": series, "levels": [], "log_x": True, "log_y": True, **changes})


@pytest.mark.parametrize("form", ["svg", "pdf"])
def test_the_same_numbers_make_the_same_file(tmp_path, form):
    first = draw(shown(), tmp_path / f"a.{form}").read_bytes()
    assert draw(shown(), tmp_path / f"b.{form}").read_bytes() == first
    assert b"Date" not in first
    assert draw(shown(title="another"), tmp_path / f"c.{form}").read_bytes() != first


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(SettingError, match=r"x\.gif: a figure is written as \.svg"):
        draw(shown(), tmp_path / "x.gif")


def test_what_cannot_be_drawn_is_left_out_and_nothing_of_the_user_changes(tmp_path):
    import matplotlib

    before = dict(matplotlib.rcParams)
    odd = [Series("a", [0.0, 1.0, 2.0], [1.0, -1.0, math.inf]), Series("bound", [1.0, 2.0], [1.0, 2.0], dashed=True)]
    text = draw(shown(series=odd, levels=[Level("best", 2.0)]), tmp_path / "a.svg").read_text()
    assert all(label in text for label in ("bound", "best"))
    assert dict(matplotlib.rcParams) == before


def test_colours_are_dark_enough_on_white_and_apart():
    light = [luminance(c) for c in COLOURS]
    assert len(set(COLOURS)) == len(COLOURS)
    assert all(
        1.05 / (x + 0.05) >= 3 or c == "#56b4e9" for x, c in zip(light, COLOURS, strict=True)
    )  # WCAG 2, graphics


def test_the_theorem_is_drawn_with_its_own_slope_beside_the_data():
    y = 3 * np.tile(X**0.7, (2, 1))
    found = fit(X, mean_logs(y, paired=True), stated=0.5, names=("T", "regret"))
    line = laws.theorem(found)
    assert line.label == "theorem: T^0.5"
    slope = math.log(line.y[1] / line.y[0]) / math.log(line.x[1] / line.x[0])
    assert slope == pytest.approx(0.5, abs=1e-12)
    assert line.dashed
    assert line.y[-1] == pytest.approx(laws.BESIDE * y[0, -1], rel=1e-9)
    assert laws.theorem(fit(X, mean_logs(y, paired=True))) is None


def test_page_has_every_number_and_escapes_text():
    html = page(EVIL, "intro", [Shown(shown(title=EVIL), ["finding <1>"], ["note"])])
    assert "<script>alert" not in html
    assert "finding &lt;1&gt;" in html
    cells = [text.strip() for _, text in Reader(html).all("td")]
    numbers = [float(re.sub("[\u2009]", "", c)) for c in cells if re.fullmatch(r"[\d.\u2009]+", c)]
    for x in (1.0, 3.0, 9.0, 0.5, 2.0, 8.0, 10.0, 1000.0):
        assert x in numbers
