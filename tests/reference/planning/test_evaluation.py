"""Policy evaluation, occupancies and returns against sums, sampling-free."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose
from planning_models import dense, garnet

from polytheory.errors import NotSolvedError, PolicyError, UnknownNameError
from polytheory.policies import TabularPolicy
from polytheory.proofs_check.planning.instances import staged_worked, two_state
from polytheory.reference.planning import planning as p


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


@pytest.fixture
def softmax_policy():
    p1 = sigmoid(np.array([0.3, -0.5]))
    return TabularPolicy(np.stack([1 - p1, p1], axis=1))


def test_worked_return_and_occupancy(softmax_policy):
    """Published digits for the logits (0.3, -0.5): J, V and the normalised state occupancy."""
    model = two_state()
    assert p.return_of(model, softmax_policy) == pytest.approx(1.800151286255, abs=1e-12)
    assert_allclose(p.evaluate(model, softmax_policy).v, [1.5365162075, 2.1956039044], atol=5e-11)
    occupancy = p.discounted_occupancy(model, softmax_policy)
    assert_allclose(0.2 * occupancy.sum(axis=1), [0.5087165846, 0.4912834154], atol=5e-11)


@pytest.mark.parametrize("sparse", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.999])
def test_direct_and_iterative_agree_within_their_bounds(sparse, gamma):
    model = garnet(20, 3, 4, gamma, sparse=sparse)
    policy = TabularPolicy(np.random.default_rng(3).dirichlet(np.ones(3), size=20))
    direct, iterative = p.evaluate(model, policy), p.evaluate(model, policy, method="iterative", tol=1e-7)
    assert direct.bound <= 1e-7
    assert iterative.bound <= 1e-7
    assert_allclose(direct.v, iterative.v, rtol=0, atol=direct.bound + iterative.bound)


def test_sparse_occupancy_is_dense_occupancy():
    model = garnet(20, 3, 4, 0.9, sparse=True)
    policy = TabularPolicy(np.random.default_rng(3).dirichlet(np.ones(3), size=20))
    a, b = p.discounted_occupancy(model, policy), p.discounted_occupancy(dense(model), policy)
    assert_allclose(a, b, atol=1e-13)  # 20 states, occupancies below 10
    assert a.sum() == pytest.approx(10.0, abs=1e-12)


def test_staged_occupancy_carries_the_return():
    (model,) = staged_worked()
    uniform = TabularPolicy.uniform(2, 2)
    occupancy = p.discounted_occupancy(model, uniform)
    assert occupancy.shape == (3, 2, 2)
    assert_allclose(occupancy.sum(axis=(1, 2)), [1.0, 0.9, 0.81], atol=1e-15)
    assert np.sum(occupancy * model.r) == pytest.approx(p.return_of(model, uniform), abs=1e-14)


def test_staged_policy_may_change_with_the_stage():
    (model,) = staged_worked()
    staged = TabularPolicy(np.random.default_rng(5).dirichlet(np.ones(2), size=(3, 2)))
    occupancy = p.discounted_occupancy(model, staged)
    assert np.sum(occupancy * model.r) == pytest.approx(p.return_of(model, staged), abs=1e-14)
    assert p.evaluate(model, staged).bound < 1e-13


def test_any_memoryless_policy_may_change_with_the_stage():
    """One that is no table is asked at every stage, not at the first alone."""
    from polytheory.reference.exploration.actors import StagedPolicy

    (model,) = staged_worked()
    scores = np.random.default_rng(0).normal(size=(model.horizon, model.S, model.A))
    weights = np.exp(scores)
    same = TabularPolicy(weights / weights.sum(-1, keepdims=True))
    first = TabularPolicy(same.table[0])
    assert abs(p.return_of(model, first) - p.return_of(model, same)) > 1e-3  # the stages differ
    assert_allclose(p.return_of(model, StagedPolicy(scores)), p.return_of(model, same), rtol=1e-14)


def test_a_policy_that_does_not_fit_is_named():
    with pytest.raises(PolicyError, match=r"shape \[3, 2\]; two-state needs \[2, 2\]"):
        p.evaluate(two_state(), TabularPolicy.uniform(3, 2))
    staged = TabularPolicy(np.full((4, 2, 2), 0.5))
    with pytest.raises(PolicyError, match=r"\[4, 2, 2\]"):
        p.return_of(two_state(), staged)


def test_unknown_method_and_unreachable_accuracy():
    uniform = TabularPolicy.uniform(2, 2)
    with pytest.raises(UnknownNameError, match="did you mean 'iterative'"):
        p.evaluate(two_state(), uniform, method="iterativ")
    with pytest.raises(NotSolvedError, match="float64"):
        p.evaluate(two_state(), uniform, method="iterative", tol=0.0)
