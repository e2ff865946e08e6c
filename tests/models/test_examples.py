"""Named examples: the known answers of their docstrings, found by another route."""

from __future__ import annotations

import time

import networkx as nx
import numpy as np
import pytest
from model_oracles import best_by_enumeration, best_by_linear_program, best_by_recursion, dense, policy_value
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.errors import SettingError, UnknownNameError
from polytheory.models import make, names

SMALL = {
    "forest": {}, "gambler": {"goal": 8}, "riverswim": {}, "ring": {"S": 7}, "river": {"S": 7}, "garnet": {"S": 9},
    "gridworld": {"rows": 2, "columns": 3},
}  # fmt: skip


@pytest.mark.parametrize("name", names())
def test_every_name_makes_a_model_with_rows_that_sum_to_one(name):
    model = make(name, **SMALL.get(name, {}))
    for h in range(model.horizon or 1) if model.is_staged else (0,):
        P = dense(model, h)
        assert P.min() >= 0
        assert_allclose(P.sum(axis=-1), 1, rtol=0, atol=1e-8)
    assert 0 <= model.gamma <= 1
    if model.grid is not None:
        assert len(model.grid.arrows) == model.A


def test_two_state():
    v, best = best_by_enumeration(model := make("two-state"))
    assert best == {(1, 1)}
    assert_allclose(model.mu @ v, 90 / 23, rtol=1e-14)
    assert_allclose(90 / 23, 3.913043478261, rtol=0, atol=5e-13)


def test_two_state_misspecified():
    v, best = best_by_enumeration(model := make("two-state-misspecified"))
    assert best == {(0, 1)}
    assert_allclose(v, 5, rtol=1e-14)
    shared = max(model.mu @ policy_value(model, np.array([a, a])) for a in (0, 1))
    assert shared < 4.9  # one action for both states cannot reach it


@pytest.mark.parametrize(("gamma", "actions"), [(0.95, {0}), (0.9, {1}), (0.5, {1}), (10 / 11, {0, 1})])
def test_puterman(gamma, actions):
    v, best = best_by_enumeration(make("puterman", gamma=gamma))
    assert {policy[0] for policy in best} == actions
    stay, move = (5 - 0.5 * gamma / (1 - gamma)) / (1 - 0.5 * gamma), 10 - gamma / (1 - gamma)
    assert_allclose(v, [max(stay, move), -1 / (1 - gamma)], rtol=1e-12, atol=1e-13)
    if gamma == 0.95:
        assert_allclose(v, [-60 / 7, -20], rtol=1e-12)


def test_forest():
    v, best = best_by_enumeration(make("forest"))
    assert best == {(0, 0, 0)}
    assert_allclose(v, [26.244, 29.484, 33.484], rtol=1e-12)


def test_riverswim():
    model = make("riverswim")
    v1 = best_by_recursion(model, 19)
    q = model.r_at() + dense(model) @ v1
    assert (q[:, 1] > q[:, 0] + 1e-6).all()
    later = best_by_recursion(model, 1)  # with two steps to go, the small reward is better on the left bank
    q = model.r_at() + dense(model) @ later
    assert q[0, 0] > q[0, 1]


def test_riverswim_long_horizon_gain():
    """Always RIGHT earns its stationary share of the last state: balance equations of a birth-death chain."""
    model = make("riverswim", gamma=0.99, horizon=None)
    up, down = np.array([0.6, 0.35, 0.35, 0.35, 0.35]), np.array([0.05, 0.05, 0.05, 0.05, 0.4])
    weights = np.concatenate([[1.0], np.cumprod(up / down)])
    gain = weights[-1] / weights.sum()
    right = policy_value(model, np.ones(6, dtype=int))
    assert_allclose((weights / weights.sum()) @ right, gain / (1 - 0.99), rtol=1e-11)
    assert_allclose(right, best_by_enumeration(model)[0], rtol=1e-11)


@pytest.mark.parametrize("S", [2, 5])
def test_chain(S):
    model = make("chain", S=S, slip=0.0, gamma=0.9)
    v, best = best_by_enumeration(model)
    assert best == {(1,) * S}
    assert_allclose(v[0], 10 * 0.9 ** (S - 1) / 0.1, rtol=1e-12)
    assert best_by_enumeration(make("chain", S=8, slip=0.0, gamma=0.75))[1] != {(1,) * 8}  # 10 gamma^7 < 2
    slipping = make("chain", S=S, slip=0.2)
    assert_allclose(slipping.r_at()[S - 1], [0.8 * 2 + 0.2 * 10, 0.8 * 10 + 0.2 * 2])
    assert_allclose(dense(slipping)[0, 0, :2], [0.8, 0.2])


