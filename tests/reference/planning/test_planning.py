"""All solvers: worked numbers, agreement, certificates, sparse, rounding limits, resume, bad input."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from numpy.testing import assert_allclose
from planning_models import DISCOUNTED, dense, garnet, ring

from polytheory import access
from polytheory.conformance.resume import assert_resume_exact
from polytheory.conformance.strategies import tabular_mdps
from polytheory.errors import AccessError, DiscountError, NotSolvedError, SettingError, UnknownNameError
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.planning.instances import cases, puterman, two_state
from polytheory.proofs_check.planning.oracles import distance, optimal_value
from polytheory.reference.planning import planning as p
from polytheory.run import run


@pytest.mark.parametrize("method", DISCOUNTED)
def test_worked_two_state(method):
    found = p.solve(two_state(), method=method, tol=1e-10)
    assert_allclose(found.v, [80 / 23, 105 / 23], atol=1e-10)
    assert found.policy.table.tolist() == [[0, 1], [0, 1]]
    assert two_state().mu @ found.v == pytest.approx(3.913043478261, abs=1e-10)
    assert found.status == "certified"


@pytest.mark.parametrize("method", DISCOUNTED)
def test_worked_puterman(method):
    found = p.solve(puterman(), method=method, tol=1e-9)
    assert_allclose(found.v, [-60 / 7, -20.0], atol=1e-9)
    assert found.policy.table[0].tolist() == [1, 0]


@given(case=cases())
def test_solvers_agree_with_the_rational_optimum(case):
    exact = optimal_value(case.model)
    # sweeps mix slowly on cycles: with gamma near 1 tens of thousands of them are needed, which Garnets below are not
    for method in DISCOUNTED if case.model.gamma <= 0.9 else DISCOUNTED[2:]:
        found = p.solve(case.model, method=method, tol=1e-7)
        assert found.status == "certified", method
        assert found.bound <= 1e-7, method
        assert distance(found.v, exact) <= found.bound, method
    exactly = run(p.LinearProgram(exact=True), access.KnownModel(case.model)).state
    assert distance(exactly.v, exact) <= exactly.bound <= np.spacing(np.max(np.abs(exactly.v)))
    assert exactly.gap == 0.0


@given(model=tabular_mdps(sparse=None, gamma=0.9, transition_rewards=True))
@settings(max_examples=25)
def test_solvers_agree_on_any_tabular_model(model):
    truth = p.solve(model, method="policy-iteration", tol=1e-9)
    for method in DISCOUNTED:
        found = p.solve(model, method=method, tol=1e-7)
        assert found.bound <= 1e-7, method
        assert_allclose(found.v, truth.v, rtol=0, atol=found.bound + truth.bound, err_msg=method)
        assert np.all(found.v[model.terminal] == pytest.approx(0.0, abs=found.bound))


@pytest.mark.parametrize("gamma", [0.9, 0.999])
@pytest.mark.parametrize("sparse", [False, True])
def test_solvers_agree_on_garnet(gamma, sparse):
    model = garnet(40, 3, 5, gamma, sparse=sparse)
    solutions = [p.solve(model, method=method, tol=1e-7) for method in DISCOUNTED]
    for found in solutions:
        assert found.bound <= 1e-7
        assert_allclose(found.v, solutions[0].v, rtol=0, atol=found.bound + solutions[0].bound)
        value = p.evaluate(model, found.policy)
        assert np.max(solutions[0].v - value.v) <= 2 * found.bound + solutions[0].bound + value.bound


@pytest.mark.parametrize("method", DISCOUNTED)
def test_sparse_is_dense(method):
    sparse = garnet(15, 2, 3, 0.95, sparse=True)
    a, b = p.solve(sparse, method=method), p.solve(dense(sparse), method=method)
    assert_allclose(a.v, b.v, rtol=0, atol=a.bound + b.bound)


@pytest.mark.parametrize(("solver", "S"), [("gmres", 30), ("bicgstab", 100)])
def test_krylov_needs_far_fewer_sweeps_on_a_slow_ring(solver, S):
    model = ring(S, 0.999)
    inner = run(p.InexactPolicyIteration(solver=solver, tol=1e-7), access.KnownModel(model), progress=False).state
    exact = run(p.PolicyIteration(tol=1e-7), access.KnownModel(model), progress=False).state
    assert_allclose(inner.v, exact.v, rtol=0, atol=inner.bound + exact.bound)
    sweeps = run(p.ValueIteration(tol=1e-7), access.KnownModel(model), steps=50 * inner.sweeps, progress=False)
    assert sweeps.status == "steps"
    assert sweeps.state.bound > 1.0


def test_span_stop_needs_fewer_sweeps_than_sup_stop():
    model = garnet(50, 3, 8, 0.95)
    span, sup = (
        run(p.ValueIteration(stop=stop, tol=1e-6), access.KnownModel(model), progress=False).state
        for stop in ("span", "sup")
    )
    assert span.sweeps * 10 < sup.sweeps
    assert_allclose(span.v, sup.v, rtol=0, atol=2e-6)


def test_certified_bound_covers_rows_that_do_not_quite_sum_to_one():
    tilt = 9e-9  # within what models accept
    model = TabularMDP([[[1 + tilt]]], [[1.0]], [1.0], gamma=0.99)
    truth = 1 / (1 - 0.99 * (1 + tilt))
    for method in DISCOUNTED:
        found = p.solve(model, method=method, tol=1e-6)
        assert abs(found.v[0] - truth) <= found.bound * (1 + 1e-9), method


def test_rounding_limit_is_said_not_hidden():
    found = p.solve(two_state(), method="value-iteration", tol=1e-18)
    assert found.status == "limited by rounding"
    assert 0 < found.bound < 1e-12
    with pytest.raises(NotSolvedError, match=r"cannot be certified in float64.*ask for tol >="):
        run(p.ValueIteration(tol=1e-18), access.KnownModel(two_state()), progress=False)


@pytest.mark.parametrize("method", ["policy-iteration", "linear-program"])
def test_a_solve_ends_even_where_a_linear_solve_is_less_exact_than_a_sweep(method):
    """Nearly singular: gamma = 1 - 1e-9 on a long ring leaves LU residuals above one sweep's rounding."""
    found = p.solve(ring(60, 1 - 1e-9), method=method, tol=1e-12)
    assert found.status == "limited by rounding"
    assert 1e-12 < found.bound < np.inf


