"""Models in which a learner that does not plan its exploration fails."""

from __future__ import annotations

import numpy as np

from polytheory.errors import SettingError
from polytheory.models.tabular import TabularMDP


def deep_sea(*, depth: int = 10, cost: float = 0.01, seed: int | None = 0) -> TabularMDP:
    """DeepSea [osband2020]: dive ``depth`` steps; only the diver who goes right at every step finds the treasure.

    The state is the column 0..depth-1, the stage is the row, the start is column 0. RIGHT moves one column to the right, LEFT
    one to the left; the treasure of 1 lies to the right of the last column. In the original every step to the right costs
    ``cost / depth``; here every step to the *left* pays that much instead: all returns grow by ``cost``, rewards are >= 0.
    ``seed`` draws which action is RIGHT, cell by cell; None makes it action 1 everywhere.

    Known answer: ``J* = 1`` for cost <= 1; every policy that misses the treasure earns at most ``cost``. Random exploration
    finds the treasure with probability ``2^-depth``.
    """
    if depth < 1 or not 0 <= cost <= 1:
        raise SettingError(f"deep_sea(depth = {depth}, cost = {cost}); depth >= 1 and cost in [0, 1] are needed")
    shape, column = (depth, depth), np.arange(depth)
    right = np.ones(shape, dtype=int) if seed is None else np.random.default_rng(seed).integers(2, size=shape)
    P, r = np.zeros((depth, depth, 2, depth)), np.zeros((depth, depth, 2))
    for h in range(depth):
        P[h, column, right[h], np.minimum(column + 1, depth - 1)] = 1.0
        P[h, column, 1 - right[h], np.maximum(column - 1, 0)] = 1.0
        r[h, column, 1 - right[h]] = cost / depth
    r[depth - 1, depth - 1, right[depth - 1, depth - 1]] = (
        1.0  # the last column is reached in the last row at the earliest
    )
    # a fourth axis keeps [H, S, A] apart from [S, A, S]
    return TabularMDP(P, np.repeat(r[..., None], depth, axis=-1), np.eye(depth)[0], depth, 1.0, name="deep-sea")


def baited_lock(*, H: int = 6, A: int = 2, bait: float = 0.15) -> TabularMDP:
    """A combination lock that pays for giving up: the right action keeps the lock open, any wrong one pays ``bait`` once.

    State 0 is open, state 1 closed for good. At stage h action ``h mod A`` is right; at the last stage it pays 1.

    Known answer: ``J* = 1`` for bait <= 1; the uniform policy earns ``A^-H + bait (1 - A^-H)``.
    """
    if H < 1 or A < 1 or not 0 <= bait <= 1:
        raise SettingError(f"baited_lock(H = {H}, A = {A}, bait = {bait}); H, A >= 1 and bait in [0, 1] are needed")
    P, r = np.zeros((H, 2, A, 2)), np.zeros((H, 2, A, 2))
    P[:, 1, :, 1] = 1.0
    P[:, 0, :, 1] = 1.0
    r[:, 0] = bait
    h = np.arange(H)
    P[h, 0, h % A] = [1.0, 0.0]
    r[h, 0, h % A] = 0.0
    r[H - 1, 0, (H - 1) % A] = 1.0
    return TabularMDP(P, r, np.eye(2)[0], H, 1.0, name="baited-lock")
