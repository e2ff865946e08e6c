"""The oracles themselves, on functions whose derivatives are known."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_allclose

from polytheory.proofs_check.policy_gradient import oracles
from polytheory.proofs_check.policy_gradient.instances import case_a, case_ends


def test_derivatives_of_a_known_function():
    x = np.array([0.3, -1.2])

    def f(x):
        return np.exp(x[0]) * np.sin(x[1]) + x[0] ** 3

    e, s, c = np.exp(0.3), np.sin(-1.2), np.cos(-1.2)
    assert_allclose(oracles.gradient(f, x), [e * s + 3 * 0.09, e * c], rtol=1e-14)
    exact = np.array([[e * s + 6 * 0.3, e * c], [e * c, -e * s]])
    assert_allclose(oracles.hessian(f, x), exact, rtol=1e-10)
    assert_allclose(oracles.along(f, x, np.array([2.0, -1.0])), exact @ [2.0, -1.0], rtol=1e-10)


def test_log_pi_is_normalised_and_shift_invariant():
    case = case_ends()
    table = oracles.log_pi(case.features, case.theta)
    assert_allclose(np.exp(table).sum(axis=1), 1, rtol=1e-14)
    assert_allclose(oracles.log_pi(case.features + 7.0, case.theta), table, rtol=1e-12)


def test_returns_of_a_constant_reward():
    case = case_a()
    r = np.ones((2, 2))
    paid = case.at(model=type(case.model)(case.model.P, r, case.model.mu, gamma=0.8))
    assert_allclose(oracles.truncated_return(paid)(case.theta).real, 1 + 0.8 + 0.64 + 0.512, rtol=1e-14)
    assert_allclose(oracles.infinite_return(paid)(case.theta), 5, rtol=1e-14)


def test_likelihoods_of_a_row():
    case = case_a()
    _, traj = case.trajectories()
    table = np.exp(oracles.log_pi(case.features, case.theta))
    i = 37
    by_hand = np.prod([table[s, a] for s, a in zip(traj.states[i], traj.actions[i], strict=True)])
    assert_allclose(np.exp(oracles.log_likelihood(case, traj, i)(case.theta)), by_hand, rtol=1e-13)
    # rewards that are all paid at the first step weigh its log-probability alone
    first = traj.rewards * 0
    first[:, 0] = 1
    paid = type(traj)(traj.states, traj.actions, first, traj.mask)
    expected = np.log(table[traj.states[i, 0], traj.actions[i, 0]])
    assert_allclose(oracles.weighted_log_likelihood(case, paid, i)(case.theta), expected, rtol=1e-13)
