"""Finite horizons: worked numbers, sparse stages, status, bad input."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from numpy.testing import assert_allclose

from polytheory.access import KnownModel
from polytheory.conformance.resume import assert_resume_exact
from polytheory.errors import DiscountError
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.planning.instances import staged_cases, staged_worked, two_state
from polytheory.reference.planning import planning as p
from polytheory.run import run


def test_worked_three_stages_by_hand():
    (model,) = staged_worked()
    state = run(p.BackwardInduction(), KnownModel(model), progress=False).state
    # stage 2 pays (3, .5) at once; stage 1: .5 + .9 * 3 and .25 + .9 * 3; stage 0: 1 + .9 * 2.95 and .9 * 3.2
    assert_allclose(state.v[2], [3.0, 0.5], atol=0)
    assert_allclose(state.v[1], [3.2, 2.95], atol=1e-15)
    assert_allclose(state.v[0], [3.655, 2.88], atol=1e-15)
    assert state.v[3].tolist() == [0.0, 0.0]
    assert state.stage == 0
    assert state.bound == state.rounding < 1e-13


@given(model=staged_cases())
def test_sparse_stages_are_dense_stages(model):
    S, A = model.S, model.A
    stages = tuple(sp.csr_matrix(P.reshape(S * A, S)) for P in model.P)
    r = np.stack([model.r_at(h) for h in range(model.horizon)])
    sparse = TabularMDP(stages, r, model.mu, horizon=model.horizon, gamma=model.gamma)
    a, b = p.solve(model), p.solve(sparse)
    assert_allclose(a.v, b.v, rtol=0, atol=a.bound + b.bound)
    assert a.status == b.status == "certified"


def test_policy_is_staged_and_worth_its_value():
    (model,) = staged_worked()
    found = p.solve(model)
    assert found.policy.table.shape == (3, 2, 2)
    assert p.return_of(model, found.policy) == pytest.approx(model.mu @ found.v[0], abs=1e-14)


def test_bound_is_honest_while_stages_are_missing():
    (model,) = staged_worked()
    state = run(p.BackwardInduction(), KnownModel(model), steps=2, progress=False).state
    truth = p.solve(model).v
    assert state.stage == 1
    assert np.max(np.abs(state.v - truth)) <= state.bound


def test_a_step_after_the_end_changes_nothing():
    (model,) = staged_worked()
    access = KnownModel(model)
    algorithm = p.BackwardInduction()
    state = run(algorithm, access, progress=False).state
    assert algorithm.step(state, access)[0] is state


def test_resume_is_exact():
    assert_resume_exact(p.BackwardInduction, lambda: KnownModel(staged_worked()[0]), 1)


def test_a_model_without_horizon_is_refused():
    with pytest.raises(DiscountError, match="two-state has none: use ValueIteration"):
        p.BackwardInduction().init(KnownModel(two_state()), 0)
