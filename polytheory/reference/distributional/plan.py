"""One call from a model and an objective to the policy, the exact law of its return, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory.access import KnownModel
from polytheory.errors import DiscountError, SettingError
from polytheory.models.laws import Law
from polytheory.models.objectives import Objective, admit, objective, rational
from polytheory.models.return_law import return_law
from polytheory.models.stock import StockProblem, fractions, stock_problem
from polytheory.models.stock_product import initial_stock
from polytheory.models.tabular import TabularMDP
from polytheory.reference.distributional.exact import Solution, first_best, reach, value_iteration
from polytheory.reference.distributional.representations import next_stock
from polytheory.reference.distributional.value_iteration import DistributionalValueIteration
from polytheory.run import run


@dataclass(frozen=True, eq=False)
class Plan:
    """What was found.

    Fields: ``policy``; ``law`` of its return from the start, by following its outcomes; ``value`` the objective of that law;
    ``claimed`` the value that the solver holds for its stock (for a saddle point the upper bound, which a mixture of policies
    may be needed to reach); ``stock`` it starts with; ``bound`` on the error of ``claimed`` at that stock, 0 for Fractions;
    ``objective``.
    """

    policy: Any
    law: Law
    value: Any
    claimed: Any
    stock: Any
    bound: float
    objective: Objective

    __repr__ = compact


def plan(
    model: TabularMDP | StockProblem,
    objective: Objective | str,
    *,
    exact: bool = False,
    rewards: Any = None,
    stocks: Any = None,
    clock: bool = False,
    insist: bool = False,
    **grid: Any,
) -> Plan:
    """The policy with the best return law.

    Setting: a known finite MDP; the policy may remember everything, which comes down to a stock.
    Guarantee: as in `DistributionalValueIteration`; with ``exact=True`` and a horizon the optimum over all history-dependent
    policies in rational arithmetic, without error.

    Args:
        objective: of `polytheory.models.objectives`, or its text.
        exact: all atoms and stocks as Fractions (small models with a horizon).
        rewards: vector rewards of transitions [S, A, S, m] in place of the model's own; a grid then keeps utilities.
        stocks: with ``exact=True``, initial stocks to choose from; default minus every return that some policy can see.
            Else the number of nodes.
        clock, insist: as in `DistributionalValueIteration`. grid: its other fields, ``representation=``, ``atoms=``, ...

    Raises `SettingError`, `UnknownNameError`, `ObjectiveError`; `DiscountError` for ``exact=True`` without a horizon.
    """
    if exact or isinstance(model, StockProblem):
        if grid:
            raise SettingError(f"exact=True has no grid; {sorted(grid)[0]} does not apply")
        problem = model if isinstance(model, StockProblem) else stock_problem(model, exact=True, rewards=rewards)
        return _exact(problem, objective, stocks, clock, insist)
    if rewards is not None:
        grid = {"representation": "utility", **grid}
    made = DistributionalValueIteration(objective, stocks=stocks, rewards=rewards, clock=clock, insist=insist, **grid)
    found = run(made, KnownModel(model), progress=False)
    policy, goal, state = found.policy, as_objective(objective), found.state
    law = return_law(stock_problem(model, rewards=rewards), policy)
    return Plan(
        policy, law, float(goal.of_return(law.atoms, law.probs)), state.value, policy.initial, state.bound, goal
    )


as_objective = objective  # `plan` has an argument of that name


def _exact(problem: StockProblem, given: Objective | str, stocks: Any, clock: bool, insist: bool) -> Plan:
    goal = rational(as_objective(given))
    if problem.horizon is None:
        raise DiscountError("exact=True needs a horizon; make the model with horizon=H, or take a grid (exact=False)")
    admit(goal, gamma=float(problem.gamma), horizon=problem.horizon, clock=clock, insist=insist)
    solution = value_iteration(problem, goal, clock=clock)
    initial_stock(problem, goal)
    if goal.outer is None:
        candidates = [goal.stock]
    else:
        candidates = sorted(fractions(np.asarray(stocks)).ravel()) if stocks is not None else starts(problem)
    begin = np.flatnonzero(problem.mu != 0)
    worth = [sum((problem.mu[s] * solution.value(int(s), c) for s in begin), start=0) for c in candidates]
    totals = [goal.total(x, c) for x, c in zip(worth, candidates, strict=True)]
    if goal.outer == "min":  # every policy ties at the saddle point: take the best law of all initial stocks
        laws = [solution.start_law(c) for c in candidates]
        best = first_best([goal.of_return(x.atoms, x.probs) for x in laws])
    else:
        best = first_best(totals)
    claimed = min(totals) if goal.outer == "min" else totals[best]
    law = solution.start_law(candidates[best])
    value = goal.of_return(law.atoms, law.probs)
    return Plan(ExactPolicy(solution, candidates[best]), law, value, claimed, candidates[best], 0.0, goal)


def starts(problem: StockProblem) -> list[Any]:
    """Minus every return that some policy can see: an optimal initial stock of a certainty equivalent with a kink is there."""
    H = int(problem.horizon or 0)
    zero = problem.gamma * 0
    origin = [(0, int(s), zero) for s in np.flatnonzero(problem.mu != 0)]
    ends: set[Any] = set()
    for h, s, c in reach(problem, origin, H):
        i = problem.stage(h)
        for a, k in zip(*np.nonzero(problem.prob[i, s] != 0), strict=True):
            after, then = next_stock(c, problem.reward[i, s, a, k], problem.gamma), problem.next_state[i, s, a, k]
            if h == H - 1 or problem.terminal[then]:
                ends.add(-(problem.gamma ** (h + 1)) * after)
    return sorted(ends) or [zero]


@dataclass(frozen=True, eq=False)
class ExactPolicy:
    """The policy of an exact solution; its memory is an array of Fractions."""

    solution: Solution
    initial: Any

    def start(self, n: int) -> np.ndarray:
        """The initial stock."""
        return as_objects([self.initial] * n)

    def probs(self, m: np.ndarray, h: int, s: np.ndarray) -> np.ndarray:
        """Probability 1 on the action of (h, s, stock)."""
        chosen = [self.solution.action(h, int(x), c) for x, c in zip(s, m, strict=True)]
        return np.eye(self.solution.problem.A)[chosen]

    def update(self, m: np.ndarray, h: int, s: Any, a: Any, r: np.ndarray, s2: Any) -> np.ndarray:
        """The stock moves with the reward."""
        moved = fractions(r) if self.solution.problem.is_exact else r
        return as_objects([next_stock(c, x, self.solution.problem.gamma) for c, x in zip(m, moved, strict=True)])


def as_objects(stocks: list[Any]) -> np.ndarray:
    """An array of objects [n], also of stocks that are arrays themselves."""
    out = np.empty(len(stocks), dtype=object)
    for i, stock in enumerate(stocks):
        out[i] = stock
    return out
