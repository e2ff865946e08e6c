"""Estimators: worked numbers by hand, invariance to padding and order, refusals. Unbiasedness is a claim."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose

from polytheory.errors import UnknownNameError
from polytheory.proofs_check.policy_gradient.instances import case_a, case_ends
from polytheory.reference.policy_gradient import estimators
from polytheory.trajectories import Trajectories

DIGITS = 0.5e-10  # ten digits are given


@pytest.fixture
def by_hand():
    """Two states, one logit each, theta = (0.3, -0.5): s = (0, 1, 1, 0), a = (1, 0, 1, 1)."""
    case = case_a()
    s, a = np.array([[0, 1, 1, 0]]), np.array([[1, 0, 1, 1]])
    return case.reference(), Trajectories(s, a, case.model.r_at()[s, a], np.ones((1, 4), dtype=bool))


def test_worked_trajectory(by_hand):
    policy, traj = by_hand
    u = np.array([0.6, 0.7])
    p = 1 / (1 + np.exp([-0.3, 0.5]))
    score_sum = np.array([2 - 2 * p[0], 1 - 2 * p[1]])
    assert_allclose(estimators.rewards_to_go(traj.rewards, traj.mask, gamma=0.8), [[1.04, 1.04, 0.64, 0]], rtol=1e-15)
    assert_allclose(estimators.pg_estimate(policy, traj, gamma=0.8), [[0.4425797825, 0.0057316764]], atol=DIGITS)
    reinforce = estimators.pg_estimate(policy, traj, gamma=0.8, kind="reinforce")
    assert_allclose(reinforce, [[0.8851595650, 0.2547154089]], atol=DIGITS)
    assert_allclose(reinforce[0], 1.04 * score_sum, rtol=1e-14)
    assert_allclose(estimators.score_along(policy, traj, u), [score_sum @ u], rtol=1e-14)
    assert_allclose(estimators.hvp_estimate(policy, traj, u, gamma=0.8), [[0.1493470134, -0.2724547200]], atol=DIGITS)


def test_worked_moments():
    case, u = case_a(), np.array([0.6, 0.7])
    p, traj = case.trajectories()
    g = estimators.pg_estimate(case.reference(), traj, gamma=0.8)
    Bu = estimators.hvp_estimate(case.reference(), traj, u, gamma=0.8)
    outer = estimators.outer_product_term(case.reference(), traj, u, gamma=0.8)
    assert_allclose(p @ g, [0.0789553313, 0.2489592134], atol=DIGITS)
    assert_allclose(p @ (g**2).sum(axis=1), 0.8315206433, atol=DIGITS)
    assert_allclose(p @ Bu, [0.0019348192, 0.0893977466], atol=DIGITS)
    assert_allclose(p @ (Bu**2).sum(axis=1), 0.5945696807, atol=DIGITS)
    # an outer product with the wrong sign has another mean altogether
    assert_allclose(p @ (Bu - 2 * outer), [-0.2369, -0.6112], atol=0.5e-4)


def test_discount_zero_keeps_the_first_reward():
    rewards, mask = np.array([[2.0, 3.0, 4.0]]), np.ones((1, 3), dtype=bool)
    assert_allclose(estimators.rewards_to_go(rewards, mask, gamma=0.0), [[2, 0, 0]], atol=0)
    assert_allclose(estimators.rewards_to_go(rewards, mask, gamma=1.0), [[9, 7, 4]], atol=0)


def _every_estimate(case, traj):
    policy, other = case.reference(), case.reference(case.other)
    baseline = np.sin(1.0 + traj.states)
    return np.column_stack([
        estimators.pg_estimate(policy, traj, gamma=0.9, baseline=baseline),
        estimators.pg_estimate(policy, traj, gamma=0.9, kind="reinforce"),
        estimators.hvp_estimate(policy, traj, case.other, gamma=0.9),
        estimators.importance_ratio(other, policy, traj),
    ])  # fmt: skip


def test_padding_and_what_stands_in_it_do_not_matter():
    case = case_ends()
    _, traj = case.trajectories()
    assert not traj.mask.all()

    def padded(x, value):
        return np.hstack([np.where(traj.mask, x, value), np.full((traj.n, 2), value, dtype=x.dtype)])

    mask = np.hstack([traj.mask, np.zeros((traj.n, 2), dtype=bool)])
    other = Trajectories(padded(traj.states, 1), padded(traj.actions, 2), padded(traj.rewards, np.nan), mask)
    assert_allclose(_every_estimate(case, other), _every_estimate(case, traj), rtol=1e-13, atol=1e-13)


def test_rows_do_not_see_each_other():
    case = case_ends()
    _, traj = case.trajectories()
    order = np.random.default_rng(0).permutation(traj.n)[:7]
    some = Trajectories(*(x[order] for x in (traj.states, traj.actions, traj.rewards, traj.mask)))
    assert_allclose(_every_estimate(case, some), _every_estimate(case, traj)[order], rtol=1e-13, atol=1e-13)


def test_unknown_estimator():
    case = case_a()
    with pytest.raises(UnknownNameError, match="did you mean 'gpomdp'"):
        estimators.pg_estimate(case.reference(), case.trajectories()[1], gamma=0.8, kind="gpomp")
