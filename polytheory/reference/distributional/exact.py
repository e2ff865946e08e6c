"""Distributional dynamic programming on the stocks that are reached, with all atoms kept: no grid and no projection.

Setting: a `StockProblem` with a finite horizon, or the first ``depth`` steps of a discounted one; Fractions stay Fractions.

Update: ``eta_h(s, c) = law of R + gamma G'``, ``G' ~ eta_{h+1}(S', (c + R) / gamma)``, for the action whose law of ``c + G`` is
judged best; ``eta_H = delta_0``.

Guarantee: for objectives that are indifferent to mixtures and to gamma, the best over all policies that may remember
everything and randomise [pires2025]. Atoms and stocks can grow exponentially with the horizon.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory.errors import DiscountError, SettingError
from polytheory.models.laws import Law, delta, mix, push
from polytheory.models.objectives import Objective
from polytheory.models.stock import StockProblem
from polytheory.reference.distributional.representations import next_stock

LIMIT = 200_000  # (stage, state, stock) triples that are solved
DIGITS = 12  # of the stocks that tell float stocks apart

Choice = Callable[[int, int, Any], int]
"""``(h, s, stock) -> action``."""


@dataclass(eq=False)
class Solution:
    """Laws of the return to go and actions on the stocks that were asked for.

    Fields: ``objective`` that is optimised, or ``choice`` that is evaluated; ``depth`` stages; ``clock`` as in
    `value_iteration`; ``laws`` and ``actions`` by ``(h, s, stock)``, stocks rounded to 12 digits where they are floats.
    """

    problem: StockProblem
    depth: int
    objective: Objective | None = None
    choice: Choice | None = None
    clock: bool = False
    laws: dict[Any, Law] = field(default_factory=dict)
    actions: dict[Any, int] = field(default_factory=dict)

    def law(self, s: int, stock: Any, h: int = 0) -> Law:
        """The law of the return from stage h, state s and a stock."""
        return _solve(self, h, s, stock)

    def action(self, h: int, s: int, stock: Any) -> int:
        """The action there; past ``depth`` (discounted problems) that of stage 0."""
        h = h if h < self.depth else 0
        _solve(self, h, s, stock)
        return self.actions.get((h, s, key_of(stock)), 0)

    def value(self, s: int, stock: Any, h: int = 0) -> Any:
        """K of stock + return there."""
        if self.objective is None:
            raise SettingError("an evaluation has no objective; judge its law with an objective's value")
        return judge(self.objective, self.law(s, stock, h), stock, self._scale(h))

    def start_law(self, stock: Any) -> Law:
        """The law of the return from the start distribution."""
        starts = np.flatnonzero(self.problem.mu != 0)
        return mix(self.problem.mu[starts].tolist(), [self.law(int(s), stock) for s in starts])

    def _scale(self, h: int) -> Any:
        return self.problem.gamma**h if self.clock else 1


def value_iteration(
    problem: StockProblem, objective: Objective, *, depth: int | None = None, clock: bool = False
) -> Solution:
    """Solve on demand: `Solution.law` and `Solution.action` follow the recursion where they are asked.

    Args:
        depth: stages; default the horizon. Without a horizon it is the number of sweeps from ``eta_0 = delta_0``.
        clock: judge ``gamma^h (c + G)`` at stage h.

    Raises `DiscountError` without horizon and depth; `SettingError` when more than 200 000 points are reached.
    """
    return Solution(problem, _depth(problem, depth), objective, clock=clock)


def evaluation(problem: StockProblem, choice: Choice, *, depth: int | None = None) -> Solution:
    """The laws of a deterministic policy ``choice(h, s, stock)``."""
    return Solution(problem, _depth(problem, depth), choice=choice)


def policy_iteration(
    problem: StockProblem,
    objective: Objective,
    first: Choice,
    stock: Any,
    *,
    depth: int | None = None,
    limit: int = 1000,
) -> list[Solution]:
    """Evaluate a policy, act greedily one step ahead of its laws, and so on until no reachable point gains from it.

    Returns the evaluations, first to last: their values never fall [pires2025], and with horizon H the last one is optimal
    after at most H improvements.

    Raises `SettingError` after ``limit`` improvements.
    """
    starts = [(0, int(s), stock) for s in np.flatnonzero(problem.mu != 0)]
    points = reach(problem, starts, _depth(problem, depth))
    seen = [evaluation(problem, first, depth=depth)]
    for _ in range(limit):
        base = seen[-1]
        improved = _Improved(base, objective)
        gains = False
        for h, s, c in points:
            now, best = judge(objective, base.law(s, c, h), c), improved(h, s, c)
            gains |= _more(judge(objective, action_law(base, h, s, c, best), c), now)
        if not gains:
            return seen
        seen.append(evaluation(problem, improved, depth=depth))
    raise SettingError(f"no policy stood still after {limit} improvements; take a larger limit")


def reach(problem: StockProblem, starts: list[tuple[int, int, Any]], depth: int) -> list[tuple[int, int, Any]]:
    """Every ``(h, s, stock)`` with ``h < depth`` that some policy reaches and where the episode still runs.

    Raises `SettingError` for more than 200 000 points.
    """
    found, fresh = {}, list(starts)
    while fresh:
        h, s, c = fresh.pop()
        key = (h, s, key_of(c))
        if key in found or h >= depth or problem.terminal[s]:
            continue
        found[key] = (h, s, c)
        if len(found) > LIMIT:
            raise SettingError(f"more than {LIMIT} stocks are reached; solve {problem.name} on a grid (exact=False)")
        i = problem.stage(h)
        for a, k in zip(*np.nonzero(problem.prob[i, s] != 0), strict=True):
            after = next_stock(c, problem.reward[i, s, a, k], problem.gamma)
            fresh.append((h + 1, int(problem.next_state[i, s, a, k]), after))
    return list(found.values())


class _Improved:
    """The policy that is greedy for the laws of an evaluation."""

    def __init__(self, base: Solution, objective: Objective):
        self.base, self.objective, self.known = base, objective, {}

    def __call__(self, h: int, s: int, stock: Any) -> int:
        key = (h, s, key_of(stock))
        if key not in self.known:
            laws = action_laws(self.base, h, s, stock)
            self.known[key] = first_best([judge(self.objective, x, stock) for x in laws])
        return self.known[key]


def _depth(problem: StockProblem, depth: int | None) -> int:
    if depth is None and problem.horizon is None:
        raise DiscountError("exact laws need a horizon, or depth=N sweeps of a discounted problem")
    return int(problem.horizon or 0) if depth is None else depth


def key_of(stock: Any) -> Any:
    """What tells stocks apart."""
    if isinstance(stock, np.ndarray):
        return tuple(key_of(x) for x in stock.tolist())
    return round(stock, DIGITS) + 0.0 if isinstance(stock, float) else stock


def _solve(made: Solution, h: int, s: int, stock: Any) -> Law:
    key = (h, s, key_of(stock))
    if key in made.laws:
        return made.laws[key]
    problem = made.problem
    nothing = np.zeros(problem.reward.shape[4:], dtype=int) if problem.reward.ndim == 5 else 0
    if h >= made.depth or problem.terminal[s]:
        return delta(nothing)
    if len(made.laws) >= LIMIT:
        raise SettingError(f"more than {LIMIT} stocks are reached; solve {problem.name} on a grid (exact=False)")
    if made.objective is None:
        action = made.choice(h, s, stock) if made.choice is not None else 0
        found = action_law(made, h, s, stock, action)
    else:
        laws = action_laws(made, h, s, stock)
        found, action = greedy_law(laws, [judge(made.objective, x, stock, made._scale(h)) for x in laws])
    made.laws[key], made.actions[key] = found, action
    return found


def action_law(made: Solution, h: int, s: int, stock: Any, a: int) -> Law:
    """``(T_a eta)(s, c)``: the law of ``R + gamma G'`` after one action."""
    problem, i = made.problem, made.problem.stage(h)
    ahead = [k for k in range(problem.prob.shape[-1]) if problem.prob[i, s, a, k] != 0]
    laws = []
    for k in ahead:
        r = problem.reward[i, s, a, k]
        after = _solve(made, h + 1, int(problem.next_state[i, s, a, k]), next_stock(stock, r, problem.gamma))
        laws.append(push(after, r, problem.gamma))
    return mix([problem.prob[i, s, a, k] for k in ahead], laws)


def action_laws(made: Solution, h: int, s: int, stock: Any) -> list[Law]:
    """The law of every action."""
    return [action_law(made, h, s, stock, a) for a in range(made.problem.A)]


def judge(objective: Objective, of: Law, stock: Any, scale: Any = 1) -> Any:
    """``K(law of scale (c + G))``."""
    return objective.value(scale * (stock + of.atoms), of.probs)


def greedy_law(laws: list[Law], values: list[Any]) -> tuple[Law, int]:
    """The law of the best action, the first of equals; never an average of equals, which is no policy's law."""
    best = first_best(values)
    return laws[best], best


def first_best(values: list[Any]) -> int:
    """The first action that no other beats by more than rounding."""
    best = 0
    for a, x in enumerate(values):
        if _more(x, values[best]):
            best = a
    return best


def _more(x: Any, y: Any) -> bool:
    return bool(x > y + 1e-12 * (1 + abs(y)) if isinstance(x, float) else x > y)
