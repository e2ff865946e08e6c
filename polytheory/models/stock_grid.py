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
from polytheory.models.stock_product import axis, initial_stock, nodes_of, product_axes, split_losses

REPRESENTATIONS = ("categorical", "quantile", "utility")
ROUNDED = 1e-12  # a stock this near to its node, relative to 1 + the largest stock, lies on it
UNIT = 2.0**-52


@dataclass(frozen=True, eq=False)
class Layout:
    """Where stocks and returns are kept, and what that costs.

    Fields: ``stocks`` [C] even nodes (vectors: [C, m]); ``support`` [N] of categorical laws, else empty; ``atoms`` N;
    ``lost`` [L] the most that a law of each stage is moved in 1-Wasserstein distance, for stocks that matter: not beyond all
    returns of a straight objective, and reached from minus the possible returns. Laws: by their projection, and twice by the
    way from a stock to its node, once for its value and once for what is best there. Utilities: by splitting the stock.
    ``axes`` of a product grid [m of n_i] where utilities are kept, else empty.
    """

    stocks: Float[np.ndarray, "C ..."]
    support: Float[np.ndarray, " N"]
    atoms: int
    lost: Float[np.ndarray, " L"]
    axes: tuple[Float[np.ndarray, " _"], ...] = ()


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
    ends = np.zeros((1, 0)) if made.stock_range is None else np.asarray(made.stock_range, dtype=float)
    if made.stock_range is not None and not (
        ends.ndim in (1, 2) and ends.shape[-1] == 2 and np.isfinite(ends).all() and (ends[..., 0] < ends[..., 1]).all()
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
    stock_range: Any,
) -> Layout:
    """Even grids: of stocks and returns for laws of scalar rewards, of stocks alone for utilities.

    Args:
        representation: "categorical", "quantile" or "utility".
        atoms: N; None takes the lattice of the returns where there is one (then nothing is lost), or 101; quantile: 32.
        stocks: C; None takes that lattice, or 101. stock_range: its ends; None takes minus the possible returns, beyond which
            objectives that are straight on either side of 0 do not change their minds, and for others all stocks that occur.

    Raises `SettingError` for Fractions, for laws of vectors, and as `product_axes`; `ShapeError`, `ObjectiveError` as there.
    """
    if problem.is_exact:
        raise SettingError("a grid of stocks is for floats; Fractions take exact=True")
    if representation == "utility":
        if atoms is not None:
            raise SettingError(f"atoms = {atoms}; utilities have none, leave them out")
        axes = product_axes(problem, judge, stocks=stocks, stock_range=stock_range)
        nodes = axes[0] if problem.m is None else nodes_of(axes)
        return Layout(nodes, np.zeros(0), 1, split_losses(problem, judge, axes), axes)
    initial_stock(problem, judge)
    if problem.m is not None:
        raise SettingError(
            f"{problem.name} pays vectors, whose laws are not kept on a grid; take representation='utility', or exact=True"
        )
    if stock_range is not None and np.ndim(stock_range) != 1:
        raise SettingError(f"stock_range = {stock_range}; laws of numbers have one pair")
    low, high = problem.returns
    widest = (-high - (high - low), -low + (high - low))  # with gamma = 1: all that stocks from -high to -low come to
    span = ((-high, -low) if judge.straight else widest) if stock_range is None else tuple(stock_range)
    if judge.outer is None:
        span = (min(span[0], float(judge.stock)), max(span[1], float(judge.stock)))
    nodes = _nodes(span, stocks, problem.spacing, float(judge.stock) if judge.outer is None else span[0])
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
    return Layout(nodes, support, n, float(error) + 2 * np.array(snaps))


def _nodes(span: tuple[float, float], count: int | None, spacing: float | None, anchor: float) -> np.ndarray:
    """Even nodes that cover the span, one of them the anchor; about ``count``, or the lattice of the spacing."""
    low, high = span
    if count is None and spacing is not None:
        first = anchor + spacing * np.floor((low - anchor) / spacing + 1e-9)
        return first + spacing * np.arange(max(round((high - first) / spacing + 0.49), 1) + 1)
    nodes = np.linspace(low, high if high > low else low + 1.0, 101 if count is None else count)
    off = (anchor - low) / (nodes[1] - nodes[0])
    return nodes if abs(off - round(off)) < 1e-9 else axis(low, high, anchor, nodes[1] - nodes[0])


def scale_at(problem: StockProblem, clock: bool, h: int) -> float:
    """What stock + return are multiplied by before they are judged at stage h: ``gamma^h`` with a clock, else 1."""
    return float(problem.gamma) ** h if clock else 1.0


def shrunk(problem: StockProblem, judge: Objective, clock: bool) -> float:
    """``alpha`` with ``f(gamma x) = alpha f(x)``; 1 with a clock, which judges in the units of the start."""
    gamma = float(problem.gamma)
    return 1.0 if clock or gamma == 1 else gamma ** (judge.degree if judge.degree is not None else 1)


def carried(
    problem: StockProblem, judge: Objective, grid: Layout, error: float, h: int, size: float, clock: bool
) -> float:
    """Certified error of the values of stage h from that of the stage after it.

    ``f(gamma x) = alpha f(x)`` carries an error of U at the node by alpha; the law there was moved by at most ``lost``.
    """
    L, off = judge.lipschitz, float(grid.lost[problem.stage(h)])
    alpha = shrunk(problem, judge, clock)
    terms = 2 ** len(grid.axes) if grid.axes else grid.atoms
    rounding = UNIT * (terms * problem.prob.shape[-1] + 8) * (1 + size)
    if off > 0 and L is None:
        return np.inf
    return alpha * (error + (L or 0.0) * scale_at(problem, clock, h + 1) * off) + rounding
