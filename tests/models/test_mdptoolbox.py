"""Arrays in pymdptoolbox's order [A, S, S]."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from model_oracles import best_by_enumeration, dense
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.conformance import strategies
from polytheory.errors import DiscountError, NotStochasticError, ShapeError
from polytheory.models import from_mdptoolbox, make

# the arrays that its documentation prints for example.forest()
P = np.array([[[0.1, 0.9, 0], [0.1, 0, 0.9], [0.1, 0, 0.9]], [[1, 0, 0], [1, 0, 0], [1, 0, 0]]])
R = np.array([[0.0, 0], [0, 1], [4, 2]])


def test_forest():
    model = from_mdptoolbox(P, R, 0.9)
    assert_allclose(dense(model), dense(make("forest")), rtol=0, atol=1e-16)
    assert_array_equal(model.r, make("forest").r)
    assert_allclose(best_by_enumeration(model)[0], [26.244, 29.484, 33.484], rtol=1e-12)
    assert_allclose(model.mu, 1 / 3)


@given(model=strategies.tabular_mdps(transition_rewards=True, terminal=False))
def test_there_and_back(model):
    kernel = model.P.transpose(1, 0, 2)
    rewards = model.r if model.r.ndim == 2 else model.r.transpose(1, 0, 2)
    full = from_mdptoolbox(kernel, rewards, model.gamma, mu=model.mu)
    assert_array_equal(full.P, model.P)
    assert_allclose(full.r_at(), model.r_at(), rtol=0, atol=1e-14)
    matrices = [sp.csr_matrix(k) for k in kernel]
    stored = rewards if rewards.ndim == 2 else [sp.csr_matrix(x) for x in rewards]
    sparse = from_mdptoolbox(matrices, stored, model.gamma, mu=model.mu)
    assert sparse.is_sparse
    assert_array_equal(dense(sparse), model.P)
    assert_allclose(sparse.r_at(), model.r_at(), rtol=0, atol=1e-14)


def test_rewards_by_state_and_horizon():
    model = from_mdptoolbox(P, np.array([1.0, 2.0, 3.0]), 1.0, horizon=4, mu=[1.0, 0.0, 0.0])
    assert_array_equal(model.r, [[1, 1], [2, 2], [3, 3]])
    assert model.horizon == 4


@pytest.mark.parametrize(
    ("kernel", "rewards", "discount", "error", "message"),
    [
        (P.transpose(1, 0, 2), R, 0.9, ShapeError, r"P must be \[A, S, S\]"),
        ([], R, 0.9, ShapeError, r"P must be \[A, S, S\]"),
        (P, R.T, 0.9, ShapeError, r"R must be .*got \[2, 3\]"),
        (P, R, 1.0, DiscountError, "horizon"),
        (P * 0.9, R, 0.9, NotStochasticError, r"P\[0, 0\] sums to 0\.9"),
    ],
)
def test_bad_input(kernel, rewards, discount, error, message):
    with pytest.raises(error, match=message):
        from_mdptoolbox(kernel, rewards, discount)
