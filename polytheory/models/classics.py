"""Textbook problems with known answers."""

from __future__ import annotations

import numpy as np

from polytheory.errors import SettingError
from polytheory.models.tabular import TabularMDP

WAIT, CUT = 0, 1


def forest(*, S: int = 3, r1: float = 4.0, r2: float = 2.0, p: float = 0.1, gamma: float = 0.9) -> TabularMDP:
    """Forest management, as in pymdptoolbox: wait for the forest to age (fire with probability ``p``) or cut it.

    States are ages 0..S-1; waiting pays ``r1`` in the oldest state, cutting pays 1 in middle ages and ``r2`` in the oldest.

    Known answer at the defaults: always wait, ``V* = (26.244, 29.484, 33.484)``.
    """
    if S < 2 or not 0 <= p <= 1:
        raise SettingError(f"forest(S = {S}, p = {p}); S >= 2 ages and a fire probability p in [0, 1] are needed")
    P, r = np.zeros((S, 2, S)), np.zeros((S, 2))
    older = np.minimum(np.arange(S) + 1, S - 1)
    P[np.arange(S), WAIT, older] = 1 - p
    P[:, WAIT, 0] += p
    P[:, CUT, 0] = 1.0
    r[S - 1, WAIT] = r1
    r[1 : S - 1, CUT] = 1.0
    r[S - 1, CUT] = r2
    return TabularMDP(P, r, np.eye(S)[0], gamma=gamma, name="forest")


def gambler(*, goal: int = 100, p_heads: float = 0.4, gamma: float = 1.0, horizon: int | None = None) -> TabularMDP:
    """The gambler's problem [sutton2018, Example 4.3]: bet on coin flips until ruin or ``goal``.

    State s is the capital; action a stakes ``min(a + 1, s, goal - s)``. Reward 1 on reaching the goal. With gamma = 1 a
    horizon is needed; the default, ``4 * goal``, is long enough to tell optimal stakes apart for p_heads <= 1/2.

    Known answer for ``p_heads <= 1/2`` (bold play is optimal [dubins1965]): from half the goal the best chance is
    ``p_heads``, from a quarter ``p_heads^2``, from three quarters ``p_heads + (1 - p_heads) p_heads``.
    """
    if goal < 2 or not 0 < p_heads < 1:
        raise SettingError(f"gambler(goal = {goal}, p_heads = {p_heads}); goal >= 2 and p_heads in (0, 1) are needed")
    S, A = goal + 1, max(goal // 2, 1)
    P, r = np.zeros((S, A, S)), np.zeros((S, A))
    terminal = np.zeros(S, dtype=bool)
    terminal[[0, goal]] = True
    P[[0, goal], :, [0, goal]] = 1.0
    s = np.arange(1, goal)[:, None]
    stake = np.minimum(np.arange(1, A + 1)[None, :], np.minimum(s, goal - s))
    s, a = np.broadcast_arrays(s, np.arange(A)[None, :])
    P[s, a, s + stake] = p_heads
    P[s, a, s - stake] = 1 - p_heads
    r[s, a] = np.where(s + stake == goal, p_heads, 0.0)
    steps = horizon if horizon is not None or gamma < 1 else 4 * goal
    mu = np.where(terminal, 0.0, 1.0) / (S - 2)
    return TabularMDP(P, r, mu, steps, gamma, terminal, name="gambler")
