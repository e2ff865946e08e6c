"""Product grids of stocks, for utilities ``E f(c + G)`` in place of whole laws: numbers, or vectors of up to three quantities.

For an expected utility with ``f(gamma x) = alpha f(x)`` one number of each state and stock is all that the recursion needs:
``U(s, c) = max_a alpha E U(S', (c + R) / gamma)``. A stock between nodes is split between the 2^m corners around it so that
its mean stays, which moves its law by ``sum_i 2 x_i (1 - x_i) dz_i <= sum_i dz_i / 2`` in the 1-Wasserstein distance of
``|x| = sum_i |x_i|`` (x_i is the place between the neighbours), and hence U, which is L-Lipschitz in c, by L times that.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from polytheory._typing import Array, Float
from polytheory.errors import ObjectiveError, SettingError, ShapeError
from polytheory.models.objectives import Objective
from polytheory.models.stock import StockProblem

DIMENSIONS = 3  # of a vector stock on a grid
COUNTS = (101, 41, 21)  # nodes of each quantity where nothing is said, by dimension
LATTICE = 20_000  # nodes of a lattice that is taken without being asked for
LARGEST = 20_000_000  # numbers that one sweep may look at


def initial_stock(problem: StockProblem, judge: Objective) -> Array:
    """The given initial stock of an objective, as an array of the kind of the rewards: [] or [m].

    Raises `ShapeError` where the objective judges another number of quantities than the rewards have.
    """
    stock = np.asarray(judge.stock)
    if stock.shape != (() if problem.m is None else (problem.m,)):
        kinds = ["one number" if not x else f"vectors of {x}" for x in (stock.shape and len(stock), problem.m)]
        raise ShapeError(
            f"objective {judge} judges {kinds[0]} and is given {kinds[1]} by {problem.name}; objectives of m quantities "
            "(homeostasis, limits) take a model of vectors with representation='utility', or rewards= of shape [S, A, S, m]"
        )
    return stock


def product_axes(
    problem: StockProblem, judge: Objective, *, stocks: int | None, stock_range: Any
) -> tuple[Float[np.ndarray, " _"], ...]:
    """Even nodes of every quantity: minus its possible returns and the given initial stock, which is a node.

    Args: ``stocks`` nodes of each quantity; None: the lattice of the rewards where gamma = 1 and the whole grid stays small,
    else `COUNTS`. ``stock_range``: (low, high) for all quantities, or a pair for each.

    Raises `SettingError` for more than three quantities, gamma = 0, and grids that are too large; `ObjectiveError` for what is
    no expected utility; `ShapeError` as `initial_stock`.
    """
    m, given = len(problem.coordinates), initial_stock(problem, judge).ravel()
    if m > DIMENSIONS:
        raise SettingError(f"{problem.name} pays vectors of {m}; a grid holds at most {DIMENSIONS}: take exact=True")
    if not judge.mixtures:
        raise ObjectiveError(f"objective {judge} is no expected utility; keep laws: representation='categorical'")
    if not problem.gamma > 0:
        raise SettingError("gamma = 0 has no next stock; keep laws: representation='categorical'")
    spans = _spans(problem, judge, stock_range)
    anchors = given if judge.outer is None else [low for low, _ in spans]
    steps = [one.spacing if stocks is None else None for one in problem.coordinates]
    if math.prod((high - low) / (step or np.inf) + 1 for step, (low, high) in zip(steps, spans, strict=True)) > LATTICE:
        steps = [None] * m
    count = COUNTS[m - 1] if stocks is None else stocks
    axes = tuple(
        axis(low, high, float(anchor), step or max(high - low, 1.0) / (count - 1))
        for (low, high), anchor, step in zip(spans, anchors, steps, strict=True)
    )
    _check_size(problem, [len(x) for x in axes])
    return axes


def _spans(problem: StockProblem, judge: Objective, stock_range: Any) -> list[tuple[float, float]]:
    m = len(problem.coordinates)
    if stock_range is None:
        return [needed(one, judge, i) for i, one in enumerate(problem.coordinates)]
    given = np.asarray(stock_range, dtype=float).reshape(-1, 2)
    if len(given) not in (1, m):
        raise SettingError(
            f"stock_range has {len(given)} pairs for {m} quantities; give one pair for all, or one for each"
        )
    spans = [(float(low), float(high)) for low, high in np.broadcast_to(given, (m, 2))]
    if judge.outer is not None:
        return spans
    stock = np.ravel(judge.stock).astype(float)
    return [(min(low, float(c)), max(high, float(c))) for (low, high), c in zip(spans, stock, strict=True)]


def needed(one: StockProblem, judge: Objective, i: int) -> tuple[float, float]:
    """The stocks of quantity i that matter: minus its possible returns and its initial stock; beyond the returns a straight
    objective does not change its mind, for others all that these stocks come to with gamma = 1."""
    low, high = one.returns
    first = [float(np.ravel(judge.stock)[i])] if judge.outer is None else []
    wider = 0.0 if judge.straight else high - low
    return min(-high, *first, np.inf) - wider, max(-low, *first, -np.inf) + wider


def axis(low: float, high: float, anchor: float, step: float) -> Float[np.ndarray, " n"]:
    """Multiples of a step around an anchor that cover [low, high], at least two."""
    first, last = (math.floor((low - anchor) / step + 1e-9), math.ceil((high - anchor) / step - 1e-9))
    return anchor + step * np.arange(first, max(last, first + 1) + 1)


def _check_size(problem: StockProblem, counts: list[int]) -> None:
    nodes = math.prod(counts)
    numbers = nodes * problem.S * problem.A * problem.prob.shape[-1] * 2 ** len(counts)
    if numbers > LARGEST:
        raise SettingError(
            f"a grid of {' x '.join(map(str, counts))} = {nodes} stocks looks at {numbers} numbers in a sweep, more than "
            f"{LARGEST}; give fewer stocks= of each quantity, or a narrower stock_range="
        )


def nodes_of(axes: tuple[Float[np.ndarray, " _"], ...]) -> Float[np.ndarray, "C m"]:
    """All nodes of a product grid, the last quantity fastest."""
    return np.stack([x.ravel() for x in np.meshgrid(*axes, indexing="ij")], -1)


def split_losses(
    problem: StockProblem, judge: Objective, axes: tuple[Float[np.ndarray, " _"], ...]
) -> Float[np.ndarray, " L"]:
    """The most that splitting moves a stock of each stage, in the sum of its quantities: ``2 x (1 - x) dz`` within the grid.

    Beyond an end: nothing where the objective is straight there or no stock that matters gets so far; else the way to the
    end, twice if it is bridged by a slope that need not hold.
    """
    lost = np.zeros(len(problem.next_state))
    for j, (nodes, one) in enumerate(zip(axes, problem.coordinates, strict=True)):
        (low, high), step = needed(one, judge, j), nodes[1] - nodes[0]
        slack = 1e-9 * (1 + float(np.max(np.abs(nodes))))
        covered = (judge.straight or problem.gamma == 1) and nodes[0] <= low + slack and nodes[-1] >= high - slack
        for i in range(len(lost)):
            after = (nodes + np.unique(one.reward[i][one.prob[i] > 0])[:, None]) / float(problem.gamma)
            kept = np.clip(after, nodes[0], nodes[-1])
            x = (kept - nodes[0]) / step % 1.0
            off = 2 * x * (1 - x) * step + (0.0 if covered else (1 + judge.straight) * np.abs(after - kept))
            most = float(np.max(off, initial=0.0))
            lost[i] += most if most > slack * 1e-3 else 0.0
    return lost
