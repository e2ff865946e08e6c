"""What the claims are checked on: the wager, random models of its size, objectives with their utilities written twice."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from typing import Any

import numpy as np

from polytheory.errors import require
from polytheory.models.objectives import (
    Exponential,
    Objective,
    PiecewiseLinear,
    SquaredTarget,
    Target,
    Threshold,
)
from polytheory.models.risk_problems import wager
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.claims import Line, Wrap

HALF = Fraction(1, 2)
UTILITIES: tuple[tuple[Objective, Callable[[Any], Any]], ...] = (
    (PiecewiseLinear(0, 1), lambda x: min(x, 0)),
    (Target(), lambda x: -x if x > 0 else x),
    (SquaredTarget(), lambda x: -(x**2)),
    (Threshold(), lambda x: 1 if x >= 0 else 0),
    (PiecewiseLinear(0.5, 2), lambda x: x / 2 if x > 0 else 2 * x),
)
EXPONENTIAL = (Exponential(1), lambda x: -math.exp(-x))


@dataclass(frozen=True, eq=False)
class Case:
    """A model with a short horizon, and one utility: as an objective, and as a plain function."""

    model: TabularMDP
    judge: Objective
    f: Callable[[Any], Any]


def wagers() -> list[Case]:
    """The wager with every utility, undiscounted and at gamma = 1/2."""
    return [Case(wager(gamma=gamma), *pair) for gamma in (1.0, 0.5) for pair in UTILITIES]


def cases() -> Any:
    """Strategy: two states, two actions, quarters as probabilities, rewards 0 to 4, one stage or three."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> Case:
        p = np.array(draw(st.lists(st.integers(0, 4), min_size=4, max_size=4))).reshape(2, 2) / 4
        P = np.stack([p, 1 - p], axis=-1)
        r = np.array(draw(st.lists(st.integers(0, 4), min_size=8, max_size=8)), dtype=float).reshape(2, 2, 2)
        gamma, horizon = draw(st.sampled_from((1.0, 0.5))), draw(st.sampled_from((1, 3)))
        model = TabularMDP(P, r, np.array([0.5, 0.5]), horizon, gamma)
        return Case(model, *draw(st.sampled_from(UTILITIES)))

    return build()


def exact_grid(model: TabularMDP) -> dict[str, Any]:
    """Settings of a grid without error for whole rewards 0 to 4: none needed for gamma = 1; at gamma = 1/2 returns of at most
    three stages are quarters up to 7, and stocks from [-7, 0] stay quarters in [-28, 28]."""
    if model.gamma == 1:
        return {}
    from polytheory.models.stock import stock_problem

    low, high = stock_problem(model).returns
    spread = high - low if high > low else 1.0
    return {"stock_range": (-28.0, 28.0), "stocks": 225, "atoms": round(4 * spread) + 1}


def _average_ties(settle: Callable[..., Any]) -> Callable[..., Any]:
    """Atoms of equally good actions averaged one by one, which is the law of no policy."""

    def broken(problem: Any, grid: Any, ahead: Any, actions: Any) -> Any:
        atoms, probs, values = ahead
        top = values.max(-1)[..., None] if isinstance(values, np.ndarray) else values.amax(-1)[..., None]
        share = (values >= top - 1e-9) * 1.0
        share = share / share.sum(-1)[..., None]
        mean = (atoms * share[..., None]).sum(-2)[..., None, :]
        return settle(problem, grid, (mean + 0 * atoms, probs, values), actions)

    return broken


# the deliberate errors that several claims reject
NO_STOCK = Wrap("no_stock", part="next_stock", by=lambda f: lambda stock, reward, gamma: stock + 0 * reward)
UNDISCOUNTED_STOCK = Wrap("stock_not_divided_by_gamma", part="next_stock", by=lambda f: lambda c, r, gamma: c + r)
MEAN_JUDGED = Wrap(
    "greedy_in_the_mean",
    part="action_values",
    by=lambda f: (
        lambda objective, atoms, probs, stocks, scale=1.0: f(
            objective, (atoms * probs).sum(-1)[..., None], probs.sum(-1)[..., None], stocks, scale
        )
    ),
)
TIES_AVERAGED = Wrap("tied_atoms_averaged", part="settle", by=_average_ties)
ATOMWISE = Wrap(
    "maximum_atom_by_atom",
    part="chosen",
    by=lambda f: lambda laws, actions: laws.max(-2) if isinstance(laws, np.ndarray) else laws.amax(-2),
)
UNDISCOUNTED = tuple(
    Line(f"undiscounted_{room}", room=room, module="representations", old=" + gamma * values", new=" + values")
    for room in ("reference", "scaled")
)
SQUARED = tuple(
    Line(
        f"discount_squared_{room}",
        room=room,
        module="representations",
        old="+ gamma * values",
        new="+ gamma**2 * values",
    )
    for room in ("reference", "scaled")
)
