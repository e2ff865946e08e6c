"""Softmax policies: derivatives against complex steps, shapes, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose

from polytheory.errors import PolicyError
from polytheory.policies import Policy
from polytheory.proofs_check.policy_gradient import oracles
from polytheory.proofs_check.policy_gradient.instances import case_ends, cases
from polytheory.reference.policy_gradient.softmax import (
    LinearSoftmax,
    TabularSoftmax,
    one_logit_per_state,
    shared_logit,
)


@settings(max_examples=20)
@given(case=cases())
def test_scores_and_curvatures_are_the_derivatives_of_log_pi(case):
    policy = case.reference()
    scale = (1 + np.abs(case.features).max()) ** 2
    for s in range(case.model.S):
        for a in range(case.model.A):

            def log_pi(theta, s=s, a=a):
                return oracles.log_pi(case.features, theta)[s, a]

            assert_allclose(policy.scores()[s, a], oracles.gradient(log_pi, case.theta), atol=1e-12 * scale)
            # second differences: see oracles.SECOND
            assert_allclose(policy.curvatures()[s], oracles.hessian(log_pi, case.theta), atol=1e-9 * scale**2)


@given(case=cases())
def test_sums_over_a_trajectory_are_explicit_sums(case):
    policy, (_, traj) = case.reference(), case.trajectories()
    weights = np.where(traj.mask, np.cos(np.arange(traj.actions.size)).reshape(traj.actions.shape), 0.0)
    score_sum = policy.score_sum(traj.states, traj.actions, weights)
    hvp_sum = policy.hvp_sum(traj.states, traj.actions, weights, case.other)
    along = policy.directional(traj.states, traj.actions, case.other)
    scale = 1e-12 * (1 + np.abs(case.features).max()) ** 2 * (1 + np.abs(case.other).max()) * traj.actions.shape[1]
    for i in range(min(traj.n, 5)):
        steps = list(zip(traj.states[i], traj.actions[i], weights[i], strict=True))
        assert_allclose(score_sum[i], sum(w * policy.scores()[s, a] for s, a, w in steps), atol=scale)
        assert_allclose(hvp_sum[i], sum(w * policy.curvatures()[s] @ case.other for s, a, w in steps), atol=scale)
        assert_allclose(along[i], [policy.scores()[s, a] @ case.other for s, a, _ in steps], atol=scale)


def test_tabular_is_linear_with_unit_features():
    theta = np.array([0.1, -0.7, 2.0, 0.0, 0.3, -1.0])
    tabular = TabularSoftmax(theta, 2, 3)
    linear = LinearSoftmax(np.eye(6).reshape(2, 3, 6), theta)
    s, a, w = np.array([[0, 1, 1]]), np.array([[2, 0, 1]]), np.array([[0.5, -1.0, 2.0]])
    assert_allclose(tabular.table(), linear.table(), rtol=1e-15)
    assert_allclose(tabular.score_sum(s, a, w), linear.score_sum(s, a, w), atol=1e-15)
    assert_allclose(tabular.hvp_sum(s, a, w, theta), linear.hvp_sum(s, a, w, theta), atol=1e-15)


def test_extreme_logits_stay_finite():
    policy = TabularSoftmax(np.array([1e4, -1e4, 0.0, 1e4]), 2, 2)
    assert np.isfinite(policy.log_pi).all()
    assert_allclose(policy.table(), [[1, 0], [0, 1]], atol=0)


def test_constructors_and_protocol():
    assert_allclose(
        one_logit_per_state(2).with_theta(np.log([3.0, 1.0])).table(), [[0.25, 0.75], [0.5, 0.5]], rtol=1e-15
    )
    assert_allclose(shared_logit(3).with_theta(np.log([3.0])).table(), [[0.25, 0.75]] * 3, rtol=1e-15)
    zeros = TabularSoftmax.zeros(2, 4)
    assert isinstance(zeros, Policy)
    assert_allclose(zeros.probs(zeros.start(3), 0, np.array([0, 1, 1])), np.full((3, 4), 0.25), rtol=1e-15)


def test_wrong_sizes_are_refused():
    with pytest.raises(PolicyError, match=r"\[S \* A\] = \[6\]; got \[5\]"):
        TabularSoftmax(np.zeros(5), 2, 3)
    with pytest.raises(PolicyError, match="features have d = 2"):
        case_ends().reference(np.zeros(3))
