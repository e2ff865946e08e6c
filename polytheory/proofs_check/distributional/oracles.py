"""Oracles of the claims: every policy that remembers everything, by enumeration in Fractions; nothing of the method is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from fractions import Fraction
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from polytheory.errors import SettingError
from polytheory.models.tabular import TabularMDP

Dist = tuple[tuple[Fraction, Fraction], ...]
"""A law: pairs (atom, probability) in increasing order of atoms."""
LIMIT = 200_000  # laws that an enumeration may hold


def outcomes(model: TabularMDP) -> Callable[[int, int], list[tuple[Fraction, Fraction, int]]]:
    """``(s, a) -> [(probability, reward, next state)]`` of a stationary model with dense P and rewards by transition."""
    P, r = np.asarray(model.P_at()), np.broadcast_to(np.asarray(model.r), (model.S, model.A, model.S))

    def of(s: int, a: int) -> list[tuple[Fraction, Fraction, int]]:
        return [(Fraction(P[s, a, t]), Fraction(r[s, a, t]), t) for t in range(model.S) if P[s, a, t] > 0]

    return of


def merged(pairs: Iterable[tuple[Fraction, Fraction]]) -> Dist:
    """Pairs (atom, probability) as a law."""
    total: dict[Fraction, Fraction] = {}
    for x, p in pairs:
        total[x] = total.get(x, Fraction(0)) + p
    return tuple(sorted((x, p) for x, p in total.items() if p))


def history_laws(model: TabularMDP, s: int) -> set[Dist]:
    """The laws of the return from s of all deterministic policies that may look at everything that happened.

    A policy is a tree: an action, and after every outcome another tree. Raises `SettingError` for more than 200 000 laws.
    """
    of, gamma = outcomes(model), Fraction(model.gamma)

    @cache
    def laws(s: int, left: int) -> frozenset[Dist]:
        if left == 0:
            return frozenset({((Fraction(0), Fraction(1)),)})
        found: set[Dist] = set()
        for a in range(model.A):
            found |= _combined(of(s, a), [laws(t, left - 1) for _, _, t in of(s, a)], gamma)
            if len(found) > LIMIT:
                raise SettingError(f"more than {LIMIT} laws; take a smaller model")
        return frozenset(found)

    return set(laws(s, int(model.horizon or 0)))


def _combined(outs: list[tuple[Fraction, Fraction, int]], after: list[Any], gamma: Fraction) -> set[Dist]:
    return {
        merged((r + gamma * x, p * q) for (p, r, _), law in zip(outs, choice, strict=True) for x, q in law)
        for choice in product(*after)
    }


def markov_laws(model: TabularMDP, s: int) -> set[Dist]:
    """The laws from s of all deterministic policies of (stage, state)."""
    H, of, gamma = int(model.horizon or 0), outcomes(model), Fraction(model.gamma)
    found = set()
    for table in product(range(model.A), repeat=H * model.S):
        laws: list[Dist] = [((Fraction(0), Fraction(1)),)] * model.S
        for h in reversed(range(H)):
            laws = [
                merged((r + gamma * x, p * q) for p, r, t in of(y, table[h * model.S + y]) for x, q in laws[t])
                for y in range(model.S)
            ]
        found.add(laws[s])
    return found


def expected(law: Dist, f: Callable[[Fraction], Any], stock: Fraction = Fraction(0)) -> Any:
    """``E f(stock + G)``."""
    return sum((p * f(stock + x) for x, p in law), start=Fraction(0))


def lower_tail(law: Dist, tau: Fraction) -> Fraction:
    """CVaR by its definition: the lowest atoms until their mass is tau."""
    left, total = tau, Fraction(0)
    for x, p in law:
        total += min(p, left) * x
        left -= min(p, left)
    return total / tau


def quantile(law: Dist, level: Fraction) -> Fraction:
    """Smallest atom with at least ``level`` of the mass at or below it."""
    upto = Fraction(0)
    for x, p in law:
        upto += p
        if upto >= level:
            return x
    raise SettingError(f"quantile level {level} beyond the mass of the law")


def mean_variance(law: Dist, weight: Fraction) -> Fraction:
    """``E G - weight Var G`` by the definition of the variance."""
    mean = expected(law, lambda x: x)
    return mean - weight * expected(law, lambda x: (x - mean) ** 2)


def scalar_values(model: TabularMDP, f: Callable[[float], float], sweeps: int) -> Callable[[int, float], float]:
    """``U(s, c)`` of the discounted problem for ``f(gamma x) = gamma f(x)``, by the recursion on numbers, without any law:
    ``U_{n+1}(s, c) = max_a E gamma U_n(s', (c + r) / gamma)`` from ``U_0 = f``."""
    of, gamma = outcomes(model), model.gamma
    table = {(s, a): [(float(p), float(r), t) for p, r, t in of(s, a)] for s in range(model.S) for a in range(model.A)}

    @cache
    def u(n: int, s: int, c: float) -> float:
        if n == 0:
            return f(c)
        return max(sum(p * gamma * u(n - 1, t, (c + r) / gamma) for p, r, t in table[s, a]) for a in range(model.A))

    return lambda s, c: u(sweeps, s, c)


def as_arrays(law: Dist) -> tuple[np.ndarray, np.ndarray]:
    """Atoms and probabilities as floats."""
    x, p = zip(*law, strict=True)
    return np.array(x, dtype=float), np.array(p, dtype=float)
