"""Exact rational arithmetic for tiny models: optimal values and occupancies without any rounding."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float, Int
from polytheory.errors import SettingError
from polytheory.models.tabular import TabularMDP

LARGEST = 24  # states: elimination costs S^3 operations on numbers whose digits grow with S


@dataclass(frozen=True, eq=False)
class ExactSolution:
    """Optimum of the numbers as stored (doubles are rationals).

    Fields: ``v`` optimal value of each state; ``actions`` [S] an optimal policy; ``occupancy`` of that policy by state,
    started from the weights; ``slack`` [s][a] ``v(s) - q(s, a) >= 0``, which proves the optimality; ``pivots`` policies
    tried.
    """

    v: list[Fraction]
    actions: Int[np.ndarray, " S"]
    occupancy: list[Fraction]
    slack: list[list[Fraction]]
    pivots: int


def exact_optimum(
    model: TabularMDP, weights: Float[np.ndarray, " S"], first: Int[np.ndarray, " S"] | None = None
) -> ExactSolution:
    """Policy iteration over the rationals, from the policy ``first`` (default: action 0).

    Ends because a policy changes only where it strictly gains [puterman2005, Thm. 6.4.2].

    Raises `SettingError` for more than 24 states.
    """
    if model.S > LARGEST:
        raise SettingError(f"exact arithmetic is for at most {LARGEST} states; {model.name} has {model.S}")
    P, r, gamma = _rational(model)
    S, A = model.S, model.A
    actions = np.zeros(S, dtype=np.int64) if first is None else np.array(first)
    pivots = 0
    while True:
        M = [[Fraction(int(s == t)) - gamma * P[s][actions[s]][t] for t in range(S)] for s in range(S)]
        v = solve_exact(M, [r[s][actions[s]] for s in range(S)])
        pivots += 1
        q = [[r[s][a] + gamma * sum((p * x for p, x in zip(P[s][a], v, strict=True)), Fraction(0)) for a in range(A)]
             for s in range(S)]  # fmt: skip
        better = [s for s in range(S) if max(q[s]) > v[s]]
        if not better:
            break
        for s in better:
            actions[s] = q[s].index(max(q[s]))
    transposed = [[M[t][s] for t in range(S)] for s in range(S)]
    occupancy = solve_exact(transposed, [Fraction(float(w)) for w in weights])
    slack = [[v[s] - q[s][a] for a in range(A)] for s in range(S)]
    return ExactSolution(v, actions, occupancy, slack, pivots)


def _rational(model: TabularMDP) -> tuple[list[list[list[Fraction]]], list[list[Fraction]], Fraction]:
    P: Any = model.P_at()
    dense = P.toarray().reshape(model.S, model.A, model.S) if sp.issparse(P) else P
    return (
        [[[Fraction(float(p)) for p in row] for row in rows] for rows in dense],
        [[Fraction(float(x)) for x in row] for row in model.r_at()],
        Fraction(model.gamma),
    )


def solve_exact(M: list[list[Fraction]], b: list[Fraction]) -> list[Fraction]:
    """Solve the square system ``M x = b`` by Gauss-Jordan elimination over the rationals."""
    n = len(b)
    rows = [[*row, y] for row, y in zip(M, b, strict=True)]
    for k in range(n):
        pivot = next(i for i in range(k, n) if rows[i][k])
        rows[k], rows[pivot] = rows[pivot], rows[k]
        lead = rows[k][k]
        rows[k] = [x / lead for x in rows[k]]
        for i in range(n):
            if i != k and rows[i][k]:
                factor = rows[i][k]
                rows[i] = [x - factor * y for x, y in zip(rows[i], rows[k], strict=True)]
    return [row[n] for row in rows]
