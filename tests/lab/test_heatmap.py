"""The heat map shows the values it was given, in colours that can be read."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest
from verifications import VALUES, Reader, grid_values

from polytheory.lab.report import heatmap
from polytheory.models import make
from polytheory.reference.planning.planning import solve

LEAST_CONTRAST = 4.5  # of text, WCAG 2 level AA


def cells(grid):
    page = Reader(str(heatmap.figure(grid, "test")))
    return page, [attributes for attributes, _ in page.all("rect", class_="cell")]


def test_values_can_be_read_back_exactly():
    _, found = cells(grid_values())
    assert {int(c["data-state"]): float(c["data-value"]) for c in found} == dict(enumerate(VALUES))


def test_values_of_a_solved_model_and_where_they_lie():
    model = make("gridworld", rows=2, columns=3, gamma=0.9)
    v = solve(model).v
    found = cells(grid_values(v))[1]
    for c in found:
        s = int(c["data-state"])
        row, column = divmod(s, 3)
        distance = (1 - row) + (2 - column)
        assert float(c["data-value"]) == v[s] == pytest.approx(-(1 - 0.9**distance) / 0.1, abs=1e-6)  # solve's tol
        assert (float(c["y"]), float(c["x"])) == (row * float(c["height"]), column * float(c["width"]))


def test_colours_are_ordered_by_value():
    page, found = cells(grid_values((0.0, 0.2, 0.4, 0.6, 0.8, 1.0)))
    light = [heatmap.luminance(c["fill"]) for c in found]
    assert all(a < b for a, b in pairwise(light))
    assert page.all("svg")[0][0]["role"] == "img"


def test_equal_values_have_one_colour():
    _, found = cells(grid_values((2.0,) * 6))
    assert len({c["fill"] for c in found}) == 1


def test_text_on_every_colour_can_be_read():
    for k in range(101):
        background = heatmap.colour(k / 100)
        a, b = sorted((heatmap.luminance(background), heatmap.luminance(heatmap.ink(background))))
        assert (b + 0.05) / (a + 0.05) >= LEAST_CONTRAST
    assert heatmap.colour(-1.0) == heatmap.colour(0.0)
    assert heatmap.colour(2.0) == heatmap.colour(1.0)


def test_every_cell_says_its_value_and_policy_in_words():
    page, found = cells(grid_values())
    titles = [text for _, text in page.all("title")]
    for c in found:
        s = int(c["data-state"])
        (words,) = [t for t in titles if t.startswith(f"state {s}:")]
        assert f"value {VALUES[s]:.6g}" in words
    assert any("← 0.7" in t and "↓ 0.3" in t for t in titles)


def test_arrows_point_where_the_policy_goes():
    page, found = cells(grid_values())
    middle = {int(c["data-state"]): (float(c["x"]) + float(c["width"]) / 2) for c in found}
    heads = [[tuple(map(float, p.split(","))) for p in a["points"].split()] for a, _ in page.all("polygon")]
    width = float(found[0]["width"])
    of = {s: [h for h in heads if abs(h[0][0] - x) < width / 2 and h[0][1] < width] for s, x in middle.items() if s < 3}
    left, down = sorted(of[0], key=lambda h: h[0][0])
    assert left[0][0] < min(left[1][0], left[2][0])  # the tip is furthest left
    assert down[0][1] > max(down[1][1], down[2][1])
    (right,) = of[1]
    assert right[0][0] > max(right[1][0], right[2][0])
    (up,) = of[2]
    assert up[0][1] < min(up[1][1], up[2][1])


def test_a_policy_without_directions_is_shown_by_its_labels():

    grid = replace(grid_values(), arrows=["hold", "sell", "→", "↑"])
    page, _ = cells(grid)
    assert any(text == "hold 70%" for _, text in page.all("text"))
