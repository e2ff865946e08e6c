"""From numbers to positions, and back."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from polytheory.lab.report.scales import Scale, fit, label

REALS = st.floats(-1e6, 1e6, allow_nan=False)


@given(st.lists(REALS, min_size=1, max_size=6), st.booleans())
def test_a_scale_shows_every_value_in_order(values, upward):
    start, end = (300.0, 12.0) if upward else (62.0, 448.0)
    scale = fit(values, start, end)
    places = [scale.at(x) for x in sorted(values)]
    assert all(min(start, end) <= p <= max(start, end) for p in places)
    assert places == sorted(places, reverse=upward)


@given(st.lists(st.floats(1e-12, 1e12), min_size=2, max_size=6))
def test_equal_ratios_are_equal_distances_on_a_logarithmic_scale(values):
    scale = fit(values, 0.0, 100.0, log=True)
    middle = math.sqrt(scale.low * scale.high)
    assert scale.at(middle) == pytest.approx(50.0, abs=1e-6)  # of 100: the rounding of a logarithm, times ten at most


@given(REALS, st.floats(1e-3, 1e6), st.booleans())
def test_ticks_lie_inside_and_in_order(low, width, log):
    scale = (
        Scale(abs(low) + 1e-3, abs(low) + 1e-3 + width, 0.0, 1.0, True) if log else Scale(low, low + width, 0.0, 1.0)
    )
    ticks = scale.ticks()
    slack = 1e-6 * (scale.high - scale.low)
    assert len(ticks) >= 1
    assert ticks == sorted(set(ticks))
    assert all(scale.low - slack <= t <= scale.high + slack for t in ticks)


def test_ticks_of_a_logarithmic_scale_are_powers_of_ten():
    assert fit([1e-3, 1e3], 0.0, 1.0, log=True).ticks() == pytest.approx([1e-3, 1e-1, 1e1, 1e3]) or all(
        math.log10(t) == pytest.approx(round(math.log10(t))) for t in fit([1e-3, 1e3], 0.0, 1.0, log=True).ticks()
    )


@pytest.mark.parametrize("values", [[], [None], [float("nan")], [3.0], [0.0, 0.0]])
def test_nothing_to_show_is_still_a_scale(values):
    for log in (False, True):
        scale = fit(values, 0.0, 1.0, log=log)
        assert scale.low < scale.high
        assert scale.ticks()


def test_what_cannot_be_on_a_logarithmic_scale_is_left_out():
    scale = fit([0.0, -1.0, 1.0, 100.0], 0.0, 1.0, log=True)
    assert (scale.low, scale.high) == (1.0, 100.0)


@pytest.mark.parametrize(
    ("x", "text"),
    [
        (0, "0"),
        (0.25, "0.25"),
        (-3.5, "−3.5"),
        (2000, "2\u2009000"),
        (1e-6, "10⁻⁶"),
        (2.5e-7, "2.5·10⁻⁷"),
        (1e12, "10¹²"),
    ],
)
def test_labels(x, text):
    assert label(x) == text
