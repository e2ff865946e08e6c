"""Claims about vector stocks: the split of a stock between nodes, and utilities on product grids against every policy that
remembers everything."""

from __future__ import annotations

from functools import cache
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.errors import require
from polytheory.models.objectives import Homeostasis, Limits, Objective
from polytheory.models.risk_problems import wager
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Level, Line, Margin, Wrap, claim
from polytheory.proofs_check.distributional import oracles
from polytheory.proofs_check.distributional.instances import NO_STOCK, UNDISCOUNTED_STOCK

if TYPE_CHECKING:
    from polytheory.proofs_check.claims import Room

VI = "DistributionalValueIteration"
ROUNDING = 1e-11  # some hundred float64 operations on numbers up to about 100
BESIDE = np.array([[[0.0, 1.0], [2.0, 0.0]], [[1.0, 1.0], [0.0, 3.0]]])  # what the wager pays of a second quantity
FAR = (
    1000  # weight of the second quantity in the number that stands for both: returns of the first stay below half of it
)
QUARTERS = 4  # returns of three stages at gamma = 1/2 are quarters


def both_paid(gamma: float) -> tuple[TabularMDP, Float[np.ndarray, "S A S m"]]:
    """The wager with two quantities."""
    model = wager(gamma=gamma)
    return model, np.stack([np.asarray(model.r), BESIDE], -1)


def paid_settings(room: Any, model: Any) -> dict[str, Any]:
    """Settings of a demonstration: two quantities near set points."""
    return {"objective": Homeostasis((6, 3)), "representation": "utility", "rewards": both_paid(1.0)[1]}


def utility(judge: Objective, x: Float[np.ndarray, "*n m"]) -> Float[np.ndarray, "*n"]:
    """The objectives' utilities, written a second time."""
    if isinstance(judge, Limits):
        return x[..., 0] + float(judge.prices[0]) * np.minimum(x[..., 1], 0)
    return -(np.abs(x[..., 0]) + np.abs(x[..., 1]))


@cache
def _laws(gamma: float, s: int) -> tuple[np.ndarray, np.ndarray]:
    """Vector atoms [n, 2] and a row of probabilities for every law of a history-dependent policy.

    The enumeration is of numbers ``x_0 + 1000 x_1``, from which both are read off: whole multiples of 1/4, the first small.
    """
    model, rewards = both_paid(gamma)
    coded = TabularMDP(model.P, rewards @ np.array([1, FAR]), model.mu, model.horizon, gamma)
    laws = [dict(law) for law in oracles.history_laws(coded, s)]
    atoms = sorted({x for law in laws for x in law})
    quarters = [int(QUARTERS * x) for x in atoms]
    second = [round(x / FAR) for x in quarters]
    pairs = np.array([[x - FAR * y, y] for x, y in zip(quarters, second, strict=True)]) / QUARTERS
    return pairs, np.array([[float(law.get(x, 0)) for x in atoms] for law in laws])


def best_of(judge: Objective, gamma: float, s: int, stocks: Float[np.ndarray, "C m"]) -> Float[np.ndarray, " C"]:
    """The optimum over all policies that remember everything, at many stocks."""
    atoms, table = _laws(gamma, s)
    return (table @ utility(judge, stocks[None] + atoms[:, None])).max(0)


LEFT_ONLY = Wrap(
    "stock_moved_to_its_lower_corner",
    part="split_stock",
    by=lambda f: lambda stock, axes: _with_weights(*f(stock, axes)),
)
SWAPPED = Wrap(
    "quantities_swapped",
    part="split_stock",
    by=lambda f: lambda stock, axes: f(stock[..., [1, 0]] if stock.shape[-1] == 2 else stock, axes),
)
NO_SLOPE = Line(
    "level_beyond_the_grid", module="utilities", old="+ objective.utility(2 * way) - objective.utility(way)", new=""
)
NOT_SHRUNK = Line("not_scaled_by_gamma", module="utilities", old="return alpha * (", new="return (")


def _with_weights(index: Any, weight: Any, beyond: Any) -> Any:
    first = 0 * weight
    first[..., 0] = 1.0
    return index, first, beyond


