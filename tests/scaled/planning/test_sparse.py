"""Large sparse models: the certificate holds, whatever the path to it."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given, settings
from hypothesis import strategies as st

from polytheory.errors import DiscountError, MissingExtraError, NotStochasticError, SettingError, UnknownNameError
from polytheory.models import TabularMDP, make
from polytheory.reference.planning.planning import exact_optimum, solve
from polytheory.scaled.planning import _sparse_search as search
from polytheory.scaled.planning import sparse
from polytheory.scaled.planning._sparse_gmres import gmres
from polytheory.scaled.planning._sparse_sweeps import Sweeps
from polytheory.scaled.planning.sparse import kernels_of, solve_sparse

KERNELS = ("numba", "scipy")
GAMMAS = (0.0, 0.3, 0.9, 0.99, 0.999)


def shuffled(model: TabularMDP, seed: int) -> TabularMDP:
    """The same model with its states numbered at random."""
    p = np.random.default_rng(seed).permutation(model.S)
    rows = (p[:, None] * model.A + np.arange(model.A)).ravel()
    P = sp.csr_matrix(model.P_at())[rows][:, p]
    return TabularMDP(P, model.r_at()[p], model.mu[p], gamma=model.gamma, name=f"{model.name}, shuffled")


def slow_models(gamma: float) -> list[TabularMDP]:
    grid = make("gridworld", rows=12, columns=17, slip=0.1, sparse=True, gamma=gamma)
    walks = [make(name, S=400, gamma=gamma) for name in ("ring", "river")]
    return [grid, *walks, *(shuffled(m, 1) for m in (grid, *walks))]


@st.composite
def tiny_models(draw):
    """At most 6 states and 3 actions, probabilities and rewards in multiples of 1/8, rows of different lengths."""
    S, A = draw(st.integers(1, 6)), draw(st.integers(1, 3))
    P = np.zeros((S * A, S))
    for row in range(S * A):
        tokens = draw(
            st.lists(st.integers(0, S - 1), min_size=8, max_size=8) | st.integers(0, S - 1).map(lambda s: [s])
        )
        np.add.at(P[row], tokens, 1 / len(tokens))
    r = np.array(draw(st.lists(st.integers(-32, 32), min_size=S * A, max_size=S * A))).reshape(S, A) / 8
    return TabularMDP(sp.csr_matrix(P), r, np.full(S, 1 / S), gamma=draw(st.sampled_from(GAMMAS)))


@pytest.mark.parametrize("kernels", KERNELS)
@given(model=tiny_models(), tol=st.sampled_from((1e-2, 1e-6, 1e-8)))
@settings(max_examples=25)
def test_certificate_holds_in_exact_arithmetic(kernels, model, tol):
    found, exact = solve_sparse(model, tol=tol, kernels=kernels), exact_optimum(model, np.ones(model.S))
    assert found.status == "certified"
    assert found.bound <= tol
    assert max(abs(Fraction(float(x)) - y) for x, y in zip(found.v, exact.v, strict=True)) <= Fraction(found.bound)
    # one step of a policy that loses at most 2 * bound over a whole run loses no more than that
    assert max(exact.slack[s][a] for s, a in enumerate(found.actions)) <= 2 * Fraction(found.bound)


@pytest.mark.parametrize("kernels", KERNELS)
@given(model=tiny_models())
@settings(max_examples=25)
def test_every_full_sweep_certifies(kernels, model):
    """The bound holds at every sweep, not only at the last: from any value."""
    exact = exact_optimum(model, np.ones(model.S))
    with Sweeps(model, kernels_of(kernels), 1) as sweeps:
        for tol, v in ((1e300, np.zeros(model.S)), (1e300, np.linspace(-3, 5, model.S))):
            at = search.Search(sweeps, tol, 10)
            at._to_float64()
            at.v[:] = v
            at.certify()  # any bound is good enough: the midpoint is taken
            error = max(abs(Fraction(float(x)) - y) for x, y in zip(at.v, exact.v, strict=True))
            assert error <= Fraction(at.bound)


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("half_width", lambda low, high, gamma: (high - low) / 2),
        ("midpoint_shift", lambda low, high, gamma: -gamma * (low + high) / (2 * (1 - gamma))),
    ],
)
def test_a_wrong_certificate_is_caught(name, wrong, monkeypatch):
    """The tests above have teeth: they fail with a bound that is not amplified, or shifted to the wrong side."""
    monkeypatch.setattr(search, name, wrong)
    model = TabularMDP(sp.csr_matrix(np.eye(2)), [[-1.0], [3.0]], [0.5, 0.5], gamma=0.75)
    with Sweeps(model, kernels_of("scipy"), 1) as sweeps:
        at = search.Search(sweeps, 1e300, 10)
        at._to_float64()
        at.v[:] = 0
        at.certify()
    assert np.max(np.abs(at.v - np.array([-4.0, 12.0]))) > at.bound


@pytest.mark.parametrize("gamma", [0.9, 0.99, 0.999])
def test_slow_mixing_models(gamma):
    for model in slow_models(gamma):
        found = solve_sparse(model)
        exact = solve(model, method="policy-iteration", tol=1e-7)
        assert found.status == "certified", model.name
        assert np.max(np.abs(found.v - exact.v)) <= found.bound + exact.bound, model.name


@pytest.mark.parametrize("kernels", KERNELS)
def test_float32_values_on_the_way_leave_no_trace_in_the_certificate(kernels, monkeypatch):
    monkeypatch.setattr(search, "CACHED", 1)
    for model in (make("garnet", S=80, A=4, successors=6, gamma=0.99, sparse=True), *slow_models(0.9)):
        found, exact = solve_sparse(model, kernels=kernels), solve(model, method="policy-iteration", tol=1e-7)
        assert found.status == "certified", model.name
        assert np.max(np.abs(found.v - exact.v)) <= found.bound + exact.bound, model.name


def test_numbering_of_states_does_not_matter():
    model = make("gridworld", rows=20, columns=20, slip=0.1, sparse=True, gamma=0.99)
    p = np.random.default_rng(1).permutation(model.S)
    straight, mixed = solve_sparse(model), solve_sparse(shuffled(model, 1))
    assert np.max(np.abs(mixed.v - straight.v[p])) <= mixed.bound + straight.bound


@pytest.mark.parametrize("sparse_indices", [np.int32, np.int64])
def test_sparse_agrees_with_dense_in_both_kernels(sparse_indices):
    model = make("garnet", S=60, A=4, successors=6, gamma=0.97, sparse=True)
    P = model.P_at()
    P = sp.csr_matrix((P.data, P.indices.astype(sparse_indices), P.indptr.astype(sparse_indices)), shape=P.shape)
    P.data.flags.writeable = P.indices.flags.writeable = P.indptr.flags.writeable = False
    model = dataclasses.replace(model, P=P)
    dense = dataclasses.replace(model, P=P.toarray().reshape(60, 4, 60))
    exact = solve(dense, method="policy-iteration", tol=1e-9)
    for kernels in KERNELS:
        found = solve_sparse(model, kernels=kernels)
        assert np.max(np.abs(found.v - exact.v)) <= found.bound + exact.bound
        assert np.array_equal(found.policy.table, np.eye(4)[found.actions])


def test_kernels_do_the_same_work():
    """One loop at a time: compiled against SciPy, to the rounding of sums of at most 7 terms."""
    model = make("garnet", S=50, A=3, successors=7, gamma=0.9, sparse=True)
    v, order = np.random.default_rng(0).normal(size=50), np.random.default_rng(1).permutation(50).astype(np.uint32)
    out = {}
    for name in KERNELS:
        with Sweeps(model, kernels_of(name), 1) as s:
            new, actions = np.empty(50), np.zeros(50, dtype=np.int32)
            extremes = s.backup(v, new, actions)
            chain = s.chain(actions)
            before = chain.data.copy()
            chain = s.chain((actions + 1) % 3, s.chain(actions, chain))
            policy = np.empty(50)
            s.policy_backup(chain, v, policy)
            x = np.ones(50)
            for _ in range(300):  # Gauss-Seidel contracts by gamma at least: 0.9^600 is far below rounding
                s.ordered_solve(chain, v, order, x)
            out[name] = (new, np.array(extremes), actions, before, chain.data, chain.r, policy, x, s.terms, s.row_gap)
    for a, b in zip(*out.values(), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=1e-13)  # values of size 10, amplified by 1 / (1 - gamma)


@pytest.mark.parametrize("threads", [2, 3])
def test_threads_share_a_sweep_without_a_trace(threads, monkeypatch):
    from polytheory.scaled.planning import _sparse_sweeps

    model = make("garnet", S=501, A=3, successors=5, gamma=0.95, sparse=True)
    alone = solve_sparse(model, threads=1)
    monkeypatch.setattr(_sparse_sweeps, "PARALLEL_ENTRIES", 1)
    shared = solve_sparse(model, threads=threads)
    assert np.array_equal(alone.v, shared.v)
    assert np.array_equal(alone.actions, shared.actions)
    assert alone.bound == shared.bound


def test_gmres_solves_what_a_direct_solver_solves():
    rng = np.random.default_rng(0)
    A, b = np.eye(12) + 0.3 * rng.normal(size=(12, 12)), rng.normal(size=12)
    x, steps = gmres(lambda y: A @ y, lambda y: y / np.diag(A), b, goal=0.0, cycle=12)
    # 12 steps span the whole space: only rounding, amplified by the condition number, is left
    np.testing.assert_allclose(x, np.linalg.solve(A, b), rtol=0, atol=1e-13 * np.linalg.cond(A) * np.abs(b).max())
    assert steps <= 12
    y, few = gmres(lambda z: 2 * z, lambda z: z, b, goal=0.0, cycle=12)
    assert few == 1  # one direction holds the solution
    np.testing.assert_allclose(y, b / 2, rtol=1e-15)


def test_memory_is_within_the_model():
    """Beside the model itself the solver may need at most as much again (slow mixing) or half (fast)."""
    fast = make("garnet", S=20_000, A=10, successors=10, gamma=0.99, sparse=True)
    grid = make("gridworld", rows=150, columns=150, slip=0.1, sparse=True, gamma=0.99)
    for model, share in ((fast, 0.5), (grid, 2.0)):
        solve_sparse(model)  # compile, and let the model make what it caches
        P = model.P_at()
        tracemalloc.start()
        solve_sparse(model)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= share * (P.data.nbytes + P.indices.nbytes + P.indptr.nbytes), model.name


def test_rounding_is_told_apart_from_success():
    model = make("garnet", S=50, A=3, successors=5, gamma=0.999, sparse=True)
    found = solve_sparse(model, tol=0.0)
    assert found.status == "limited by rounding"
    assert 0 < found.bound <= 3 * found.rounding
    exact = solve(model, method="policy-iteration", tol=1e-6)
    assert np.max(np.abs(found.v - exact.v)) <= found.bound + exact.bound


def test_running_out_of_sweeps_is_a_status():
    found = solve_sparse(make("gridworld", rows=30, columns=30, slip=0.1, sparse=True, gamma=0.999), max_sweeps=3)
    assert found.status == "out of sweeps"
    assert found.bound > 1e-6


def test_bad_input_is_typed():
    model = make("ring", S=10)
    with pytest.raises(SettingError, match="tol"):
        solve_sparse(model, tol=-1.0)
    with pytest.raises(SettingError, match="threads"):
        solve_sparse(model, threads=0)
    with pytest.raises(SettingError, match="max_sweeps"):
        solve_sparse(model, max_sweeps=0)
    with pytest.raises(UnknownNameError, match="did you mean 'numba'"):
        solve_sparse(model, kernels="nunba")
    with pytest.raises(SettingError, match="dense"):
        solve_sparse(make("garnet", S=5, successors=2))
    with pytest.raises(DiscountError, match="horizon"):
        solve_sparse(make("garnet", S=5, successors=2, horizon=3, sparse=True))
    with pytest.raises(NotStochasticError):
        TabularMDP(sp.csr_matrix(np.full((2, 2), 0.6)), np.zeros((2, 1)), [1.0, 0.0], gamma=0.9)


def test_rows_that_leave_no_contraction():
    P = sp.csr_matrix(np.array([[1 + 5e-9, 0], [0, 1.0]]))
    model = TabularMDP(P, np.ones((2, 1)), [1.0, 0.0], gamma=1 - 1e-9)
    with pytest.raises(DiscountError, match="contraction"):
        solve_sparse(model)


def test_inexact_rows_are_part_of_the_bound():
    """Rows that sum to 1 + 5e-9: V* moves by gamma * 5e-9 / (1 - gamma)^2, far more than tol."""
    P = sp.csr_matrix(np.array([[1 + 5e-9]]))
    model = TabularMDP(P, np.ones((1, 1)), [1.0], gamma=0.999)
    found, exact = solve_sparse(model), exact_optimum(model, np.ones(model.S))
    assert abs(Fraction(float(found.v[0])) - exact.v[0]) <= Fraction(found.bound)


def test_without_numba():
    """The package asks for numba only when it is wanted by name."""
    code = (
        "import sys; sys.modules['numba'] = None\n"
        "from polytheory.models import make\n"
        "from polytheory.errors import MissingExtraError\n"
        "from polytheory.scaled.planning.sparse import solve_sparse\n"
        "found = solve_sparse(make('garnet', S=40, A=3, successors=4, gamma=0.9, sparse=True))\n"
        "assert found.status == 'certified'\n"
        "try:\n    solve_sparse(make('ring', S=10), kernels='numba')\n"
        "except MissingExtraError as error:\n    print(error.extra)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "fast"
    assert issubclass(MissingExtraError, ImportError)
    assert ("auto", *KERNELS) == sparse.KERNELS
