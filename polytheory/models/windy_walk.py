"""Windy walk: a grid with three corridors to the goal, of which the short one is exposed to wind of unknown strength."""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.models.tabular import GridLayout, TabularMDP

SIDE = 6
START, GOAL = (0, 0), (0, 5)
WALLS = frozenset({(1, 1), (1, 2), (1, 3), (3, 1), (3, 2), (3, 3)})
MOVES = ((0, -1), (1, 0), (0, 1), (-1, 0))  # west, south, east, north
WINDY = (1, 2, 3)  # columns
POWER = {0: 1, 2: 3, 4: 6, 5: 6}  # wind in a row is alpha to this power


def windy_walk(*, alpha: float = 0.0, gamma: float = 0.95) -> TabularMDP:
    """Walk from the north-west corner of a 6 x 6 grid to the north-east corner, -1 a step, against a wind to the west.

    Two walls leave three corridors: the north one is short and takes the whole wind, the middle one alpha cubed, the south one
    alpha to the sixth. Moving west always works; any other move is blown to the west with the corridor's probability.

    A reconstruction of the walk in [zouitine2024, App. E] from its description in words. Known answer: with gamma = 0.95
    the value of the start is -4.52438125 without wind and -7.95214749 at alpha = 0.5.

    Args:
        alpha: strength of the wind in [0, 1]. gamma: discount.

    References: [zouitine2024] Zouitine, Geist and Rachelson, Solving robust MDPs as a sequence of static RL
    problems, arXiv:2410.06212.
    """
    if not 0 <= alpha <= 1:
        raise SettingError(f"alpha = {alpha}; the strength of the wind lies in [0, 1]")
    S, A = SIDE * SIDE, len(MOVES)
    P, r = np.zeros((S, A, S)), np.full((S, A), -1.0)
    for row in range(SIDE):
        for column in range(SIDE):
            s = row * SIDE + column
            wind = alpha ** POWER[row] if row in POWER and column in WINDY else 0.0
            for a in range(A):
                w = wind if a else 0.0
                P[s, a, _to(row, column, a)] += 1 - w
                P[s, a, _to(row, column, 0)] += w
    goal = GOAL[0] * SIDE + GOAL[1]
    P[goal], r[goal] = np.eye(S)[goal], 0.0
    terminal, mu = np.arange(S) == goal, np.zeros(S)
    mu[START[0] * SIDE + START[1]] = 1.0
    grid = GridLayout(SIDE, SIDE, ("←", "↓", "→", "↑"))
    return TabularMDP(P, r, mu, gamma=gamma, terminal=terminal, name="windy-walk", grid=grid)


def wind_kernels(n: int = 25, strongest: float = 0.5) -> Float[np.ndarray, "n S A S"]:
    """Transitions of ``n`` evenly spaced strengths from 0 to ``strongest``: the uncertainty set of the walk."""
    return np.stack([windy_walk(alpha=float(alpha)).P for alpha in np.linspace(0, strongest, n)])


def _to(row: int, column: int, move: int) -> int:
    there = row + MOVES[move][0], column + MOVES[move][1]
    inside = 0 <= there[0] < SIDE and 0 <= there[1] < SIDE and there not in WALLS
    row, column = there if inside else (row, column)
    return row * SIDE + column
