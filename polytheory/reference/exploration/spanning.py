"""Spanning capacity: how many state-action pairs of one layer a class can tell apart, in the worst deterministic MDP.

``C_h(Pi) = max over deterministic MDPs on the same layered states of #{(s, a): some policy is at s at layer h and takes a}``
and ``C(Pi) = max_h C_h(Pi)`` [jia2023, Definition 1]. It depends on the class alone and is what a learner with a generative
model pays for.

The exact search is over the ways in which the pairs reached at one layer can be sent to the states of the next. Pairs may be
sent to the *same* state: merging two groups of policies can raise the count later on. It takes about ``n^(pairs)`` steps for
each layer, so that it is for small classes; ``spanning_bounds`` brackets it for the others.
"""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from polytheory._typing import Int
from polytheory.errors import SettingError

if TYPE_CHECKING:
    import networkx as nx

MOST = 2_000_000  # assignments that the exact search tries before it gives up

Groups = frozenset[tuple[int, int]]  # (state, the policies that are there as bits)


class Spanning(NamedTuple):
    """``by_layer`` C_h for each h; ``successor`` [H, H - 1, n, A] for each h a deterministic MDP that reaches C_h, its start
    ``start`` [H]; -1 where no policy goes."""

    by_layer: tuple[int, ...]
    successor: Int[np.ndarray, "H K n A"]
    start: Int[np.ndarray, " H"]

    @property
    def value(self) -> int:
        """``C(Pi)``, the largest over layers."""
        return max(self.by_layer)


def spanning_capacity(actions: Int[np.ndarray, "N H n"], n_actions: int) -> Spanning:
    """Exact spanning capacity of a class with a deterministic MDP for each layer that shows it.

    Raises `SettingError` when the search is too long; ``spanning_bounds`` then still brackets the value.
    """
    N, H, n = actions.shape
    by_layer, successor, start = [], np.full((H, max(H - 1, 0), n, n_actions), -1), np.zeros(H, dtype=np.int64)
    search = _Search(actions, n_actions)
    for h in range(H):
        search.target, search.memo = h, {}
        roots = [(search.best(frozenset({(s, (1 << N) - 1)}), 0), s) for s in range(n)]
        best, s = max(roots, key=lambda found: found[0])
        by_layer.append(best)
        start[h] = s
        search.replay(frozenset({(s, (1 << N) - 1)}), successor[h])
    return Spanning(tuple(by_layer), successor, start)


def spanning_bounds(
    actions: Int[np.ndarray, "N H n"], n_actions: int, *, tries: int = 200, seed: int = 0
) -> tuple[tuple[int, int], ...]:
    """(lower, upper) bounds of every C_h, cheap for large classes.

    Lower: the best of ``tries`` random deterministic MDPs. Upper: ``min(A^(h+1), N, n A)``.
    """
    N, H, n = actions.shape
    rng = np.random.default_rng(seed)
    lower, members = np.zeros(H, dtype=np.int64), np.arange(N)
    for _ in range(tries):
        s = np.full(N, rng.integers(n))
        for h in range(H):
            pair = s * n_actions + actions[members, h, s]
            lower[h] = max(lower[h], len(np.unique(pair)))
            s = rng.integers(n, size=n * n_actions)[pair]
    return tuple((int(lower[h]), int(min(n_actions ** (h + 1), N, n * n_actions))) for h in range(H))


def reach_graph(
    successor: Int[np.ndarray, "K n A"], start: int, actions: Int[np.ndarray, "N H n"], layer: int
) -> nx.DiGraph:
    """The deterministic MDP up to ``layer`` as a graph: nodes ("state", h, s) and ("pair", h, s, a).

    Edges from a pair lead to its successor state; edges from a state to its pairs carry ``policies``, the members that take
    them when they are there.
    """
    import networkx as nx

    graph, n = nx.DiGraph(), actions.shape[2]
    graph.add_node(("state", 0, start))
    for h in range(layer + 1):
        for s in range(n):
            for a in np.unique(actions[:, h, s]):
                pair = ("pair", h, s, int(a))
                graph.add_edge(
                    ("state", h, s), pair, policies=frozenset(np.flatnonzero(actions[:, h, s] == a).tolist())
                )
                if h < layer and successor[h, s, a] >= 0:
                    graph.add_edge(pair, ("state", h + 1, int(successor[h, s, a])))
    return graph


class _Search:
    """Depth-first over the layers; a node is the set of (state, policies that are there)."""

    def __init__(self, actions: np.ndarray, n_actions: int):
        _, H, n = actions.shape
        self.n_actions, self.n = n_actions, n
        self.takers = [[[_bits(actions[:, h, s] == a) for a in range(n_actions)] for s in range(n)] for h in range(H)]
        self.target, self.work = 0, 0
        self.memo: dict[tuple[Groups, int], tuple[int, tuple[int, ...]]] = {}

    def pairs(self, groups: Groups, h: int) -> list[tuple[int, int, int]]:
        """(s, a, policies) reached at layer h, in a fixed order."""
        split = (
            (s, a, members & takers) for s, members in sorted(groups) for a, takers in enumerate(self.takers[h][s])
        )
        return [pair for pair in split if pair[2]]

    def best(self, groups: Groups, h: int) -> int:
        """Most pairs at the target layer from here."""
        if h == self.target:
            return len(self.pairs(groups, h))
        if (groups, h) in self.memo:
            return self.memo[groups, h][0]
        pairs = self.pairs(groups, h)
        total = sum(members.bit_count() for _, _, members in pairs)
        ceiling = min(total, len(pairs) * self.n_actions ** (self.target - h), self.n * self.n_actions)
        top: tuple[int, tuple[int, ...]] = (0, ())
        for sigma in product(range(self.n), repeat=len(pairs)):
            self.work += 1
            if self.work > MOST:
                raise SettingError(
                    f"the exact spanning capacity of this class takes more than {MOST} assignments; "
                    "use spanning_bounds, or a class with fewer states or layers"
                )
            value = self.best(merged(pairs, sigma), h + 1)
            if value > top[0]:
                top = (value, sigma)
            if value == ceiling:
                break
        self.memo[groups, h] = top
        return top[0]

    def replay(self, groups: Groups, successor: np.ndarray) -> None:
        """Write the assignments of the best path into ``successor`` [H - 1, n, A]."""
        for h in range(self.target):
            self.best(groups, h)
            pairs, sigma = self.pairs(groups, h), self.memo[groups, h][1]
            for (s, a, _), s2 in zip(pairs, sigma, strict=True):
                successor[h, s, a] = s2
            groups = merged(pairs, sigma)


def merged(pairs: list[tuple[int, int, int]], sigma: Any) -> Groups:
    """Groups at the next layer when pair i is sent to state ``sigma[i]``; groups that meet become one."""
    at: dict[int, int] = {}
    for (_, _, members), s2 in zip(pairs, sigma, strict=True):
        at[s2] = at.get(s2, 0) | members
    return frozenset(at.items())


def _bits(members: np.ndarray) -> int:
    return sum(1 << int(k) for k in np.flatnonzero(members))
