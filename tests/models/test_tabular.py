"""Tabular models: what is refused, what is stored, and what the views say."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from model_oracles import dense
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.conformance import strategies
from polytheory.errors import (
    DiscountError,
    EmptyActionSetError,
    ModelError,
    NonFiniteError,
    NotStochasticError,
    ShapeError,
    TerminalError,
)
from polytheory.models import GridLayout, RewardAtoms, TabularMDP
from polytheory.models._check import check_discount
from polytheory.models.tabular import by_stage

HALF = np.full((2, 2, 2), 0.5)
ZERO, MU = np.zeros((2, 2)), np.array([1.0, 0.0])
NAN, INF = np.nan, np.inf


def put(array, index, value):
    """A copy with one entry replaced."""
    out = np.array(array, dtype=float)
    out[index] = value
    return out


def csr(P):
    return sp.csr_matrix(np.reshape(P, (-1, np.shape(P)[-1])))


GOOD = {"P": HALF, "r": ZERO, "mu": MU, "gamma": 0.9}
STAY = np.stack([np.eye(2), np.eye(2)], axis=1)
BAD = {
    "row sum": ({"P": put(HALF, (1, 0, 1), 0.7)}, NotStochasticError, r"P\[1, 0\] sums to 1\.2.*divide each row"),
    "negative": ({"P": put(HALF, (0, 1, 0), -0.5)}, NotStochasticError, r"P\[0, 1, 0\] = -0\.5 is negative"),
    "nan": ({"P": put(HALF, (0, 1, 1), NAN)}, NotStochasticError, r"P\[0, 1, 1\] = nan is not finite"),
    "csr row sum": ({"P": csr(put(HALF, (1, 0, 1), 0.7))}, NotStochasticError, r"P\[1, 0\] sums to 1\.2"),
    "csr negative": ({"P": csr(put(HALF, (1, 1, 0), -1))}, NotStochasticError, r"P\[1, 1, 0\] = -1\.0 is negative"),
    "csr infinite": ({"P": csr(put(HALF, (1, 1, 1), INF))}, NotStochasticError, r"P\[1, 1, 1\] = inf is not finite"),
    "staged row sum": (
        {"P": put(np.stack([HALF, HALF]), (1, 0, 0, 0), 0.4), "horizon": 2}, NotStochasticError, r"P\[1, 0, 0\] sums to",
    ),
    "staged csr": (
        {"P": (csr(HALF), csr(put(HALF, (0, 1, 0), 0.4))), "horizon": 2}, NotStochasticError, r"P\[1\]\[0, 1\] sums to",
    ),
    "mu": ({"mu": [0.5, 0.6]}, NotStochasticError, r"mu sums to 1\.1"),
    "mu nan": ({"mu": [NAN, 1.0]}, NotStochasticError, r"mu\[0\] = nan"),
    "mu empty": ({"mu": []}, ShapeError, "mu must have shape"),
    "reward nan": ({"r": put(ZERO, (1, 0), NAN)}, NonFiniteError, r"r\[1, 0\] = nan"),
    "reward infinite": ({"r": put(np.zeros((2, 2, 2)), (1, 0, 1), INF)}, NonFiniteError, r"r\[1, 0, 1\] = inf"),
    "csr reward nan": ({"P": csr(HALF), "r": csr(put(HALF, (0, 0, 0), NAN))}, NonFiniteError, "nan"),
    "gamma above 1": ({"gamma": 1.1}, DiscountError, r"gamma = 1\.1; it must lie in \[0, 1\)"),
    "gamma negative": ({"gamma": -0.1}, DiscountError, r"gamma = -0\.1"),
    "gamma nan": ({"gamma": NAN, "horizon": 3}, DiscountError, "gamma = nan"),
    "gamma 1": ({"gamma": 1.0}, DiscountError, "without a horizon.*pass gamma < 1 or horizon="),
    "horizon 0": ({"horizon": 0}, DiscountError, "horizon = 0; it must be a whole number"),
    "P rank": ({"P": np.eye(2)}, ShapeError, r"P must be \[S, A, S\].*got \[2, 2\]"),
    "P other order": ({"P": np.full((3, 2, 2), 0.5)}, ShapeError, "from_mdptoolbox"),
    "P ragged": ({"P": [[[0.5, 0.5]], [[1.0]]]}, ShapeError, "rectangular"),
    "P stages": ({"P": np.stack([HALF] * 3), "horizon": 2}, ShapeError, "3 stages; horizon is 2"),
    "P stages, no horizon": ({"P": np.stack([HALF] * 3)}, ShapeError, "pass horizon=3"),
    "csr shape": ({"P": sp.csr_matrix(np.full((3, 2), 0.5))}, ShapeError, "CSR of shape"),
    "csr stages differ": (
        {"P": (csr(HALF), csr(HALF)[:2]), "horizon": 2}, ShapeError, r"P\[1\] has shape \(2, 2\) but P\[0\] has \(4, 2\)",
    ),
    "r shape": ({"r": np.zeros((2, 3))}, ShapeError, r"r must have shape \[S, A\] = \[2, 2\].*got \[2, 3\]"),
    "r stages": ({"r": np.zeros((3, 2, 2)), "horizon": 4}, ShapeError, r"got \[3, 2, 2\]"),
    "csr r beside dense P": ({"r": csr(HALF)}, ShapeError, "beside a sparse P"),
    "no actions": ({"P": np.zeros((2, 0, 2)), "r": np.zeros((2, 0))}, EmptyActionSetError, "at least one action"),
    "no actions, csr": (
        {"P": sp.csr_matrix((0, 2)), "r": np.zeros((2, 0))}, EmptyActionSetError, "at least one action",
    ),
    "terminal shape": ({"terminal": [True]}, ShapeError, r"terminal must have shape \[2\]"),
    "terminal leaves": ({"terminal": [False, True]}, TerminalError, "state 1 is marked terminal but action 0"),
    "terminal pays": (
        {"P": STAY, "r": put(ZERO, (1, 1), 1), "terminal": [False, True]}, TerminalError, "state 1.*action 1.*reward 0",
    ),
    "terminal leaves, csr": ({"P": csr(HALF), "terminal": [True, False]}, TerminalError, "state 0 is marked terminal"),
    "law shape": ({"reward_law": RewardAtoms(np.zeros(1), np.ones((2, 1, 1)))}, ShapeError, "reward_law.probs"),
    "law sum": (
        {"reward_law": RewardAtoms(np.zeros(1), np.full((2, 2, 1), 0.9))}, NotStochasticError, r"reward_law\.probs\[0, 0\]",
    ),
    "law mean": (
        {"reward_law": RewardAtoms(np.ones(1), np.ones((2, 2, 1)))}, NotStochasticError, r"mean 1 at \[0, 0\] but r is 0",
    ),
    "law staged": (
        {"P": np.stack([HALF] * 2), "horizon": 2, "reward_law": RewardAtoms(np.zeros(1), np.ones((2, 2, 1)))},
        ModelError, "stage-dependent",
    ),
    "grid": ({"grid": GridLayout(2, 2, ("a", "b"))}, ShapeError, "2 x 2 has more cells than S = 2"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_names_the_entry_and_the_fix(case):
    change, error, message = BAD[case]
    TabularMDP(**GOOD)  # the good one is good: the change is what is refused
    with pytest.raises(error, match=message) as caught:
        TabularMDP(**{**GOOD, **change})
    assert isinstance(caught.value, ModelError)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("horizon", [2.5, INF, NAN, -1])
def test_a_horizon_is_a_whole_number(horizon):
    with pytest.raises(DiscountError, match=f"horizon = {horizon}; it must be a whole number"):
        check_discount(0.9, horizon)
    check_discount(0.9, 3)


def test_rounding_within_the_tolerance_is_accepted_and_beyond_is_not():
    TabularMDP(**{**GOOD, "mu": [1 + 0.9e-8, 0.0]})
    with pytest.raises(NotStochasticError):
        TabularMDP(**{**GOOD, "mu": [1 + 1.1e-8, 0.0]})


def test_arrays_are_copied_and_read_only():
    P, r, mu = HALF.copy(), ZERO.copy(), MU.copy()
    kernel = csr(HALF)
    model, sparse = TabularMDP(P, r, mu, gamma=0.9), TabularMDP(kernel, r, mu, gamma=0.9)
    P[:], r[:], mu[:], kernel.data[:] = 0, 7, 0, 0
    assert_array_equal(model.P, HALF)
    assert_array_equal(model.r, ZERO)
    assert_array_equal(model.mu, MU)
    assert_array_equal(dense(sparse), HALF)
    for array in (model.P, model.r, model.mu, model.terminal, sparse.P.data, model.successors.cdf):
        with pytest.raises(ValueError, match="read-only"):
            array[...] = 1
    assert TabularMDP(model.P, model.r, model.mu, gamma=0.9).P is model.P  # no second copy of what cannot change


def test_duplicate_csr_entries_are_added_up():
    P = sp.csr_matrix((np.array([0.5, 0.25, 0.25, 1.0]), np.array([0, 1, 1, 1]), np.array([0, 3, 4])), shape=(2, 2))
    model = TabularMDP(P, np.zeros((2, 1)), MU, gamma=0.5)
    assert_array_equal(dense(model)[:, 0], [[0.5, 0.5], [0, 1]])
    assert model.successors.next_state.shape == (2, 1, 2)


def test_stored_zeros_are_never_drawn():
    """Also the last entry of a row, which a uniform close to 1 would reach."""
    P = sp.csr_matrix((np.array([0.0, 1.0, 1.0, 0.0]), np.array([0, 1, 0, 1]), np.array([0, 2, 4])), shape=(2, 2))
    assert P.nnz == 4
    table = TabularMDP(P, np.zeros((2, 1)), MU, gamma=0.5).successors
    assert_array_equal(table.next_state, [[[1]], [[0]]])
    assert_array_equal(table.cdf, np.ones((2, 1, 1)))


def test_rank_three_rewards_are_never_guessed():
    """With H, S and A equal the shape does not tell stages from next states, except beside a sparse P."""
    r = np.arange(8.0).reshape(2, 2, 2)
    options = {"mu": MU, "horizon": 2}
    for P in (HALF, np.stack([HALF, HALF])):
        with pytest.raises(
            ShapeError, match=r"may mean \[H, S, A\] or \[S, A, S\].*repeat\(S, axis=-1\) for the first"
        ):
            TabularMDP(P, r, **options)
    sparse = TabularMDP(csr(HALF), r, **options)
    assert sparse.is_staged
    assert_array_equal(sparse.r_at(1), r[1])
    # the two ways out that the message names
    assert_array_equal(TabularMDP(HALF, r[..., None].repeat(2, axis=-1), **options).r_at(1), r[1])
    assert_array_equal(TabularMDP(HALF, np.stack([r] * 2), **options).r_at(1), r.mean(axis=-1))
    assert_array_equal(by_stage(r, 2), r[..., None].repeat(2, axis=-1))
    assert by_stage(r, 3) is r
    assert not TabularMDP(HALF, r, mu=MU, gamma=0.9).is_staged
    one = TabularMDP(np.ones((1, 1, 1)), np.full((1, 1, 1), 5.0), [1.0], horizon=1)  # both readings are the same
    assert one.r_at(0) == 5
    longer = TabularMDP(HALF, np.arange(12.0).reshape(3, 2, 2), mu=MU, horizon=3)
    assert_array_equal(longer.r_at(2), [[8, 9], [10, 11]])


@given(model=strategies.tabular_mdps(horizon=3, staged=True, transition_rewards=True))
def test_staged_views_are_the_stages(model):
    table = model.successors
    for h in range(3):
        mean = sum(
            dense(model, h)[..., y] * (model.r[h] if model.r.ndim == 3 else model.r[h, ..., y]) for y in range(model.S)
        )
        assert_allclose(model.r_at(h), mean, rtol=0, atol=1e-14)  # at most 5 terms of size 1
        assert_allclose(law_of(table, model.S, h), dense(model, h), rtol=0, atol=1e-15)


def law_of(table, S, h=None):
    """Transition probabilities that sampling from the table gives: lengths of the intervals of the cdf."""
    cdf, after = (table.cdf, table.next_state) if h is None else (table.cdf[h], table.next_state[h])
    P = np.zeros((*cdf.shape[:2], S))
    for s, a, k in np.ndindex(*cdf.shape):
        P[s, a, after[s, a, k]] += cdf[s, a, k] - (cdf[s, a, k - 1] if k else 0.0)
    return P


@given(model=strategies.tabular_mdps(sparse=None, transition_rewards=True))
def test_successor_table_has_the_law_of_the_model(model):
    """Cumulative sums of at most 5 numbers in [0, 1] are right to 5 roundings."""
    table = model.successors
    assert_allclose(law_of(table, model.S), dense(model), rtol=0, atol=5 * 2.0**-53)
    assert (table.cdf[..., -1] == 1).all()
    for s, a in np.ndindex(model.S, model.A):
        possible = set(np.flatnonzero(dense(model)[s, a] > 0))
        assert set(table.next_state[s, a].tolist()) == possible  # padding repeats the last one
        for k, y in enumerate(table.next_state[s, a]):
            r = model.r.toarray().reshape(dense(model).shape) if sp.issparse(model.r) else model.r
            assert table.reward[s, a, k] == (r[s, a] if r.ndim == 2 else r[s, a, y])


def test_a_successor_table_without_its_last_one_is_caught():
    """The check above rejects a table whose cdf ends below 1 or whose successors are shifted."""
    model = TabularMDP(HALF, ZERO, MU, gamma=0.9)
    table = model.successors

    class Short:
        cdf, next_state = table.cdf * 0.999, table.next_state

    class Shifted:
        cdf, next_state = put(table.cdf, (0, 0, 0), 0.25), table.next_state

    for mutant in (Short, Shifted):
        assert np.abs(law_of(mutant, 2) - dense(model)).max() > 5 * 2.0**-53


@given(model=strategies.tabular_mdps(sparse=True, transition_rewards=True))
def test_sparse_and_dense_storage_are_the_same_model(model):
    other = TabularMDP(dense(model), model.r, model.mu, gamma=model.gamma, terminal=model.terminal)
    v = np.arange(model.S) - 0.5
    assert (model.S, model.A, model.is_sparse, other.is_sparse) == (other.S, other.A, True, False)
    assert_allclose(model.backup(v), other.backup(v), rtol=0, atol=1e-13)  # 5 terms of size 5
    for name in ("next_state", "cdf", "reward"):
        assert_array_equal(getattr(model.successors, name), getattr(other.successors, name))


@given(model=strategies.tabular_mdps(transition_rewards=True))
def test_backup_is_the_sum_over_successors(model):
    v = np.arange(model.S) - 0.5
    q = np.zeros((model.S, model.A))
    for s, a, y in np.ndindex(model.S, model.A, model.S):
        r = model.r[s, a] if model.r.ndim == 2 else model.r[s, a, y]
        q[s, a] += model.P[s, a, y] * (r + model.gamma * v[y])
    assert_allclose(model.backup(v), q, rtol=0, atol=1e-13)
    if model.gamma > 0 and np.abs(model.P @ v).max() > 0.01:  # a backup that forgets gamma is far away
        gap = (1 - model.gamma) * np.abs(model.P @ v).max()
        assert np.abs(model.r_at() + (model.P @ v) - q).max() >= 0.99 * gap - 1e-13


def test_sparse_transition_rewards():
    P = csr([[[0.5, 0.5]], [[0.0, 1.0]]])
    R = csr([[[4.0, 0.0]], [[0.0, -1.0]]])
    model = TabularMDP(P, R, MU, gamma=0.5)
    assert_array_equal(model.r_at(), [[2.0], [-1.0]])
    assert model.reward_range == (-1.0, 4.0)
    assert_array_equal(model.successors.reward, [[[4.0, 0.0]], [[-1.0, -1.0]]])
    staged = TabularMDP((P, P), (R, 2 * R), MU, horizon=2)
    assert_array_equal(staged.r_at(1), [[4.0], [-2.0]])
    assert_array_equal(staged.successors.reward[1], [[[8.0, 0.0]], [[-2.0, -2.0]]])


def test_reward_range():
    assert TabularMDP(HALF, put(ZERO, (0, 0), -3), MU, gamma=0.5).reward_range == (-3.0, 0.0)
    law = RewardAtoms(np.array([-1.0, 3.0]), np.tile([0.75, 0.25], (2, 2, 1)))
    assert TabularMDP(HALF, ZERO, MU, gamma=0.5, reward_law=law).reward_range == (-1.0, 3.0)
