"""Grids of stocks and returns: where they lie, what they lose, and what that does to values.

The error analysis is shared by all solvers on grids.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError, UnknownNameError
from polytheory.models.objectives import Objective, objective
from polytheory.models.stock import StockProblem

REPRESENTATIONS = ("categorical", "quantile")
ROUNDED = 1e-12  # a stock this near to its node, relative to 1 + the largest stock, lies on it
UNIT = 2.0**-52


@dataclass(frozen=True, eq=False)
class Layout:
    """Where stocks and returns are kept, and what that costs.

    Fields: ``stocks`` [C] even nodes; ``support`` [N] of categorical laws, empty for quantile laws; ``atoms`` N;
    ``projection`` the most that a projection moves a law in 1-Wasserstein distance; ``snap`` [L] the farthest that a stock of
    each stage lies from its node, for stocks that matter: not beyond all returns of a straight objective, and reached from
    minus the possible returns.
    """

    stocks: Float[np.ndarray, " C"]
    support: Float[np.ndarray, " N"]
    atoms: int
    projection: float
    snap: Float[np.ndarray, " L"]


def check_grid(made: Any) -> None:
    """Check the fields that algorithms on a grid share: ``objective, representation, atoms, stocks, stock_range, tol``.

    Raises `UnknownNameError`, `SettingError`.
    """
    objective(made.objective)
    if made.representation not in REPRESENTATIONS:
        raise UnknownNameError("representation", made.representation, REPRESENTATIONS)
    for name, least in (("atoms", 1 if made.representation == "quantile" else 2), ("stocks", 2)):
        n = getattr(made, name)
        if n is not None and (int(n) != n or n < least):
            raise SettingError(f"{name} = {n}; a grid needs a whole number >= {least}, or none for the default")
    if made.stock_range is not None and not (
        len(made.stock_range) == 2 and np.isfinite(made.stock_range).all() and made.stock_range[0] < made.stock_range[1]
    ):
        raise SettingError(f"stock_range = {made.stock_range}; give two finite numbers, the smaller one first")
    if not (np.isfinite(made.tol) and made.tol > 0):
        raise SettingError(f"tol = {made.tol}; it must be a positive number, in units of the objective")


def layout(
    problem: StockProblem,
    judge: Objective,
    *,
    representation: str,
    atoms: int | None,
    stocks: int | None,
    stock_range: tuple[float, float] | None,
) -> Layout:
    """Even grids for scalar rewards.

    Args:
        representation: "categorical" or "quantile".
        atoms: N; None takes the lattice of the returns where there is one (then nothing is lost), or 101; quantile: 32.
        stocks: C; None takes that lattice, or 101. stock_range: its ends; None takes minus the possible returns, beyond which
            objectives that are straight on either side of 0 do not change their minds, and for others all stocks that occur.

    Raises `SettingError` for vector rewards or Fractions.
    """
    if problem.reward.ndim != 4 or problem.is_exact:
        raise SettingError("a grid of stocks is for scalar rewards in floats; vectors and Fractions take exact=True")
    low, high = problem.returns
    widest = (-high - (high - low), -low + (high - low))  # with gamma = 1: all that stocks from -high to -low come to
    span = (-high, -low) if judge.straight else widest
    if judge.outer is None:
        span = (min(span[0], float(judge.stock)), max(span[1], float(judge.stock)))
    anchor = float(judge.stock) if judge.outer is None else span[0]
    nodes = _nodes(span if stock_range is None else stock_range, stocks, problem.spacing, anchor)
    if representation == "quantile":
        support, n, moved = np.zeros(0), 32 if atoms is None else atoms, high - low
    else:
        support = _nodes((low, high), atoms, problem.spacing, low)
        n, moved = len(support), float(support[1] - support[0])
        if atoms is None and problem.spacing is not None:
            moved = 0.0
    needed = (-high, -low) if judge.straight else widest
    covered = (judge.straight or problem.gamma == 1) and nodes[0] <= needed[0] and nodes[-1] >= needed[1]
    snaps = []
    for i in range(len(problem.next_state)):
        after = (nodes + problem.reward[i][problem.prob[i] > 0][:, None]) / problem.gamma if problem.gamma else nodes
        node = np.clip(np.rint((after - nodes[0]) / (nodes[1] - nodes[0])), 0, len(nodes) - 1).astype(np.int64)
        kept = np.clip(after, nodes[0], nodes[-1]) if covered else after
        off = float(np.max(np.abs(kept - nodes[node]), initial=0.0))
        snaps.append(off if off > ROUNDED * (1 + float(np.max(np.abs(nodes)))) else 0.0)
    error = moved / (2 * n) if representation == "quantile" else moved / 2
    return Layout(nodes, support, n, float(error), np.array(snaps))


def _nodes(span: tuple[float, float], count: int | None, spacing: float | None, anchor: float) -> np.ndarray:
    low, high = span
    if count is None and spacing is not None:
        first = anchor + spacing * np.floor((low - anchor) / spacing + 1e-9)
        return first + spacing * np.arange(max(round((high - first) / spacing + 0.49), 1) + 1)
    return np.linspace(low, high if high > low else low + 1.0, 101 if count is None else count)


def scale_at(problem: StockProblem, clock: bool, h: int) -> float:
    """What stock + return are multiplied by before they are judged at stage h: ``gamma^h`` with a clock, else 1."""
    return float(problem.gamma) ** h if clock else 1.0


def carried(
    problem: StockProblem, judge: Objective, grid: Layout, error: float, h: int, size: float, clock: bool
) -> float:
    """Certified error of the values of stage h from that of the stage after it.

    ``f(gamma x) = alpha f(x)`` carries an error of U at the node by alpha; the law there was projected by at most
    ``projection``, and belongs to a stock that lies ``snap`` away (once for its value, once for what is best there).
    """
    gamma, L = float(problem.gamma), judge.lipschitz
    alpha = 1.0 if clock or gamma == 1 else gamma ** (judge.degree if judge.degree is not None else 1)
    off = grid.projection + 2 * float(grid.snap[problem.stage(h)])
    rounding = UNIT * (grid.atoms * problem.prob.shape[-1] + 8) * (1 + size)
    if off > 0 and L is None:
        return np.inf
    return alpha * (error + (L or 0.0) * scale_at(problem, clock, h + 1) * off) + rounding