@claim(
    method="distributional-dp",
    source="multilinear interpolation; the Wasserstein distance to a point mass is the mean way to it",
    level=Level.PROPERTY,
    statement="splitting a vector stock between the corners around it keeps its mean and moves its law by exactly "
    "sum 2 x (1 - x) dz, at most sum dz / 2, in Wasserstein distance; half-way nothing less is true",
    worked=lambda: [(0, 2), (0, 3)],
    generated=lambda: require("hypothesis", "conform").strategies.tuples(
        require("hypothesis", "conform").strategies.integers(1, 2**31 - 1),
        require("hypothesis", "conform").strategies.integers(1, 3),
    ),
    breaks=[LEFT_ONLY, SWAPPED],
)
def split_moves_a_stock_by_half_a_step(instance: tuple[int, int], room: Room) -> Margin:
    seed, m = instance
    rng = np.random.default_rng(seed)
    steps = rng.integers(1, 9, m) / 4
    axes = tuple(step * np.arange(-2.0, 3.0 + i) for i, step in enumerate(steps))
    place = np.full((1, m), 0.5) if seed == 0 else rng.integers(-3, 36, (6, m)) / 8
    stock = np.array([x[0] for x in axes]) + place * steps
    index, weight, beyond = room.parts.split_stock(stock, axes)
    nodes = np.array(list(product(*(x.tolist() for x in axes))))[index]  # [n, J, m]
    inside = np.clip(stock, [x[0] for x in axes], [x[-1] for x in axes])
    # all mass starts at one point: the distance to it is the mean way
    moved = (weight * np.abs(nodes - inside[:, None]).sum(-1)).sum(-1)
    share = (inside - [x[0] for x in axes]) / steps % 1
    margins = [
        Margin.equal((weight[..., None] * nodes).sum(1), inside, ROUNDING),
        Margin.equal(inside + beyond, stock, ROUNDING),
        Margin.equal(moved, (2 * share * (1 - share) * steps).sum(-1), ROUNDING),
        Margin.at_most(moved, steps.sum() / 2, ROUNDING),
        Margin.at_most(-weight, 0.0, 0.0),
    ]
    if seed == 0:
        margins.append(Margin.equal(moved, [steps.sum() / 2], ROUNDING))
    return Margin.worst(margins)


@claim(
    method="distributional-dp",
    source="pires2025, optimality of distributional value iteration for vector rewards; homeostatic regulation and constraints",
    level=Level.PROPERTY,
    statement="on a product lattice of vector stocks the utility of every state and stock, also beyond all returns, is the "
    "optimum over all history-dependent policies",
    worked=lambda: [Homeostasis((6, 3)), Homeostasis((20, -4)), Limits((2,), (3,))],
    breaks=[NO_STOCK, SWAPPED, NO_SLOPE],
)
def vector_optimum(judge: Any, room: Room) -> Margin:
    model, rewards = both_paid(1.0)
    state = room.run(VI, KnownModel(model), objective=judge, representation="utility", rewards=rewards).state
    stocks = state["stocks"][0]
    wanted = [best_of(judge, 1.0, s, stocks) for s in range(model.S)]
    at_start = best_of(judge, 1.0, 0, np.array([judge.stock], dtype=float))
    return Margin.worst([
        Margin.equal(state["v"][0, 0], np.array(wanted), ROUNDING), Margin.equal(state["value"], at_start, ROUNDING)
    ])  # fmt: skip


@claim(
    method="distributional-dp",
    source="pires2025, with the error of the split: U is L-Lipschitz in the stock and carried by f(gamma x) = gamma f(x)",
    level=Level.PROPERTY,
    statement="at gamma = 1/2 the utilities on a coarse product grid are within the certified bound of the optimum over all "
    "history-dependent policies, at every state and stock",
    worked=lambda: [(Homeostasis((4, 2)), 9), (Limits((2,), (3,)), 12), (Homeostasis((4, 2)), 31)],
    breaks=[UNDISCOUNTED_STOCK, LEFT_ONLY, NOT_SHRUNK, NO_SLOPE],
)
def vector_bound(instance: tuple[Any, int], room: Room) -> Margin:
    judge, count = instance
    model, rewards = both_paid(0.5)
    state = room.run(
        VI, KnownModel(model), objective=judge, representation="utility", rewards=rewards, stocks=count
    ).state  # fmt: skip
    nodes = np.arange(0, len(state["stocks"][0]), max(len(state["stocks"][0]) // 60, 1))
    wanted = np.array([best_of(judge, 0.5, s, state["stocks"][0][nodes]) for s in range(model.S)])
    return Margin.at_most(np.abs(state["v"][0, 0][:, nodes] - wanted), state["bound"][0], ROUNDING)