def test_combination_lock_has_one_combination():
    model = make("combination-lock", H=4, A=3, seed=2)
    returns = []
    for code in np.ndindex(3, 3, 3, 3):
        law, total = model.mu, 0.0
        for a in code:
            total += law @ model.r_at()[:, a]
            law = law @ dense(model)[:, a]
        returns.append(total)
    assert sorted(returns) == [0.0] * 80 + [1.0]
    assert_allclose(model.mu @ best_by_recursion(model), 1.0)
    assert_allclose(np.mean(returns), 3.0**-4)  # what random exploration earns
    assert len({np.argmax(make("combination-lock", H=1, A=9, seed=k).r_at()[0]) for k in range(20)}) > 3


def test_gambler():
    model = make("gambler", goal=8, gamma=1.0)
    v = best_by_recursion(model)
    bold = lambda s: 0.0 if s == 0 else 1.0 if s == 8 else (  # noqa: E731
        0.4 * bold(2 * s) if s <= 4 else 0.4 + 0.6 * bold(2 * s - 8)
    )  # fmt: skip
    expected = [bold(s) if s < 8 else 0.0 for s in range(9)]  # the reward is on the way into the goal
    assert_allclose(v, expected, rtol=1e-12)
    assert_allclose(v[[4, 2, 6]], [0.4, 0.16, 0.64], rtol=1e-12)
    better_odds = best_by_recursion(make("gambler", goal=8, p_heads=0.6), 32)
    assert better_odds[4] > 0.6  # bold play is no longer optimal
    stakes = np.flatnonzero(dense(model)[5, 3] > 0)
    assert_array_equal(stakes, [2, 8])  # at 5, no more than 3 can be staked


def steps_to(mdp, goal):
    """Fewest steps to a state, by networkx on the edges that have probability 1."""
    graph = nx.DiGraph()
    for s, a in np.ndindex(mdp.S, mdp.A):
        graph.add_edge(int(np.argmax(dense(mdp)[s, a])), s)
    return nx.single_source_shortest_path_length(graph, goal)


@pytest.mark.parametrize(("rows", "columns"), [(5, 5), (1, 4), (3, 2)])
def test_gridworld(rows, columns):
    model = make("gridworld", rows=rows, columns=columns, gamma=0.9)
    v = best_by_linear_program(model)
    row, column = np.divmod(np.arange(rows * columns), columns)
    d = rows - 1 - row + columns - 1 - column
    assert_allclose(v, -(1 - 0.9**d) / 0.1, atol=1e-6)  # HiGHS: 1e-7 feasibility over 1 - gamma
    assert steps_to(model, model.S - 1) == dict(enumerate(d))


def test_gridworld_slips_to_the_sides():
    P = dense(make("gridworld", rows=3, columns=3, slip=0.4))
    assert_allclose(P[4, 2, [5, 7, 1]], [0.6, 0.2, 0.2])  # right: right, down or up
    assert_allclose(P[0, 0, [0, 3]], [0.8, 0.2])  # against the wall and its corner


def test_windy_gridworld():
    model = make("windy-gridworld", gamma=0.999)
    assert steps_to(model, 37)[30] == 15
    assert_array_equal(np.flatnonzero(model.mu), [30])
    start = best_by_linear_program(make("windy-gridworld", gamma=0.9))[30]
    assert_allclose(start, -(1 - 0.9**15) / 0.1, atol=1e-6)
    P = dense(model)
    assert P[3 * 10 + 6, 2, 1 * 10 + 7] == 1  # wind of strength 2 in the column that is left


def test_ring():
    """Distances on the ring; with slips, the value solves a two-term recurrence in the distance."""
    gamma = 0.9
    v, _ = best_by_enumeration(make("ring", S=7, slip=0.0, gamma=gamma))
    d = np.minimum(np.arange(7), 7 - np.arange(7))
    assert_allclose(v, gamma**d / (1 - gamma**2), rtol=1e-12)
    v, _ = best_by_enumeration(make("ring", S=7, slip=0.25, gamma=gamma))
    factor = 0.75 * gamma / (1 - 0.25 * gamma)  # discounted chance of one step, waiting included
    assert_allclose(v, v[0] * factor**d, rtol=1e-12)
    assert_allclose(v[0], 1 + gamma * (0.25 * v[0] + 0.75 * v[1]), rtol=1e-12)


def test_river():
    v, best = best_by_enumeration(make("river", S=6, slip=0.0, gamma=0.9))
    assert best == {(1,) * 6}
    assert_allclose(v, 0.9 ** np.arange(5, -1, -1) / 0.1, rtol=1e-12)
    assert best_by_enumeration(make("river", S=6, slip=0.0, gamma=0.2))[1] == {(0, 0, 1, 1, 1, 1)}


@pytest.mark.parametrize("name", ["ring", "river"])
@pytest.mark.parametrize("A", [1, 3, 4])
def test_walks_store_the_same_model_twice(name, A):
    sparse, full = make(name, S=6, A=A), make(name, S=6, A=A, sparse=False)
    assert sparse.is_sparse
    assert not full.is_sparse
    assert_array_equal(dense(sparse), full.P)


