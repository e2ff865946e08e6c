"""One distributional Bellman sweep on a grid of stocks in torch, and the replicas' state.

Planning is the same in every replica: it is done once, and the replicas of a state are views of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import DiscountError
from polytheory.models.objectives import Objective
from polytheory.models.stock import StockProblem
from polytheory.models.stock_grid import Layout, scale_at, shrunk
from polytheory.models.stock_product import initial_stock
from polytheory.scaled.distributional.policy import StockPolicy
from polytheory.scaled.distributional.representations import (
    action_values,
    backup,
    best_actions,
    categorical_projection,
    chosen,
    nearest_node,
    quantile_projection,
)
from polytheory.scaled.distributional.utilities import utility_backup


@dataclass(frozen=True, eq=False)
class StockState:
    """The reference's state with a leading replica axis n.

    Fields: ``eta`` [n, L1, S, C, N]; ``v`` [n, L1, S, C]; ``actions`` [n, L, S, C]; ``stocks`` [n, C] or [n, C, m];
    ``support`` [n, Z]; ``initial`` [n] or [n, m]; ``bound``, ``contraction``, ``value`` [n]; ``sweeps``, ``stage``, ``gamma``,
    ``n_actions``.
    """

    eta: Float[torch.Tensor, "n L1 S C N"]
    v: Float[torch.Tensor, "n L1 S C"]
    actions: Int[torch.Tensor, "n L S C"]
    stocks: Float[torch.Tensor, "n C ..."]
    support: Float[torch.Tensor, "n Z"]
    bound: Float[torch.Tensor, " n"]
    contraction: Float[torch.Tensor, " n"]
    sweeps: int
    stage: int
    initial: Float[torch.Tensor, "n ..."]
    value: Float[torch.Tensor, " n"]
    gamma: float
    n_actions: int

    @property
    def has_horizon(self) -> bool:
        """True for a finite horizon."""
        return self.eta.shape[1] > 1

    @property
    def stocks_are_numbers(self) -> bool:
        """True for scalar stocks."""
        return self.stocks.ndim == 2


@dataclass(frozen=True, eq=False)
class Tables:
    """A `StockProblem` and its grids as tensors; fields as there."""

    next_state: Int[torch.Tensor, "L S A K"]
    prob: Float[torch.Tensor, "L S A K"]
    reward: Float[torch.Tensor, "L S A K *m"]
    mu: Float[torch.Tensor, " S"]
    terminal: Bool[torch.Tensor, " S"]


_TABLES: WeakKeyDictionary[StockProblem, dict[str, Tables]] = WeakKeyDictionary()


def tables(problem: StockProblem, device: Any) -> Tables:
    """The problem on a device, made once."""
    known = _TABLES.setdefault(problem, {})
    if str(device) not in known:
        put = lambda x: torch.tensor(np.ascontiguousarray(x), device=device)  # noqa: E731
        known[str(device)] = Tables(*(put(getattr(problem, name)) for name in Tables.__dataclass_fields__))
    return known[str(device)]


def replicated(n: int, x: Any, device: Any) -> torch.Tensor:
    """n views of one tensor, array or number, [n, ...]."""
    x = torch.as_tensor(x, dtype=torch.float64 if isinstance(x, float) else None, device=device)
    return x.expand(n, *x.shape)


def start(problem: StockProblem, judge: Objective, grid: Layout, access: Any, clock: bool = False) -> StockState:
    """All returns 0, nothing swept. Raises `DiscountError` without a horizon and a discount below 1."""
    H, S, C, device = problem.horizon, problem.S, len(grid.stocks), access.device
    if H is None and not problem.gamma < 1:
        raise DiscountError(f"gamma = {problem.gamma} needs a horizon; make the model with horizon=H")
    stocks, support = (torch.tensor(x, device=device) for x in (grid.stocks, grid.support))
    at_end = of_stocks(judge, grid, scale_at(problem, clock, H or 0), device)
    kept = at_end[:, None] if grid.axes else zero_law(grid, device)
    eta = kept.expand(1 if H is None else H + 1, S, C, grid.atoms)
    v = at_end.expand(len(eta), S, C)
    off = 0.0 if H is not None else (judge.lipschitz or 1.0) * problem.farthest
    bound = off if H is not None or judge.lipschitz is not None else np.inf
    actions = torch.zeros(max(len(eta) - 1, 1), S, C, dtype=torch.int64, device=device)
    initial, value = start_value(problem, judge, grid, eta[0], v[0])
    tensors = {"eta": eta, "v": v, "actions": actions, "stocks": stocks, "support": support}
    numbers = {"bound": float(bound), "contraction": off, "initial": initial, "value": value}
    many = {name: replicated(access.replicas, x, device) for name, x in (tensors | numbers).items()}
    return StockState(**many, sweeps=0, stage=H or 0, gamma=float(problem.gamma), n_actions=problem.A)


def opened(state: StockState) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float, float]:
    """Copies of ``eta``, ``v`` and ``actions`` of one replica, and its ``bound`` and ``contraction``."""
    eta, v, actions = (x[0].clone() for x in (state.eta, state.v, state.actions))
    return eta, v, actions, float(state.bound[0]), float(state.contraction[0])


def closed(state: StockState, access: Any, **changes: Any) -> StockState:
    """The state of all replicas after a step of one."""
    same = {name: changes.pop(name) for name in ("sweeps", "stage") if name in changes}
    many = {name: replicated(access.replicas, x, access.device) for name, x in changes.items()}
    return replace(state, **same, **many)


def of_stocks(judge: Objective, grid: Layout, scale: float, device: Any) -> Float[torch.Tensor, " C"]:
    """K of stock + nothing at every node."""
    stocks = torch.tensor(grid.stocks, device=device)
    return judge.value(
        scale * stocks[:, None], torch.ones_like(stocks[:, :1] if stocks.ndim > 1 else stocks[:, None])
    ).double()


def zero_law(grid: Layout, device: Any) -> Float[torch.Tensor, " N"]:
    """The law of a return of 0."""
    if not len(grid.support):
        return torch.zeros(grid.atoms, dtype=torch.float64, device=device)
    support = torch.tensor(grid.support, device=device)
    return categorical_projection(torch.zeros_like(support[:1]), torch.ones_like(support[:1]), support)


def look_ahead(
    problem: StockProblem, judge: Objective, grid: Layout, after: Float[torch.Tensor, "S C N"], h: int, clock: bool
) -> tuple[Float[torch.Tensor, "S C A M"], Float[torch.Tensor, "S C A M"], Float[torch.Tensor, "S C A"]]:
    """Atoms, probabilities and K of stock + return of every action, one step before the laws ``after`` (utilities: the number
    K itself, with probability 1)."""
    i, t = problem.stage(h), tables(problem, after.device)
    if grid.axes:
        values = utility_backup(
            judge, t.reward[i], t.prob[i], t.next_state[i], after[..., 0],
            tuple(torch.tensor(x, device=after.device) for x in grid.axes), float(problem.gamma),
            shrunk(problem, judge, clock), scale_at(problem, clock, h + 1),
        )  # fmt: skip
        at_end = of_stocks(judge, grid, scale_at(problem, clock, h), after.device)
        values = torch.where(t.terminal[:, None, None], at_end[:, None], values)
        return values[..., None], torch.ones_like(values)[..., None], values
    stocks, support = (torch.tensor(x, device=after.device) for x in (grid.stocks, grid.support))
    atoms, probs = backup(
        t.reward[i], t.prob[i], t.next_state[i], after, support if len(support) else None, stocks, float(problem.gamma)
    )
    return atoms, probs, action_values(judge, atoms, probs, stocks, scale_at(problem, clock, h))


def settle(
    problem: StockProblem, grid: Layout, ahead: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    actions: Int[torch.Tensor, "S C"],
) -> tuple[Float[torch.Tensor, "S C N"], Float[torch.Tensor, "S C"]]:  # fmt: skip
    """Laws, projected, and values of the given actions, from what `look_ahead` saw."""
    atoms, probs = chosen(ahead[0], actions), chosen(ahead[1], actions)
    v = ahead[2].gather(-1, actions[..., None])[..., 0]
    if grid.axes:
        return atoms, v
    if len(grid.support):
        eta = categorical_projection(atoms, probs, torch.tensor(grid.support, device=atoms.device))
    else:
        eta = quantile_projection(atoms, probs, grid.atoms)
    ends = tables(problem, atoms.device).terminal[:, None, None]
    return torch.where(ends, zero_law(grid, atoms.device), eta), v


def start_value(
    problem: StockProblem,
    judge: Objective,
    grid: Layout,
    eta: Float[torch.Tensor, "S C N"],
    v: Float[torch.Tensor, "S C"],
) -> tuple[Any, float]:
    """The initial stock and what the objective is worth with it: the given stock, or the node that optimises
    ``-c0 + sum_s mu(s) K(s, c0)``; as in the reference."""
    mu = tables(problem, v.device).mu
    if judge.outer is None:
        stock = initial_stock(problem, judge).astype(float)
        node = int(nearest_node(torch.tensor(stock), torch.tensor(grid.stocks)))
        return stock if stock.ndim else float(stock), float(judge.total(mu @ v[:, node], grid.stocks[node]))
    total = judge.total(mu @ v, torch.tensor(grid.stocks, device=v.device))
    node = best = int(best_actions(total if judge.outer == "max" else -total))
    if judge.outer == "min" and not grid.axes:
        near = range(max(node - 1, 0), min(node + 2, len(grid.stocks)))
        node = max(near, key=lambda c: float(judge.of_return(*start_law(problem, grid, eta[:, c]))))
    return float(grid.stocks[node]), float(total[best])


def start_law(
    problem: StockProblem, grid: Layout, eta: Float[torch.Tensor, "S N"]
) -> tuple[Float[torch.Tensor, " n"], Float[torch.Tensor, " n"]]:
    """Atoms and probabilities of the mixture of the start states' laws."""
    mu, N = tables(problem, eta.device).mu, eta.shape[-1]
    if len(grid.support):
        return torch.tensor(grid.support, device=eta.device), mu @ eta
    return eta.flatten(), (mu / N).repeat_interleave(N)


def best_values(values: Float[torch.Tensor, "*n A"]) -> Float[torch.Tensor, "*n"]:
    """The value of the best action."""
    return values.amax(-1)


def policy_of(state: StockState, rewards: Any) -> StockPolicy:
    """The policies of the last sweeps."""
    return StockPolicy(state.actions, state.stocks, state.initial, state.gamma, state.n_actions, rewards)


def finished(state: StockState, tol: float) -> bool:
    """True when all stages are swept, or more sweeps would change no value by more than ``tol``."""
    return state.stage == 0 if state.has_horizon else bool((state.contraction <= tol).all())