def test_auto_picks_by_model():
    assert p.solve(two_state()).sweeps < 5  # policy iteration
    assert p.solve(garnet(30, 2, 3, 0.9, sparse=True)).status == "certified"
    assert p.solve(TabularMDP([[[1.0]]], [[2.0]], [1.0], horizon=3)).v.tolist() == [[6.0], [4.0], [2.0], [0.0]]


def test_meter_counts_backups():
    acc = access.KnownModel(two_state())
    run(p.ModifiedPolicyIteration(order=5, tol=0.0), acc, steps=3, progress=False)
    assert acc.meter.total("backups") == 3 * 4 + 2 * 4 * 2  # 3 sweeps of 4 pairs; twice 4 sweeps of 2 states


@pytest.mark.parametrize("cls", [p.ValueIteration, p.ModifiedPolicyIteration, p.PolicyIteration,
                                 p.InexactPolicyIteration, p.LinearProgram])  # fmt: skip
def test_resume_is_exact(cls):
    model = garnet(10, 2, 3, 0.99)
    assert_resume_exact(lambda: cls(tol=1e-9), lambda: access.KnownModel(model), 2)


@pytest.mark.parametrize("cls", [p.ValueIteration, p.ModifiedPolicyIteration, p.PolicyIteration,
                                 p.InexactPolicyIteration, p.LinearProgram])  # fmt: skip
def test_a_horizon_is_refused_by_discounted_solvers(cls):
    staged = TabularMDP([[[1.0]]], [[1.0]], [1.0], horizon=5, gamma=0.9, name="short")
    with pytest.raises(DiscountError, match=rf"{cls.__name__}.*short has horizon = 5.*BackwardInduction"):
        cls().init(access.KnownModel(staged), 0)


def test_planning_needs_the_model():
    with pytest.raises(AccessError, match="MODEL"):
        run(p.ValueIteration(), access.Online(two_state()), progress=False)


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: p.ValueIteration(tol=-1.0), SettingError, "tol = -1.0"),
        (lambda: p.ValueIteration(tol=float("nan")), SettingError, "tol = nan"),
        (lambda: p.ValueIteration(stop="spam"), UnknownNameError, "did you mean 'span'"),
        (lambda: p.ModifiedPolicyIteration(order=0), SettingError, "order = 0"),
        (lambda: p.InexactPolicyIteration(forcing=1.0), SettingError, "forcing = 1.0"),
        (lambda: p.InexactPolicyIteration(inner=0), SettingError, "inner = 0"),
        (lambda: p.InexactPolicyIteration(solver="gmrs"), UnknownNameError, "did you mean 'gmres'"),
        (lambda: p.solve(two_state(), method="value-iterations"), UnknownNameError, "did you mean 'value-iteration'"),
        (lambda: p.exact_optimum(garnet(25, 1, 1, 0.5), np.ones(25)), SettingError, "at most 24 states"),
    ],
)
def test_bad_settings_are_named(make, error, words):
    with pytest.raises(error, match=words):
        make()


def test_gamma_so_near_one_that_rows_break_the_contraction():
    model = TabularMDP([[[1 + 9e-9]]], [[1.0]], [1.0], gamma=1 - 1e-9)
    with pytest.raises(DiscountError, match="is no contraction"):
        p.solve(model)
