"""One distributional Bellman sweep on a grid of stocks, and what it certifies."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.errors import DiscountError
from polytheory.models.objectives import Objective
from polytheory.models.stock import StockProblem
from polytheory.models.stock_grid import Layout, scale_at, shrunk
from polytheory.models.stock_product import initial_stock
from polytheory.reference.distributional.policy import StockPolicy
from polytheory.reference.distributional.representations import (
    action_values,
    backup,
    best_actions,
    categorical_projection,
    chosen,
    nearest_node,
    quantile_projection,
)
from polytheory.reference.distributional.utilities import utility_backup


@dataclass(frozen=True, eq=False)
class StockState:
    """Laws of the return to go by state and stock, H + 1 stages (1 for discounted problems).

    Fields:
        eta: [L1, S, C, N] categorical probabilities on ``support``, or quantile atoms, or the utility of the law alone (N = 1).
        v: [L1, S, C] K of stock + return, as the last sweep of the stage saw it before the projection.
        actions: [L, S, C] greedy actions.
        stocks: [C], vectors [C, m]. support: [Z], Z = N, or 0 where laws are not categorical.
        bound: certified largest error of the v that were swept, projection, snapping to nodes and rounding included; infinite
            where the objective has no Lipschitz constant and the grid is not exact.
        contraction: the part that more sweeps remove.
        sweeps: sweeps so far. stage: first stage swept, H at the start (discounted: 0).
        initial: the stock that the policy starts with, a number or [m]. value: the objective with it (a saddle point: its
            upper bound).
        gamma: discount. n_actions: A.
    """

    eta: Float[np.ndarray, "L1 S C N"]
    v: Float[np.ndarray, "L1 S C"]
    actions: Int[np.ndarray, "L S C"]
    stocks: Float[np.ndarray, "C ..."]
    support: Float[np.ndarray, " Z"]
    bound: float
    contraction: float
    sweeps: int
    stage: int
    initial: float | Float[np.ndarray, " m"]
    value: float
    gamma: float
    n_actions: int

    @property
    def has_horizon(self) -> bool:
        """True for a finite horizon."""
        return len(self.eta) > 1

    @property
    def stocks_are_numbers(self) -> bool:
        """True for scalar stocks."""
        return self.stocks.ndim == 1


def start(problem: StockProblem, judge: Objective, grid: Layout, access: Any, clock: bool = False) -> StockState:
    """All returns 0, nothing swept. Raises `DiscountError` without a horizon and a discount below 1."""
    H, S, C = problem.horizon, problem.S, len(grid.stocks)
    if H is None and not problem.gamma < 1:
        raise DiscountError(f"gamma = {problem.gamma} needs a horizon; make the model with horizon=H")
    at_end = of_stocks(judge, grid, scale_at(problem, clock, H or 0))
    kept = at_end[:, None] if grid.axes else zero_law(grid)
    eta = np.broadcast_to(kept, (1 if H is None else H + 1, S, C, grid.atoms)).copy()
    v = np.broadcast_to(at_end, (len(eta), S, C)).copy()
    off = 0.0 if H is not None else (judge.lipschitz or 1.0) * problem.farthest
    bound = off if H is not None or judge.lipschitz is not None else np.inf
    actions = np.zeros((max(len(eta) - 1, 1), S, C), dtype=np.int64)
    initial, value = start_value(problem, judge, grid, eta[0], v[0])
    ends = (float(bound), off, 0, H or 0, initial, value, float(problem.gamma), problem.A)
    return StockState(eta, v, actions, grid.stocks, grid.support, *ends)


def opened(state: StockState) -> tuple[np.ndarray, np.ndarray, np.ndarray, float, float]:
    """Copies of ``eta``, ``v`` and ``actions``, and the numbers ``bound`` and ``contraction``."""
    return state.eta.copy(), state.v.copy(), state.actions.copy(), state.bound, state.contraction


def closed(state: StockState, access: Any, **changes: Any) -> StockState:
    """The state after a step."""
    return replace(state, **changes)


def of_stocks(judge: Objective, grid: Layout, scale: float) -> Float[np.ndarray, " C"]:
    """K of stock + nothing at every node."""
    return np.asarray(judge.value(scale * grid.stocks[:, None], np.ones((len(grid.stocks), 1))), dtype=float)


def zero_law(grid: Layout) -> Float[np.ndarray, " N"]:
    """The law of a return of 0."""
    if not len(grid.support):
        return np.zeros(grid.atoms)
    return categorical_projection(np.zeros((1, 1)), np.ones((1, 1)), grid.support)[0]


def look_ahead(
    problem: StockProblem, judge: Objective, grid: Layout, after: Float[np.ndarray, "S C N"], h: int, clock: bool
) -> tuple[Float[np.ndarray, "S C A M"], Float[np.ndarray, "S C A M"], Float[np.ndarray, "S C A"]]:
    """Atoms, probabilities and K of stock + return of every action, one step before the laws ``after`` (utilities: the number
    K itself, with probability 1)."""
    i = problem.stage(h)
    if grid.axes:
        values = utility_backup(
            judge, problem.reward[i], problem.prob[i], problem.next_state[i], after[..., 0], grid.axes, problem.gamma,
            shrunk(problem, judge, clock), scale_at(problem, clock, h + 1),
        )  # fmt: skip
        at_end = of_stocks(judge, grid, scale_at(problem, clock, h))
        values = np.where(problem.terminal[:, None, None], at_end[:, None], values)
        return values[..., None], np.ones_like(values)[..., None], values
    support = grid.support if len(grid.support) else None
    atoms, probs = backup(
        problem.reward[i], problem.prob[i], problem.next_state[i], after, support, grid.stocks, problem.gamma
    )
    return atoms, probs, action_values(judge, atoms, probs, grid.stocks, scale_at(problem, clock, h))


def settle(
    problem: StockProblem,
    grid: Layout,
    ahead: tuple[np.ndarray, np.ndarray, np.ndarray],
    actions: Int[np.ndarray, "S C"],
) -> tuple[Float[np.ndarray, "S C N"], Float[np.ndarray, "S C"]]:
    """Laws, projected, and values of the given actions, from what `look_ahead` saw."""
    atoms, probs = chosen(ahead[0], actions), chosen(ahead[1], actions)
    v = np.take_along_axis(ahead[2], actions[..., None], -1)[..., 0]
    if grid.axes:
        return atoms, v
    if len(grid.support):
        eta = categorical_projection(atoms, probs, grid.support)
    else:
        eta = quantile_projection(atoms, probs, grid.atoms)
    return np.where(problem.terminal[:, None, None], zero_law(grid), eta), v


def start_value(
    problem: StockProblem,
    judge: Objective,
    grid: Layout,
    eta: Float[np.ndarray, "S C N"],
    v: Float[np.ndarray, "S C"],
) -> tuple[Any, float]:
    """The initial stock and what the objective is worth with it: the given stock, or the node that optimises
    ``-c0 + sum_s mu(s) K(s, c0)`` (the first of equals).

    Where it is minimised (a saddle point) the policies of the minimiser are all as good for it; of it and its neighbours the
    one with the best law is taken, where laws are kept.
    """
    if judge.outer is None:
        stock = initial_stock(problem, judge).astype(float)
        node = int(nearest_node(stock, grid.stocks))
        return stock if stock.ndim else float(stock), float(judge.total(problem.mu @ v[:, node], grid.stocks[node]))
    total = judge.total(problem.mu @ v, grid.stocks)
    node = best = int(best_actions(total if judge.outer == "max" else -total))
    if judge.outer == "min" and not grid.axes:
        near = range(max(node - 1, 0), min(node + 2, len(grid.stocks)))
        node = max(near, key=lambda c: judge.of_return(*start_law(problem, grid, eta[:, c])))
    return float(grid.stocks[node]), float(total[best])


def start_law(
    problem: StockProblem, grid: Layout, eta: Float[np.ndarray, "S N"]
) -> tuple[Float[np.ndarray, " n"], Float[np.ndarray, " n"]]:
    """Atoms and probabilities of the mixture of the start states' laws."""
    if len(grid.support):
        return grid.support, problem.mu @ eta
    return eta.ravel(), np.repeat(problem.mu / eta.shape[-1], eta.shape[-1])


def best_values(values: Float[np.ndarray, "*n A"]) -> Float[np.ndarray, "*n"]:
    """The value of the best action."""
    return values.max(-1)


def policy_of(state: StockState, rewards: Any) -> StockPolicy:
    """The policy of the last sweeps."""
    return StockPolicy(state.actions, state.stocks, state.initial, state.gamma, state.n_actions, rewards)


def finished(state: StockState, tol: float) -> bool:
    """True when all stages are swept, or more sweeps would change no value by more than ``tol``."""
    return state.stage == 0 if state.has_horizon else state.contraction <= tol
