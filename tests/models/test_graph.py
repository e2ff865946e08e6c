"""Reachability, communicating classes, hitting times and diameter against networkx, enumeration and hand solutions."""

from __future__ import annotations

import itertools

import networkx as nx
import numpy as np
import pytest
import scipy.sparse as sp
from hypothesis import given
from model_oracles import dense
from numpy.testing import assert_allclose, assert_array_equal

from polytheory.conformance import strategies
from polytheory.errors import ModelError
from polytheory.models import TabularMDP, communicating_classes, diameter, hitting_times, make, reachable, to_networkx

MODELS = strategies.tabular_mdps(max_states=4, max_actions=2, sparse=None)


def graph_of(model):
    """Edges by plain loops."""
    graph = nx.DiGraph()
    graph.add_nodes_from(range(model.S))
    graph.add_edges_from((s, y) for s, a, y in np.argwhere(dense(model) > 0).tolist())
    return graph


@given(model=MODELS)
def test_graph_and_classes(model):
    graph, mine = graph_of(model), to_networkx(model)
    assert set(mine.edges) == set(graph.edges)
    for s, y, actions in mine.edges(data="actions"):
        assert actions == np.flatnonzero(dense(model)[s, :, y] > 0).tolist()
    expected = {frozenset(c) for c in nx.strongly_connected_components(graph)}
    assert set(communicating_classes(model)) == expected


@given(model=MODELS)
def test_reachable(model):
    graph = graph_of(model)
    starts = np.flatnonzero(model.mu).tolist()
    expected = set(starts).union(*(nx.descendants(graph, s) for s in starts))
    assert set(np.flatnonzero(reachable(model)).tolist()) == expected


def hitting_by_enumeration(model, target):
    """Least expected hitting time over deterministic stationary policies, each by its own linear solve (inf where the
    target may be missed). For shortest paths with positive costs such a policy is optimal [bertsekas1991]."""
    best = np.full(model.S, np.inf)
    for actions in itertools.product(range(model.A), repeat=model.S):
        K = dense(model)[np.arange(model.S), list(actions)].copy()
        K[target] = np.eye(model.S)[target]
        # a state is safe when everything it can reach can reach the target
        power = np.linalg.matrix_power((K > 0).astype(float) + np.eye(model.S), model.S) > 0
        safe = ~(power & ~power[:, [target]].T).any(axis=1)
        inside = np.flatnonzero(safe & (np.arange(model.S) != target))
        t = np.full(model.S, np.inf)
        t[target] = 0
        t[inside] = np.linalg.solve(np.eye(inside.size) - K[np.ix_(inside, inside)], np.ones(inside.size))
        best = np.minimum(best, t)
    return best


@given(model=MODELS)
def test_hitting_times_and_diameter(model):
    """Probabilities of the strategy are at least 1/16, so times stay below 16^4 and linear solves keep 1e-9."""
    every = [hitting_by_enumeration(model, y) for y in range(model.S)]
    for y, expected in enumerate(every):
        assert_allclose(hitting_times(model, y), expected, rtol=1e-9, atol=1e-9)
    longest = np.max(every)
    assert_allclose(diameter(model), longest, rtol=1e-9, atol=1e-9)
    assert np.isfinite(longest) == (len(communicating_classes(model)) == 1)


def test_a_greedy_path_is_not_the_fastest_way():
    """Action 1 of state 0 reaches the target at once but may fall far behind: 2 sure steps are better."""
    P = np.zeros((4, 2, 4))
    P[0, 0, 1] = P[1, :, 3] = 1
    P[0, 1, 3], P[0, 1, 2] = 0.5, 0.5
    P[2, :, 2], P[2, :, 0] = 0.9, 0.1
    P[3, :, 0] = 1
    model = TabularMDP(P, np.zeros((4, 2)), np.eye(4)[0], gamma=0.9)
    assert_allclose(hitting_times(model, 3), [2, 1, 12, 0], rtol=1e-12)


def test_diameters_known_by_hand():
    ring = make("ring", S=9, slip=0.2)
    assert_allclose(diameter(ring), 4 / 0.8, rtol=1e-10)
    cycle = make("ring", S=9, A=1, slip=0.0)  # one way only
    assert_allclose(diameter(cycle), 8, rtol=1e-12)
    # RiverSwim: t_i = steps from i to i + 1 against the current, a birth-death recursion
    t = [1 / 0.6]
    for _ in range(4):
        t.append((1 + 0.05 * t[-1]) / 0.35)
    assert_allclose(diameter(make("riverswim")), sum(t), rtol=1e-10)
    assert diameter(make("frozenlake")) == np.inf
    one = TabularMDP(np.ones((1, 1, 1)), np.zeros((1, 1)), np.ones(1), gamma=0.0)
    assert diameter(one) == 0


def test_probability_zero_entries_are_no_edges():
    P = sp.csr_matrix((np.array([1.0, 0.0, 1.0]), np.array([0, 1, 0]), np.array([0, 2, 3])), shape=(2, 2))
    model = TabularMDP(P, np.zeros((2, 1)), [1.0, 0.0], gamma=0.9)
    assert_array_equal(reachable(model), [True, False])
    assert set(to_networkx(model).edges) == {(0, 0), (1, 0)}
    assert_array_equal(hitting_times(model, 1), [np.inf, 0])
    assert len(communicating_classes(model)) == 2


def test_stage_dependent_models():
    P = np.stack([np.eye(2)[[[1], [1]]], np.eye(2)[[[0], [0]]]])
    model = TabularMDP(P, np.zeros((2, 1)), [1.0, 0.0], horizon=2)
    assert reachable(model).all()  # by some stage
    for question in (diameter, to_networkx):
        with pytest.raises(ModelError, match="do not depend on the stage"):
            question(model)
