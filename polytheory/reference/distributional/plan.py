"""One call from a model and an objective to the policy, the exact law of its return, and what that is worth."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory.access import KnownModel
from polytheory.errors import DiscountError, SettingError
from polytheory.models.laws import Law, mix
from polytheory.models.objectives import Objective, admit, objective, rational
from polytheory.models.return_law import return_law
from polytheory.models.stock import StockProblem, fractions, stock_problem
from polytheory.models.stock_product import initial_stock
from polytheory.models.tabular import TabularMDP
from polytheory.reference.distributional.exact import Solution, first_best, reach, value_iteration
from polytheory.reference.distributional.mixture import MixturePolicy, saddle_point
from polytheory.reference.distributional.representations import nearest, next_stock
from polytheory.reference.distributional.value_iteration import DistributionalValueIteration
from polytheory.run import run


@dataclass(frozen=True, eq=False)
class Plan:
    """What was found.

    Fields: ``policy``, for a saddle point where one alone falls short a `MixturePolicy` of two; ``law`` of its return from the
    start, by following its outcomes; ``value`` the objective of that law; ``claimed`` the value that the solver holds for its
    stock (a saddle point on a grid: an upper bound up to ``bound``); ``stock`` it starts with (a saddle point: where it
    lies, the policies start with their own); ``bound`` on the error of ``claimed``, 0 for Fractions; ``objective``.
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
    resolution: float | None = None,
    **grid: Any,
) -> Plan:
    """The policy with the best return law.

    Setting: a known finite MDP; the policy may remember everything, which comes down to a stock.
    Guarantee: as in `DistributionalValueIteration`; with ``exact=True`` and a horizon the optimum over all history-dependent
    policies in rational arithmetic, without error.

    Args:
        objective: of `polytheory.models.objectives`, or its text.
        exact: all atoms and stocks as Fractions (small models with a horizon).
        rewards: vector rewards of transitions [S, A, S, m] in place of the model's own; a grid then keeps utilities. None
            takes those of a `VectorMDP` for an objective of several quantities.
        stocks: with ``exact=True``, initial stocks to choose from (a saddle point begins at the first and takes any); default
            minus every return that some policy can see. Else the number of nodes.
        resolution: of the reported law, as in `return_law`: what a grid's policy collects is followed to this, coarser where
            discounted vectors have too many outcomes.
        clock, insist: as in `DistributionalValueIteration`. grid: its other fields, ``representation=``, ``atoms=``, ...

    Raises `SettingError`, `UnknownNameError`, `ObjectiveError`; `DiscountError` for ``exact=True`` without a horizon.
    """
    if rewards is None and np.ndim(as_objective(objective).stock):
        rewards = getattr(model, "rewards", None)
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
    problem = stock_problem(model, rewards=rewards)
    if goal.outer == "min":

        def respond(stock: Any) -> tuple[Any, Law]:
            node = state.stocks[nearest(np.asarray(float(stock)), state.stocks)]
            answer = replace(policy, initial=float(node))
            return answer, return_law(problem, answer, resolution=resolution)

        return _mixed(goal, respond, policy.initial, state.value, state.bound)
    law = return_law(problem, policy, resolution=resolution)
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
    if goal.outer == "min":
        return _mixed(goal, lambda c: (ExactPolicy(solution, c), solution.start_law(c)), candidates[0], None, 0.0)
    begin = np.flatnonzero(problem.mu != 0)
    worth = [sum((problem.mu[s] * solution.value(int(s), c) for s in begin), start=0) for c in candidates]
    totals = [goal.total(x, c) for x, c in zip(worth, candidates, strict=True)]
    best = first_best(totals)
    law = solution.start_law(candidates[best])
    value = goal.of_return(law.atoms, law.probs)
    return Plan(ExactPolicy(solution, candidates[best]), law, value, totals[best], candidates[best], 0.0, goal)


def _mixed(goal: Objective, respond: Any, stock: Any, claimed: Any, bound: float) -> Plan:
    """The plan of a saddle point; ``claimed`` None takes its own value."""
    found = saddle_point(goal, respond, stock)
    policies = tuple(found.answers[i] for i in found.weights)
    weights = tuple(float(w) if isinstance(w, float) else w for w in found.weights.values())
    law = mix(weights, [respond(p.initial)[1] for p in policies])
    policy = policies[0] if len(policies) == 1 else MixturePolicy(policies, weights)
    value = goal.of_return(law.atoms, law.probs)
    return Plan(policy, law, value, found.value if claimed is None else claimed, found.stock, bound, goal)


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