@pytest.mark.parametrize(("S", "k"), [(1, 1), (5, 5), (12, 3), (200, 10)])
def test_garnet_has_exactly_k_successors_and_random_ones(S, k):
    model = make("garnet", S=S, A=3, successors=k, seed=1, sparse=True)
    assert_array_equal(np.diff(model.P.indptr), k)
    assert np.all((dense(model) > 0).sum(axis=-1) == k)
    again, other = (make("garnet", S=S, A=3, successors=k, seed=seed) for seed in (1, 2))
    assert_array_equal(dense(again), dense(model))
    assert S == 1 or (dense(other) != dense(model)).any()


def test_garnet_successors_are_uniform():
    """Each of 20 states is a successor with probability 1/4. Chi-square over states, which counts sampled without
    replacement only make smaller; its 1e-6 quantile at 19 degrees of freedom is 65.4."""
    model = make("garnet", S=20, A=100, successors=5, sparse=True)
    counts = np.bincount(model.P.indices, minlength=20)
    assert ((counts - 500) ** 2 / 500).sum() < 65.4
    skewed = counts + np.where(np.arange(20) < 10, 100, -100)
    assert ((skewed - 500) ** 2 / 500).sum() > 65.4


def test_large_garnet_is_made_in_seconds():
    begin = time.process_time()
    model = make("garnet", S=100_000, A=10, successors=10, sparse=True)
    assert time.process_time() - begin < 10
    assert model.P.nnz == 10_000_000
    assert model.P.indices.dtype == np.int32
    with pytest.raises(SettingError, match="745 GiB stored dense; pass sparse=True"):
        make("garnet", S=100_000, A=10)


def test_random_linear_is_linear():
    """Transitions of all (s, a) span at most d dimensions."""
    model = make("random-linear", S=8, A=4, d=3, horizon=2)
    assert model.is_staged
    for h in (0, 1):
        singular = np.linalg.svd(dense(model, h).reshape(-1, 8), compute_uv=False)
        assert singular[2] > 1e-3 > 1e-12 > singular[3]


def test_unknown_names_and_options():
    with pytest.raises(UnknownNameError, match="unknown environment 'frozenlak'; did you mean 'frozenlake'"):
        make("frozenlak")
    with pytest.raises(
        UnknownNameError, match="allowed: american-put, baited-lock, block-two-state, chain, cliffwalking, "
    ):
        make("q")
    with pytest.raises(SettingError, match="'two-state' takes no option 'slip'; allowed: gamma, horizon"):
        make("two-state", slip=0.1)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("deep-sea", {"depth": 0}), ("baited-lock", {"bait": 2.0}),
        ("riverswim", {"S": 1}), ("chain", {"slip": 1.5}), ("combination-lock", {"H": 0}), ("ring", {"S": 1}),
        ("river", {"slip": 1.0}), ("forest", {"p": -0.1}), ("gambler", {"p_heads": 1.0}), ("gridworld", {"rows": 0}),
        ("garnet", {"S": 3, "successors": 4}), ("random-linear", {"d": 0}),
    ],
)  # fmt: skip
def test_options_out_of_range(name, options):
    with pytest.raises(SettingError, match=f"{list(options)[-1]} = {list(options.values())[-1]}|0 x 5"):
        make(name, **options)


@pytest.mark.parametrize("seed", [None, 3])
def test_deep_sea_has_one_treasure(seed):
    model = make("deep-sea", depth=4, cost=0.2, seed=seed)
    returns = []
    for actions in np.ndindex(2, 2, 2, 2):  # the state at stage h is a function of the actions so far
        s, total = 0, 0.0
        for h, a in enumerate(actions):
            total += model.r_at(h)[s, a]
            s = int(np.argmax(model.P_at(h)[s, a]))
        returns.append(total)
    assert_allclose(sorted(returns)[-2:], [0.2, 1.0])  # always LEFT, and the treasure
    assert len(set(np.round(returns, 12))) == 5  # 0 to 3 steps to the left... and all four, beside the treasure
    assert_allclose(sorted(set(np.round(returns, 12))), [0.05, 0.1, 0.15, 0.2, 1.0])


def test_baited_lock_pays_for_giving_up():
    model = make("baited-lock", H=3, A=2, bait=0.15)
    uniform, v = np.full((2, 2), 0.5), np.zeros(2)
    for h in reversed(range(3)):
        v = (uniform * (model.r_at(h) + model.P_at(h) @ v)).sum(-1)
    assert_allclose(v[0], 2.0**-3 + 0.15 * (1 - 2.0**-3))
    three = make("baited-lock", H=2, A=3)
    assert_allclose(three.r_at(0)[0], [0, 0.15, 0.15])
    assert_allclose(three.r_at(1)[0], [0.15, 1.0, 0.15])


def test_three_state():
    _, best = best_by_enumeration(make("three-state"))
    assert best == {(1, 1, 0)}
