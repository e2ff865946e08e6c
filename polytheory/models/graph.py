"""The graph of an MDP: who can be reached from where, and how long it takes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse as sp
from scipy.sparse import csgraph

from polytheory._typing import Bool, Float
from polytheory.errors import ModelError
from polytheory.models.tabular import TabularMDP

if TYPE_CHECKING:
    import networkx as nx


def adjacency(mdp: TabularMDP) -> sp.csr_matrix:
    """``[S, S]`` boolean: some action of s (at some stage) reaches s' with positive probability."""
    edges = sp.csr_matrix((mdp.S, mdp.S), dtype=bool)
    for h in range(mdp.horizon or 1) if mdp.is_staged else (0,):
        P = mdp.P_at(h)
        csr = P if sp.issparse(P) else sp.csr_matrix(np.asarray(P).reshape(mdp.S * mdp.A, mdp.S))
        coo = csr.tocoo()
        positive = coo.data > 0
        pairs = (np.ones(positive.sum(), dtype=bool), (coo.row[positive] // mdp.A, coo.col[positive]))
        edges = edges + sp.csr_matrix(pairs, shape=(mdp.S, mdp.S), dtype=bool)
    return edges.tocsr()


def to_networkx(mdp: TabularMDP) -> nx.DiGraph:
    """Directed graph of the states; an edge carries ``actions``, the list of actions with a positive probability."""
    import networkx as nx

    graph = nx.DiGraph()
    graph.add_nodes_from(range(mdp.S))
    P = _stationary(mdp)
    for row, column in zip(*P.nonzero(), strict=True):
        s, a = divmod(int(row), mdp.A)
        if not graph.has_edge(s, int(column)):
            graph.add_edge(s, int(column), actions=[])
        graph[s][int(column)]["actions"].append(a)
    return graph


def reachable(mdp: TabularMDP) -> Bool[np.ndarray, " S"]:
    """States that some policy can reach from the start distribution (terminal states lead nowhere)."""
    seen = mdp.mu > 0
    edges = adjacency(mdp)
    while True:
        grown = seen | (edges.T @ seen.astype(float) > 0)
        if (grown == seen).all():
            return seen
        seen = grown


def communicating_classes(mdp: TabularMDP) -> list[frozenset[int]]:
    """Maximal sets of states that reach each other under suitable policies, the strongly connected components."""
    n, label = csgraph.connected_components(adjacency(mdp), directed=True, connection="strong")
    return [frozenset(np.flatnonzero(label == k).tolist()) for k in range(n)]


def hitting_times(mdp: TabularMDP, target: int) -> Float[np.ndarray, " S"]:
    """Least expected number of steps to reach ``target`` from every state (0 at the target, inf where impossible).

    Policy iteration on the shortest-path problem, each policy evaluated by a linear solve; it starts from a policy that
    reaches the target with probability 1 wherever that is possible [bertsekas1991, Prop. 3].
    """
    P = _stationary(mdp)
    sure = _almost_sure(mdp, P, target)
    states = np.flatnonzero(sure)
    states = states[states != target]
    times = np.where(sure, 0.0, np.inf)
    if not states.size:
        return times
    dense = P.toarray().reshape(mdp.S, mdp.A, mdp.S)
    allowed = (dense[states][:, :, ~sure] == 0).all(axis=2)  # actions that never leave the sure set
    actions = _proper_policy(dense, states, target, allowed)
    while True:
        Q = dense[states, actions][:, states]
        t = np.linalg.solve(np.eye(states.size) - Q, np.ones(states.size))
        q = np.where(allowed, 1.0 + dense[states][:, :, states] @ t, np.inf)
        better = q.min(axis=1) < t - 1e-12 * (1 + t)
        if not better.any():
            times[states] = t
            return times
        actions = np.where(better, q.argmin(axis=1), actions)


def diameter(mdp: TabularMDP) -> float:
    """Largest least expected travel time between two states [jaksch2010, Definition 1]; inf unless communicating."""
    return float(max(hitting_times(mdp, y).max() for y in range(mdp.S)))


def _almost_sure(mdp: TabularMDP, P: Any, target: int) -> np.ndarray:
    """States from which some policy reaches the target with probability 1 (the usual double fixed point)."""
    pattern = (P > 0).astype(float)
    inside = np.ones(mdp.S, dtype=bool)
    while True:
        safe = (pattern @ (~inside).astype(float) == 0).reshape(mdp.S, mdp.A)
        reach = np.arange(mdp.S) == target
        while True:
            hits = (pattern @ reach.astype(float) > 0).reshape(mdp.S, mdp.A)
            grown = reach | ((safe & hits).any(axis=1) & inside)
            if (grown == reach).all():
                break
            reach = grown
        if (reach == inside).all():
            return inside
        inside = reach


def _proper_policy(dense: np.ndarray, states: np.ndarray, target: int, allowed: np.ndarray) -> np.ndarray:
    """Actions that bring every state closer to the target with positive probability."""
    actions = np.full(states.size, -1)
    near = np.arange(dense.shape[0]) == target
    while (actions < 0).any():
        hits = allowed & (dense[states][:, :, near].sum(axis=2) > 0)
        new = (actions < 0) & hits.any(axis=1)
        actions = np.where(new, hits.argmax(axis=1), actions)
        near[states[new]] = True
    return actions


def _stationary(mdp: TabularMDP) -> sp.csr_matrix:
    if mdp.is_staged:
        raise ModelError("this question needs transitions that do not depend on the stage; this model's do")
    P = mdp.P_at()
    return P if sp.issparse(P) else sp.csr_matrix(np.asarray(P).reshape(mdp.S * mdp.A, mdp.S))
