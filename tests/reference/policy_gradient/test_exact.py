"""Exact derivatives, Fisher matrix and gradient domination: worked numbers, other routes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose

from polytheory.errors import NotSolvedError, SettingError
from polytheory.models.tabular import RewardAtoms, TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.policy_gradient import oracles
from polytheory.proofs_check.policy_gradient.instances import case_a, case_ends, case_shared, cases
from polytheory.reference.planning.planning import return_of, solve
from polytheory.reference.policy_gradient import exact
from polytheory.reference.policy_gradient.softmax import TabularSoftmax
from polytheory.reference.policy_gradient.theory import softmax_constants

DIGITS = 0.5e-10  # ten digits are given


def test_worked_numbers_without_end():
    case = case_a()
    model, policy = case.model, case.reference()
    found = exact.derivatives(model, policy)
    assert_allclose(found.J, 1.800151286255, atol=0.5e-12)
    assert_allclose(found.gradient, [0.1673196053, 0.4712590048], atol=DIGITS)
    assert_allclose(found.hessian, [[-0.0716350, 0.0495435], [0.0495435, 0.2238558]], atol=1e-7)
    assert_allclose(np.linalg.norm(found.hessian, 2), 0.231941, atol=0.5e-6)
    assert_allclose(exact.discounted_visits(model, policy), [0.5087165846, 0.4912834154], atol=DIGITS)
    assert_allclose(exact.fisher(model, policy), np.diag([0.1243599974, 0.1154534264]), atol=DIGITS)
    constants = softmax_constants(case.features, 1.0, model.gamma)
    assert (constants.M_g, constants.M_h) == (1.0, 0.25)
    assert_allclose(constants.L, 31.25, rtol=1e-14)
    dominated = exact.domination(model, policy, constants.M_g)
    assert_allclose(dominated.w, [1.3454455513, 4.0818104726], atol=DIGITS)
    assert_allclose(dominated.gap, 2.112892192, atol=0.5e-9)
    assert_allclose(np.linalg.norm(dominated.w), 4.297836719, atol=0.5e-9)
    assert_allclose(dominated.bound, 4.331451297, atol=0.5e-9)
    assert_allclose(dominated.eps_bias, 0, atol=1e-15)
    assert_allclose(exact.best_policy(model)[0], 3.913043478261, atol=0.5e-12)


def test_worked_numbers_truncated():
    case = case_a()
    found = exact.derivatives(case.model, case.reference(), truncation=4)
    assert_allclose(found.J, 1.031851299906, atol=0.5e-12)
    assert_allclose(found.gradient, [0.0789553313, 0.2489592134], atol=DIGITS)
    assert_allclose(found.hessian, [[-0.0274741105, 0.0263132651], [0.0263132651, 0.1051568394]], atol=DIGITS)
    other = exact.derivatives(case.model, case.reference(case.other), truncation=4)
    assert_allclose(other.gradient, [0.0735461769, 0.3137993738], atol=DIGITS)


def test_worked_truncation_bias():
    case = case_a()
    whole = exact.derivatives(case.model, case.reference()).gradient
    constants = softmax_constants(case.features, 1.0, case.model.gamma)
    worked = {
        1: (0.461643, 9.797959), 2: (0.373587, 8.466404), 4: (0.239218, 6.144000),
        8: (0.097984, 3.024556), 16: (0.016439, 0.644940), 32: (0.000463, 0.024096),
    }  # fmt: skip
    for H, (bias, bound) in worked.items():
        cut = exact.derivatives(case.model, case.reference(), truncation=H).gradient
        assert_allclose(np.linalg.norm(cut - whole), bias, atol=0.5e-6)
        assert_allclose(constants.truncation_bias(H), bound, atol=0.5e-6)


@pytest.mark.parametrize(
    ("x", "J", "gradient", "mu_F", "eps_bias", "gap", "bound"),
    [
        (0.0, 2.5, 0.0, 0.25, 0.25, 2.5, 2.5),
        (0.7, 2.6646339830, 0.4307878658, 0.2217128733, 0.3747695970, 2.3353660170, 5.0039203039),
    ],
)
def test_worked_numbers_of_a_class_that_is_too_small(x, J, gradient, mu_F, eps_bias, gap, bound):
    case = case_shared(x)
    found = exact.domination(case.model, case.reference(), 1.0)
    assert_allclose(exact.objective(case.model, case.reference()), J, atol=DIGITS)
    got = [found.gradient_norm, found.mu_F, found.eps_bias, found.gap, found.bound]
    assert_allclose(got, [gradient, mu_F, eps_bias, gap, bound], atol=DIGITS)


@settings(max_examples=20)
@given(case=cases())
def test_derivatives_agree_with_complex_steps(case):
    model, policy = case.model, case.reference()
    scale = oracles.size_of(case) / (1 - model.gamma) ** 2  # the condition of the solves, twice
    for truncation, value in ((None, oracles.infinite_return(case)), (case.truncation, oracles.truncated_return(case))):
        found = exact.derivatives(model, policy, truncation=truncation)
        assert_allclose(found.J, value(case.theta).real, atol=oracles.ROUNDING * scale)
        assert_allclose(found.J, exact.objective(model, policy, truncation=truncation), atol=oracles.ROUNDING * scale)
        assert_allclose(found.gradient, oracles.gradient(value, case.theta), atol=oracles.ROUNDING * scale)
        assert_allclose(found.hessian, oracles.hessian(value, case.theta), atol=oracles.SECOND * scale)


@settings(max_examples=20)
@given(case=cases())
def test_agrees_with_planning(case):
    policy = TabularPolicy(case.reference().table())
    scale = oracles.size_of(case) / (1 - case.model.gamma) ** 2
    assert_allclose(exact.objective(case.model, case.reference()), return_of(case.model, policy), atol=1e-12 * scale)
    best = solve(case.model, tol=1e-8)
    J, greedy = exact.best_policy(case.model)
    assert abs(J - case.model.mu @ best.v) <= best.bound + 1e-12 * scale
    assert_allclose(return_of(case.model, greedy), J, atol=1e-12 * scale)


@settings(max_examples=20)
@given(case=cases())
def test_all_trajectories_have_probability_one_and_the_exact_return(case):
    p, traj = case.trajectories()
    assert_allclose(p.sum(), 1, rtol=1e-12)
    assert (p > 0).all()
    J = exact.objective(case.model, case.reference(), truncation=case.truncation)
    assert_allclose(exact.expected_return(p, traj, gamma=case.model.gamma), J, atol=1e-12 * oracles.size_of(case))


def test_episodes_stop_at_terminal_states():
    case = case_ends()
    p, traj = case.trajectories()
    assert_allclose(p.sum(), 1, rtol=1e-14)
    short = traj.lengths < case.truncation
    assert short.any()
    assert (traj.final_states[short] == 2).all()


def test_refusals():
    case = case_a()
    with pytest.raises(NotSolvedError, match="Fisher matrix is degenerate"):
        exact.domination(case.model, TabularSoftmax.zeros(2, 2), 2**0.5)
    with pytest.raises(SettingError, match="too many to enumerate"):
        exact.enumerate_trajectories(case.model, case.reference(), 11)
    model = case.model
    finite = TabularMDP(model.P, model.r_at(), model.mu, horizon=3)
    with pytest.raises(SettingError, match="pass truncation"):
        exact.objective(finite, case.reference())
    law = RewardAtoms(np.array([0.0, 1.0]), np.stack([1 - model.r_at(), model.r_at()], axis=2))
    random_rewards = TabularMDP(model.P, model.r_at(), model.mu, gamma=0.8, reward_law=law)
    with pytest.raises(SettingError, match="random rewards"):
        exact.enumerate_trajectories(random_rewards, case.reference(), 2)
    with pytest.raises(SettingError, match="0 <= gamma < 1"):
        softmax_constants(case.features, 1.0, 1.0)
