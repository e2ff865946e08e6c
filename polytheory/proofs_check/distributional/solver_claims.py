"""Claims about the solvers on grids: the certified bound of value iteration, the improvements of policy iteration."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory.access import KnownModel
from polytheory.models.objectives import PiecewiseLinear, Target
from polytheory.models.risk_problems import wager
from polytheory.models.stock import stock_problem
from polytheory.proofs_check.claims import Level, Margin, Wrap, claim
from polytheory.proofs_check.distributional import oracles
from polytheory.proofs_check.distributional.history_claims import best_at
from polytheory.proofs_check.distributional.instances import (
    MEAN_JUDGED,
    NO_STOCK,
    TIES_AVERAGED,
    UNDISCOUNTED,
    UNDISCOUNTED_STOCK,
    exact_grid,
)

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

VI, PI = "DistributionalValueIteration", "DistributionalPolicyIteration"
ROUNDING = 1e-11  # some hundred float64 operations on numbers up to about 100


@cache
def _optimum(depth: int) -> Any:
    """``U(s, c)`` of the wager at gamma = 1/2 for ``min(x, 0)``, by the recursion on numbers."""
    return oracles.scalar_values(wager(gamma=0.5, horizon=None), lambda x: min(x, 0.0), depth)


@claim(
    method="distributional-dp",
    source="pires2025, bound of distributional value iteration, with the grids' errors added",
    level=Level.PROPERTY,
    statement="at every sweep of a discounted problem the optimal value of every state and stock is within the certified "
    "bound, and the part that sweeps remove falls as gamma^n",
    worked=lambda: [("categorical", 81, 81), ("quantile", 20, 41)],
    breaks=[
        NO_STOCK,
        UNDISCOUNTED_STOCK,
        *UNDISCOUNTED,
        Wrap("worst_actions", part="best_actions", by=lambda f: lambda values: f(-values)),
    ],
)
def bound_holds_at_every_sweep(instance: tuple[str, int, int], room: Room) -> Margin:
    kind, atoms, stocks = instance
    model, depth = wager(gamma=0.5, horizon=None), 7
    u = _optimum(depth)
    settings = {"objective": PiecewiseLinear(0, 1), "representation": kind, "atoms": atoms, "stocks": stocks}
    margins = []
    for steps in (1, 3, 12):
        state = room.run(VI, KnownModel(model), steps=steps, **settings).state
        nodes = range(0, stocks, stocks // 5)
        wanted = np.array([[u(s, float(state["stocks"][0, c])) for c in nodes] for s in range(2)])
        off = np.abs(state["v"][0, 0][:, list(nodes)] - wanted).max()
        margins.append(Margin.at_most(off, state["bound"][0] + 8 * 0.5**depth, ROUNDING))
        # returns lie in [0, 8]; the upper end is known up to a share of 1e-8
        margins.append(Margin.equal(state["contraction"][0], 8 * 0.5**steps, 1e-7))
    return Margin.worst(margins)


@claim(
    method="distributional-dp",
    source="pires2025, distributional policy iteration",
    level=Level.PROPERTY,
    statement="policy iteration never loses at any state or stock, and with horizon 3 it is optimal after 3 improvements",
    worked=lambda: [(PiecewiseLinear(0, 1), 1.0), (Target(), 1.0), (Target(), 0.5), (PiecewiseLinear(0.5, 2), 0.5)],
    breaks=[
        MEAN_JUDGED,
        Wrap("worst_actions", part="best_actions", by=lambda f: lambda values: f(-values)),
        TIES_AVERAGED,
    ],
)
def policy_iteration_improves(instance: tuple[Any, float], room: Room) -> Margin:
    judge, gamma = instance
    model = wager(gamma=gamma)
    low, high = stock_problem(model).returns
    values = []
    for steps in (1, 2, 3, 4):
        state = room.run(PI, KnownModel(model), steps=steps, objective=judge, **exact_grid(model)).state
        inside = np.flatnonzero((state["stocks"][0] >= -high - 1e-9) & (state["stocks"][0] <= -low + 1e-9))
        values.append(state["v"][0, 0][:, inside])
    utility = {"target": lambda x: -abs(x)}.get(str(judge.text), lambda x: float(judge.utility(x)))
    wanted = np.array([best_at(model, utility, s, state["stocks"][0][inside]) for s in range(2)])
    rising = [Margin.at_most(a, b, ROUNDING) for a, b in pairwise(values)]
    return Margin.worst([*rising, Margin.equal(values[-1], wanted, ROUNDING)])
