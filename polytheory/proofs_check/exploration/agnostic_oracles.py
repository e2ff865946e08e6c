"""Other routes to the numbers: every episode listed, every deterministic MDP listed, definitions as loops."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.proofs_check.exploration.agnostic_instances import Case


class Episodes(NamedTuple):
    """All episodes: probabilities ``prob`` [m]; ``states`` by number, ``actions``, ``rewards``, ``mask`` [m, t]."""

    prob: Float[np.ndarray, " m"]
    states: Int[np.ndarray, "m t"]
    actions: Int[np.ndarray, "m t"]
    rewards: Float[np.ndarray, "m t"]
    mask: Bool[np.ndarray, "m t"]

    @property
    def returns(self) -> Float[np.ndarray, " m"]:
        """Sum of rewards."""
        return self.rewards.sum(axis=1)


def episodes(case: Case, law: Float[np.ndarray, "H n A"], *, layer: Any = 0, start: Any = None) -> Episodes:
    """Every episode of a stochastic policy, from a law of first states (default: the model's) at a layer."""
    H, n, A = case.sizes
    first = case.start if start is None else np.asarray(start)

    def walk(h: int, x: int, p: float) -> Iterator[tuple[float, list[tuple[int, int, float]]]]:
        for a in range(A):
            q = p * law[h, x, a]
            if q == 0:
                continue
            step = (h * n + x, a, float(case.r[h, x, a]))
            ends = 1.0 if h == H - 1 else 1.0 - float(case.P[h, x, a].sum())
            if ends > 0:
                yield q * ends, [step]
            for y in range(n if h < H - 1 else 0):
                if case.P[h, x, a, y] > 0:
                    for total, rest in walk(h + 1, y, q * float(case.P[h, x, a, y])):
                        yield total, [step, *rest]

    found = [one for x in range(n) if first[x] > 0 for one in walk(int(layer), x, float(first[x]))]
    t = H - layer
    prob = np.array([p for p, _ in found])
    states, actions = np.zeros((len(found), t), dtype=np.int64), np.zeros((len(found), t), dtype=np.int64)
    rewards, mask = np.zeros((len(found), t)), np.zeros((len(found), t), dtype=bool)
    for i, (_, steps) in enumerate(found):
        for j, (s, a, r) in enumerate(steps):
            states[i, j], actions[i, j], rewards[i, j], mask[i, j] = s, a, r, True
    return Episodes(prob, states, actions, rewards, mask)


def one_hot(policy: Int[np.ndarray, "H n"], A: int) -> Float[np.ndarray, "H n A"]:
    """A deterministic policy as action probabilities."""
    return np.eye(A)[policy]


def value(case: Case, law: Float[np.ndarray, "H n A"]) -> float:
    """Expected return, episode by episode."""
    all_of_them = episodes(case, law)
    return float(all_of_them.prob @ all_of_them.returns)


def values(case: Case) -> Float[np.ndarray, " N"]:
    """Expected return of every member, episode by episode."""
    return np.array([value(case, one_hot(p, case.sizes.A)) for p in case.actions])


def visits(case: Case, law: Float[np.ndarray, "H n A"], **start: Any) -> Float[np.ndarray, "H n"]:
    """Probability of being in each state, episode by episode."""
    H, n, _ = case.sizes
    found, out = episodes(case, law, **start), np.zeros(H * n)
    for p, states, mask in zip(found.prob, found.states, found.mask, strict=True):
        out[states[mask]] += p
    return out.reshape(H, n)


def optimum(case: Case) -> tuple[Float[np.ndarray, "H n"], Int[np.ndarray, "H n"]]:
    """Optimal values by layer and a policy that has them, by trying every action of every state from the end."""
    H, n, A = case.sizes
    v, best = np.zeros((H + 1, n)), np.zeros((H, n), dtype=np.int64)
    for h in reversed(range(H)):
        for x in range(n):
            q = [case.r[h, x, a] + sum(case.P[h, x, a, y] * v[h + 1, y] for y in range(n)) for a in range(A)]
            v[h, x], best[h, x] = max(q), int(np.argmax(q))
    return v[:H], best


def deterministic_worlds(
    case: Case,
) -> tuple[Float[np.ndarray, " T"], Int[np.ndarray, "T H n A"], Int[np.ndarray, " T"]]:
    """Every deterministic MDP that the model can be, with its probability: (prob [T], next state [T, H, n, A], root [T]).

    Next state n means that the episode ends.
    """
    H, n, A = case.sizes
    cells = [(h, x, a) for h in range(H - 1) for x in range(n) for a in range(A)]
    laws = [[(y, p) for y, p in enumerate([*case.P[c], 1.0 - case.P[c].sum()]) if p > 0] for c in cells]
    roots = [(x, p) for x, p in enumerate(case.start) if p > 0]
    prob, after, first = [], [], []
    for choice in product(roots, *laws):
        table = np.full((H, n, A), n)
        for cell, (y, _) in zip(cells, choice[1:], strict=True):
            table[cell] = y
        prob.append(np.prod([p for _, p in choice]))
        after.append(table)
        first.append(choice[0][0])
    return np.array(prob), np.array(after), np.array(first)


def greedy_loss(case: Case, q: Float[np.ndarray, "H n A"], policy: Int[np.ndarray, "H n"]) -> Float[np.ndarray, "H n"]:
    """``max_a Q(x, a) - Q(x, p(x))`` as a loop."""
    H, n, _ = case.sizes
    return np.array([[max(q[h, x]) - q[h, x, policy[h, x]] for x in range(n)] for h in range(H)])


def q_by_paths(case: Case, law: Float[np.ndarray, "H n A"]) -> Float[np.ndarray, "H n A"]:
    """``Q^pi_h(x, a)``: episodes from x that take a first."""
    H, n, A = case.sizes
    q = np.zeros((H, n, A))
    for h, x, a in np.ndindex(H, n, A):
        forced = law.copy()
        forced[h] = np.eye(A)[a]
        found = episodes(case, forced, layer=h, start=np.eye(n)[x])
        q[h, x, a] = found.prob @ found.returns
    return q
