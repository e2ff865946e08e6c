"""Distributional value iteration on a grid of stocks, in torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.models.objectives import CVaR, Objective, admit, objective
from polytheory.models.stock import StockProblem, stock_problem
from polytheory.models.stock_grid import Layout, carried, check_grid, layout
from polytheory.scaled.distributional.policy import StockPolicy
from polytheory.scaled.distributional.representations import best_actions
from polytheory.scaled.distributional.sweeps import (
    StockState,
    finished,
    info,
    look_ahead,
    policy_of,
    replicated,
    settle,
    start,
    start_value,
)


@dataclass(frozen=True)
class DistributionalValueIteration:
    """Sweep the laws of the return over states and stocks, greedily for an objective; see the reference for the theorem.

    All states, stocks, actions and outcomes are one batch. Fields as in the reference.
    """

    objective: Objective | str = CVaR(0.25)  # noqa: RUF009 - objectives are frozen
    representation: str = "categorical"
    atoms: int | None = None
    stocks: int | None = None
    stock_range: tuple[float, float] | None = None
    clock: bool = False
    insist: bool = False
    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_grid(self)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> StockState:
        """Returns of 0 everywhere."""
        problem, judge, grid = setup(self, access)
        return start(problem, judge, grid, access, self.clock)

    def step(self, state: StockState, access: Any) -> tuple[StockState, Info]:
        """Sweep the stage before the one swept last, or the only one; nothing is left to do after stage 0."""
        if state.has_horizon and state.stage == 0:
            return state, info(state)
        problem, judge, grid = setup(self, access)
        h = max(state.stage - 1, 0)
        eta, v, actions = state.eta[0].clone(), state.v[0].clone(), state.actions[0].clone()
        ahead = look_ahead(problem, judge, grid, eta[h + state.has_horizon], h, self.clock)
        actions[h] = best_actions(ahead[2])
        eta[h], v[h] = settle(problem, grid, ahead, actions[h])
        access.meter.add("backups", v[h].numel() * problem.A)
        bound = carried(problem, judge, grid, float(state.bound[0]), h, float(v[h].abs().max()), self.clock)
        put = lambda x: replicated(access.replicas, x, access.device)  # noqa: E731
        initial, value = start_value(problem, judge, grid, eta[0], v[0])
        after = replace(
            state, eta=put(eta), v=put(v), actions=put(actions), sweeps=state.sweeps + 1, stage=h, bound=put(bound),
            contraction=put(float(problem.gamma) * float(state.contraction[0])),
            initial=put(initial), value=put(value),
        )  # fmt: skip
        return after, info(after)

    def policy(self, state: StockState) -> StockPolicy:
        """The greedy policies, which remember their stock, from the best initial stock."""
        return policy_of(state)

    def done(self, state: StockState) -> bool:
        """True when all stages are swept, or more sweeps would change no value by more than ``tol``."""
        return finished(state, self.tol)


def setup(made: Any, access: Any) -> tuple[StockProblem, Objective, Layout]:
    """The outcomes, the admitted objective and the grids of an algorithm on an access."""
    problem, judge = stock_problem(access.model), objective(made.objective)
    admit(judge, gamma=problem.gamma, horizon=problem.horizon, clock=made.clock, insist=made.insist)
    grid = layout(
        problem, judge, representation=made.representation, atoms=made.atoms, stocks=made.stocks,
        stock_range=made.stock_range,
    )  # fmt: skip
    return problem, judge, grid
