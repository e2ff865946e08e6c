"""Ambiguity sets as data: what they refuse, and how they are written on a command line."""

from __future__ import annotations

import numpy as np
import pytest

from polytheory.errors import NotStochasticError, SettingError, ShapeError, UnknownNameError
from polytheory.models import ambiguity as sets


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: sets.TotalVariation(1.5), "radius lies in \\[0, 1\\]"),
        (lambda: sets.L1(-0.1), "radius lies in \\[0, 2\\]"),
        (lambda: sets.KL(float("nan")), "radius lies in"),
        (lambda: sets.LInfinity(2.0), "radius lies in"),
        (lambda: sets.Wasserstein(0.1, -np.eye(2)), "cost is >= 0"),
        (lambda: sets.Penalised("kl", 0.0), "positive and finite"),
        (lambda: sets.SharedBudget(sets.L1, -1.0), "radius lies in"),
        (
            lambda: sets.Interval(np.full((1, 1, 2), 0.6), np.ones((1, 1, 2))),
            "no law lies between low and high at \\[0, 0\\]",
        ),
        (lambda: sets.Interval(np.zeros((1, 1, 2)), np.full((1, 1, 2), 0.4)), "sums 0 and 0.8"),
        (lambda: sets.ambiguity("kl"), "write it as NAME:RADIUS"),
        (
            lambda: sets.Factored(sets.SharedBudget(sets.KL, 1.0), np.ones((1, 1, 1)), np.ones((1, 1))),
            "ball or a penalty",
        ),
    ],
)
def test_a_set_that_means_nothing_is_refused(make, says):
    with pytest.raises(SettingError, match=says):
        make()


def test_unknown_names_are_refused():
    with pytest.raises(UnknownNameError, match="support"):
        sets.L1(0.1, "half")
    with pytest.raises(UnknownNameError, match="ambiguity set"):
        sets.ambiguity("tvv:0.1")
    with pytest.raises(UnknownNameError, match="shared budget"):
        sets.SharedBudget(sets.LInfinity, 0.1)


def test_shapes_and_rows_are_checked():
    with pytest.raises(ShapeError, match="kernels must be"):
        sets.Scenarios(np.ones((1, 2)))
    with pytest.raises(NotStochasticError, match="kernels"):
        sets.Scenarios(np.full((1, 1, 1, 2), 0.4))
    with pytest.raises(ShapeError, match="S = 3"):
        sets.Wasserstein(0.1, np.zeros((2, 2))).ground_cost(3)


def test_texts_name_every_kind():
    assert sets.ambiguity("tv:0.25").radius == 0.25
    assert isinstance(sets.ambiguity("tv:0.25"), sets.TotalVariation)
    assert sets.ambiguity("penalised-chi2:2").divergence == "chi2"
    assert sets.ambiguity("shared-kl:0.5").ball is sets.KL
    ball = sets.ChiSquare(0.1)
    assert sets.ambiguity(ball) is ball
