"""Hardness measures against their definitions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_oracles import best_by_enumeration, dense
from numpy.testing import assert_allclose

from polytheory.conformance import strategies
from polytheory.errors import DiscountError, ModelError
from polytheory.models import (
    TabularMDP,
    effective_horizon,
    make,
    minimum_gap,
    mixing_time,
    stationary_distribution,
    sum_reciprocal_gaps,
)
from polytheory.models.hardness import gaps


def test_gaps_by_hand():
    q = np.array([[1.0, 3.0, 3.0], [2.0, 1.5, -2.0]])
    assert_allclose(gaps(q), [[2, 0, 0], [0, 0.5, 4]])
    assert minimum_gap(q) == 0.5
    assert sum_reciprocal_gaps(q) == 1 / 2 + 1 / 0.5 + 1 / 4
    assert minimum_gap(np.zeros((2, 2))) == np.inf
    assert sum_reciprocal_gaps(np.zeros((2, 2))) == 0
    assert minimum_gap(np.array([[0.0, 1e-12], [0.0, 1.0]])) == 1.0  # rounding is no gap
    staged = np.stack([q, q + 5])
    assert sum_reciprocal_gaps(staged) == 2 * sum_reciprocal_gaps(q)


def test_gaps_of_a_model():
    """Two-state model: the gap is what one wrong action costs when everything after it is right."""
    model = make("two-state")
    v, _ = best_by_enumeration(model)
    q = model.backup(v)
    once = [v[s] - (model.r[s, 0] + 0.8 * model.P[s, 0] @ v) for s in (0, 1)]
    assert_allclose(minimum_gap(q), min(once), rtol=1e-12)


@given(gamma=st.sampled_from(strategies.GAMMAS), eps=st.sampled_from([1e-6, 0.01, 0.5, 1.0]))
def test_effective_horizon_is_the_least(gamma, eps):
    H = effective_horizon(gamma, eps=eps)
    assert gamma**H <= eps * (1 - gamma) * (1 + 1e-9)
    assert H == 0 or gamma ** (H - 1) > eps * (1 - gamma) * (1 - 1e-9)


def test_effective_horizon_of_a_model():
    assert effective_horizon(make("two-state", gamma=0.9)) == effective_horizon(0.9) == 66  # 0.9^66 < 0.001 < 0.9^65
    assert effective_horizon(make("two-state", gamma=0.9, horizon=5)) == 5
    assert effective_horizon(make("two-state", gamma=0.9, horizon=100)) == 66
    assert effective_horizon(make("riverswim")) == 20  # no discount


def test_the_tail_after_the_effective_horizon_is_small():
    """Values after H steps and after very many differ by at most eps, and one step earlier by more."""
    one = TabularMDP(np.ones((1, 1, 1)), np.ones((1, 1)), np.ones(1), gamma=0.9)
    H = effective_horizon(one, eps=0.05)
    tail = [10 - sum(0.9**t for t in range(steps)) for steps in (H, H - 1)]
    assert tail[0] <= 0.05 < tail[1]


def test_effective_horizon_needs_a_discount():
    with pytest.raises(DiscountError, match=r"gamma = 1\.0; .*\[0, 1\)"):
        effective_horizon(1.0)


def chain_model(K):
    K = np.asarray(K, dtype=float)
    return TabularMDP(K[:, None, :], np.zeros((len(K), 1)), np.eye(len(K))[0], gamma=0.9), np.ones((len(K), 1))


def mixing_by_steps(K, law, eps, limit=10_000):
    """Step by step from the definition."""
    M = np.eye(len(K))
    for t in itertools.count():
        if max(0.5 * np.abs(row - law).sum() for row in M) <= eps:
            return t
        if t == limit:
            return np.inf
        M = M @ K


@pytest.mark.parametrize("p", [0.5, 0.3, 0.01])
@pytest.mark.parametrize("eps", [0.25, 0.01])
def test_mixing_of_a_two_state_chain(p, eps):
    """Distance to the stationary law after t steps is |1 - 2p|^t / 2 exactly."""
    expected = next(t for t in itertools.count() if abs(1 - 2 * p) ** t / 2 <= eps)
    assert mixing_time(*chain_model([[1 - p, p], [p, 1 - p]]), eps=eps) == expected


@pytest.mark.parametrize("slip", [0.1, 0.5])
def test_mixing_of_a_policy(slip):
    model = make("ring", S=11, slip=slip)
    uniform = np.full((11, 2), 0.5)
    K = dense(model).mean(axis=1)
    expected = mixing_by_steps(K, np.full(11, 1 / 11), 0.25)
    assert mixing_time(model, uniform) == expected
    assert expected > 5
    off_by_one = mixing_by_steps(K @ K, np.full(11, 1 / 11), 0.25)
    assert off_by_one != expected  # a chain that takes two steps at a time is told apart


def test_periodic_chains_never_mix():
    assert mixing_time(*chain_model([[0, 1], [1, 0]])) == np.inf
    assert mixing_time(*chain_model([[1]])) == 0
    slow = chain_model([[1 - 1e-4, 1e-4], [1e-4, 1 - 1e-4]])
    assert mixing_time(*slow, limit=100) == np.inf
    assert_allclose(mixing_time(*slow), np.log(0.5) / np.log(1 - 2e-4), rtol=1e-3)


@given(model=strategies.tabular_mdps(max_states=4, max_actions=2, terminal=False), data=st.data())
def test_stationary_law_stays(model, data):
    policy = data.draw(strategies.tabular_policies(model)).table
    K = np.einsum("sa,sax->sx", policy, dense(model))
    eigenvalues = np.linalg.eigvals(K)
    if np.sum(np.abs(eigenvalues - 1) < 1e-9) == 1:
        law = stationary_distribution(model, policy)
        assert_allclose(law @ K, law, rtol=0, atol=1e-12)
        assert_allclose(law.sum(), 1, rtol=1e-12)
        # Cesaro average of a long run: off by at most (mixing terms)/n, and the laws here have probabilities >= 1/256
        M = np.linalg.matrix_power(0.5 * (K + np.eye(model.S)), 2**16)
        assert_allclose(M[0], law, rtol=0, atol=1e-9)
    else:
        with pytest.raises(ModelError, match="more than one recurrent class"):
            stationary_distribution(model, policy)
