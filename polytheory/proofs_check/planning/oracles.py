"""Independent answers: exact rational optima that prove themselves, definitions as loops, enumeration."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fractions import Fraction
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import NotSolvedError
from polytheory.models.tabular import TabularMDP
from polytheory.reference.planning.rational import exact_optimum, solve_exact

UNIT = 2.0**-53
_VALUES: WeakKeyDictionary[TabularMDP, list[Fraction]] = WeakKeyDictionary()


def exact_q(model: TabularMDP, v: Iterable[Any], h: int = 0) -> list[list[Fraction]]:
    """``r(s, a) + gamma * sum_y P(y | s, a) v(y)`` over the rationals, written as the definition reads."""
    P, r, gamma = np.asarray(model.P_at(h)), model.r_at(h), Fraction(model.gamma)
    values = [x if isinstance(x, Fraction) else Fraction(float(x)) for x in v]

    def one(s: int, a: int) -> Fraction:
        ahead = sum((Fraction(float(P[s, a, y])) * values[y] for y in range(model.S)), Fraction(0))
        return Fraction(float(r[s, a])) + gamma * ahead

    return [[one(s, a) for a in range(model.A)] for s in range(model.S)]


def optimal_value(model: TabularMDP) -> list[Fraction]:
    """V* exactly. However it was found, ``v = max_a q(v)`` holds exactly, and only V* solves that equation."""
    if model not in _VALUES:
        v = exact_optimum(model, model.mu).v
        if [max(row) for row in exact_q(model, v)] != v:
            raise NotSolvedError("the rational optimum does not solve Bellman's equation")
        _VALUES[model] = v
    return _VALUES[model]


def policy_value(model: TabularMDP, actions: Int[np.ndarray, " S"]) -> list[Fraction]:
    """V^pi of a deterministic policy exactly, checked against ``v = q(v)(pi)``."""
    P, gamma, S = np.asarray(model.P_at()), Fraction(model.gamma), model.S
    M = [[Fraction(int(s == y)) - gamma * Fraction(float(P[s, actions[s], y])) for y in range(S)] for s in range(S)]
    v = solve_exact(M, [Fraction(float(model.r_at()[s, actions[s]])) for s in range(S)])
    if [row[a] for row, a in zip(exact_q(model, v), actions, strict=True)] != v:
        raise NotSolvedError("the rational evaluation does not solve the policy's equation")
    return v


def distance(v: Float[np.ndarray, " S"], exact: Sequence[Fraction]) -> Fraction:
    """``max |v - exact|`` without rounding; a value that is not a number is infinitely far."""
    if not np.isfinite(v).all():
        return Fraction(10) ** 300
    return max(abs(Fraction(float(x)) - y) for x, y in zip(v, exact, strict=True))


def sweep_tolerance(model: TabularMDP, *values: Float[np.ndarray, " S"]) -> float:
    """What two computed sweeps over values of this size may differ by: S products, a discount and a sum, twice."""
    size = max(float(np.max(np.abs(v))) for v in values)
    return 4 * (model.S + 4) * UNIT * (float(np.max(np.abs(model.r_at()))) + size)


def policies(model: TabularMDP) -> list[Int[np.ndarray, " S"]]:
    """All deterministic stationary policies."""
    return [np.array(x) for x in product(range(model.A), repeat=model.S)]


def best_staged_return(model: TabularMDP, start: int) -> float:
    """Best expected return from a state over *all* deterministic Markov policies, each followed forward in time."""
    H, S, A = int(model.horizon or 0), model.S, model.A
    best = -np.inf
    for choice in product(range(A), repeat=H * S):
        actions, law, total = np.reshape(choice, (H, S)), np.eye(S)[start], 0.0
        for h in range(H):
            total += model.gamma**h * sum(law[s] * model.r_at(h)[s, actions[h, s]] for s in range(S))
            law = np.sum([law[s] * np.asarray(model.P_at(h))[s, actions[h, s]] for s in range(S)], axis=0)
        best = max(best, float(total))
    return best
