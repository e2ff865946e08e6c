"""Grid worlds, plain and windy."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from polytheory.errors import SettingError
from polytheory.models._check import stored
from polytheory.models.tabular import GridLayout, TabularMDP

ARROWS = ("←", "↓", "→", "↑")
_MOVES = np.array([(0, -1), (1, 0), (0, 1), (-1, 0)])  # (row, column) of left, down, right, up


def gridworld(
    *, rows: int = 5, columns: int = 5, slip: float = 0.0, step_reward: float = -1.0, gamma: float = 0.99,
    sparse: bool = False, terminal_goal: bool = True,
) -> TabularMDP:  # fmt: skip
    """Walk from the top left corner to the goal in the bottom right one; every step costs ``-step_reward``.

    With probability ``slip`` the move goes to one of the two sides, half each. Walls hold the walker. The goal ends the
    episode, or (``terminal_goal=False``) pays 0 for ever.

    Known answer at slip = 0, step_reward = -1: a cell at Manhattan distance d from the goal has
    ``V* = -(1 - gamma^d) / (1 - gamma)``.
    """
    _check(rows, columns, slip)
    return _grid("gridworld", rows, columns, np.zeros(columns, dtype=int), slip, step_reward, gamma, sparse,
                 (0, 0), (rows - 1, columns - 1), terminal_goal)  # fmt: skip


def windy_gridworld(*, gamma: float = 0.999) -> TabularMDP:
    """The windy grid world of [sutton2018, Example 6.5]: 7 x 10, wind blows upwards in the middle columns.

    Known answer: the shortest path from start to goal takes 15 steps, ``V*(start) = -(1 - gamma^15) / (1 - gamma)``.
    """
    wind = np.array([0, 0, 0, 1, 1, 1, 2, 2, 1, 0])
    return _grid("windy-gridworld", 7, 10, wind, 0.0, -1.0, gamma, False, (3, 0), (3, 7), True)


def _check(rows: int, columns: int, slip: float) -> None:
    if rows < 1 or columns < 1 or rows * columns < 2 or not 0 <= slip <= 1:
        raise SettingError(f"gridworld({rows} x {columns}, slip = {slip}); at least two cells and slip in [0, 1]")


def _grid(name, rows, columns, wind, slip, step_reward, gamma, sparse, start, goal, terminal_goal) -> TabularMDP:
    S = rows * columns
    row, column = np.divmod(np.arange(S), columns)
    lands = np.empty((S, 4), dtype=np.int64)
    for a, (dr, dc) in enumerate(_MOVES):
        lands[:, a] = np.clip(row + dr - wind[column], 0, rows - 1) * columns + np.clip(column + dc, 0, columns - 1)
    last = goal[0] * columns + goal[1]
    lands[last] = last
    pair = np.arange(S * 4)
    P = sp.csr_matrix((S * 4, S))
    for turn, p in ((0, 1 - slip), (1, slip / 2), (3, slip / 2)):
        target = lands[:, (np.arange(4) + turn) % 4].ravel()
        P = P + sp.csr_matrix((np.full(S * 4, p), (pair, target)), shape=(S * 4, S))
    P = P.tocsr()
    P.eliminate_zeros()
    r = np.full((S, 4), float(step_reward))
    r[last] = 0.0
    terminal = (np.arange(S) == last) & terminal_goal
    mu = np.eye(1, S, start[0] * columns + start[1])[0]
    return TabularMDP(stored(P, S, 4, sparse), r, mu, None, gamma, terminal, name=name,
                      grid=GridLayout(rows, columns, ARROWS))  # fmt: skip
