"""Linear MDPs and their reduction to tabular form."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_allclose

from polytheory.conformance import strategies
from polytheory.errors import DiscountError, ModelError, NonFiniteError, NotStochasticError, ShapeError
from polytheory.models import LinearMDP

PHI = np.array([[[1.0, 0.0], [0.0, 1.0]], [[0.5, 0.5], [0.0, 1.0]]])
MEASURES = np.array([[1.0, 0.0], [0.25, 0.75]])
GOOD = {"phi": PHI, "measures": MEASURES, "theta": np.array([1.0, -1.0]), "mu": np.array([1.0, 0.0]), "gamma": 0.9}


@given(model=strategies.linear_mdps())
def test_reduction_is_the_sum_over_features(model):
    """At most 3 products of numbers in [-1, 1]: rounding below 1e-15."""
    tabular = model.to_tabular()
    for h in range(model.horizon or 1):
        measures = model.measures[h] if model.measures.ndim == 3 else model.measures
        theta = model.theta[h] if model.theta.ndim == 2 else model.theta
        for s, a in np.ndindex(tabular.S, tabular.A):
            row = sum(model.phi[s, a, i] * measures[i] for i in range(model.d))
            assert_allclose(tabular.P_at(h)[s, a], row, rtol=0, atol=1e-15)
            reward = sum(model.phi[s, a, i] * theta[i] for i in range(model.d))
            assert_allclose(tabular.r_at(h)[s, a], reward, rtol=0, atol=1e-15)
    assert (tabular.horizon, tabular.gamma, tabular.S) == (model.horizon, model.gamma, len(model.mu))


def test_signed_measures_are_allowed_when_the_products_are_distributions():
    phi = np.array([[[1.0, 1.0], [1.0, 0.0]], [[1.0, 0.5], [1.0, 0.0]]])
    model = LinearMDP(phi, np.array([[0.9, 0.1], [-0.4, 0.4]]), np.zeros(2), np.array([1.0, 0.0]), gamma=0.5)
    assert_allclose(model.to_tabular().P[0, 0], [0.5, 0.5], rtol=1e-15)


BAD = {
    "row sum": ({"measures": MEASURES * 1.1}, NotStochasticError, r"phi \. measures\[0, 0\] sums to 1\.1"),
    "negative": (
        {"measures": np.array([[1.5, -0.5], [0.25, 0.75]])}, NotStochasticError, r"phi \. measures\[0, 0, 1\] = -0\.5",
    ),
    "phi nan": ({"phi": np.where(PHI == 0.5, np.nan, PHI)}, NonFiniteError, r"phi\[1, 0, 0\] = nan"),
    "theta infinite": ({"theta": np.array([np.inf, 0])}, NonFiniteError, r"theta\[0\] = inf"),
    "phi rank": ({"phi": PHI[0]}, ShapeError, r"phi must be \[S, A, d\].*got \[2, 2\]"),
    "no actions": ({"phi": PHI[:, :0]}, ShapeError, r"got \[2, 0, 2\]"),
    "measures": ({"measures": MEASURES[:, :1]}, ShapeError, r"measures must be \[2, 2\].*got \[2, 1\]"),
    "measures by stage": ({"measures": np.stack([MEASURES] * 3), "horizon": 2}, ShapeError, r"\[2, 2, 2\]; got \[3, 2, 2\]"),
    "theta": ({"theta": np.zeros(3)}, ShapeError, r"theta must be \[2\].*got \[3\]"),
    "mu shape": ({"mu": np.ones(1)}, ShapeError, r"mu must have shape \[S\] = \[2\]; got \[1\]"),
    "mu sum": ({"mu": np.array([0.5, 0.4])}, NotStochasticError, r"mu sums to 0\.9"),
    "gamma": ({"gamma": 1.0}, DiscountError, "without a horizon"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input(case):
    change, error, message = BAD[case]
    LinearMDP(**GOOD)
    with pytest.raises(error, match=message) as caught:
        LinearMDP(**{**GOOD, **change})
    assert isinstance(caught.value, ModelError)
