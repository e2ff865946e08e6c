"""Distributional value iteration on a grid of stocks."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.models.objectives import CVaR, Objective, admit, objective
from polytheory.models.stock import StockProblem, stock_problem
from polytheory.models.stock_grid import Layout, carried, check_grid, layout
from polytheory.reference.distributional.policy import StockPolicy
from polytheory.reference.distributional.representations import best_actions
from polytheory.reference.distributional.sweeps import (
    StockState,
    finished,
    info,
    look_ahead,
    policy_of,
    settle,
    start,
    start_value,
)


@dataclass(frozen=True)
class DistributionalValueIteration:
    """Sweep the laws of the return over states and stocks, greedily for an objective [pires2025].

    Setting: a known finite MDP with a horizon, or discounted; scalar rewards.
    Update: ``eta(s, c) <- law of R + gamma G'``, ``G' ~ eta(S', (c + R) / gamma)``, for the action with the best
    ``K(law of c + G)``.
    Guarantee: for objectives indifferent to mixtures and to gamma, Lipschitz with constant L: the values are within ``bound``
    of the best over all history-dependent policies; without grid errors that is ``L gamma^n max |G|`` after n sweeps, and 0
    at the end of a finite horizon. Where returns lie on a lattice (gamma = 1) the default grid has no error.

    Fields:
        objective: of `polytheory.models.objectives`, or its text such as ``"cvar:0.25"``.
        representation: "categorical" (keeps means) or "quantile" (nearest in Wasserstein distance).
        atoms, stocks: sizes of the grids; None: the lattice of the returns, or 101 (32 quantiles).
        stock_range: ends of the stocks; None: minus the possible returns.
        clock: judge ``gamma^h (c + G)`` at stage h, which makes every expected utility right for a finite horizon.
        insist: run an objective that lacks a condition, as a heuristic.
        tol: of a discounted problem: how much more sweeps could still change a value, > 0.

    Raises `SettingError`, `UnknownNameError`; `ObjectiveError` when a problem is met on which the objective lacks a condition.
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
        return start(problem, judge, grid, self.clock)

    def step(self, state: StockState, access: Any) -> tuple[StockState, Info]:
        """Sweep the stage before the one swept last, or the only one; nothing is left to do after stage 0."""
        if state.has_horizon and state.stage == 0:
            return state, info(state)
        problem, judge, grid = setup(self, access)
        h = max(state.stage - 1, 0)
        eta, v, actions = state.eta.copy(), state.v.copy(), state.actions.copy()
        ahead = look_ahead(problem, judge, grid, eta[h + state.has_horizon], h, self.clock)
        actions[h] = best_actions(ahead[2])
        eta[h], v[h] = settle(problem, grid, ahead, actions[h])
        access.meter.add("backups", v[h].size * problem.A)
        size = float(np.max(np.abs(v[h])))
        initial, value = start_value(problem, judge, grid, eta[0], v[0])
        after = replace(
            state, eta=eta, v=v, actions=actions, sweeps=state.sweeps + 1, stage=h,
            bound=carried(problem, judge, grid, state.bound, h, size, self.clock),
            contraction=float(problem.gamma) * state.contraction,
            initial=initial, value=value,
        )  # fmt: skip
        return after, info(after)

    def policy(self, state: StockState) -> StockPolicy:
        """The greedy policy, which remembers its stock, from the best initial stock."""
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
