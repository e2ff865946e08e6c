"""Small models where the best return law depends on what was collected so far."""

from __future__ import annotations

import numpy as np

from polytheory.errors import SettingError
from polytheory.models.stock import VectorMDP
from polytheory.models.tabular import RewardAtoms, TabularMDP


def wager(*, gamma: float = 1.0, horizon: int | None = 3) -> TabularMDP:
    """Two states, two actions, rewards 0 to 4: a sure 2 or a risky 4, then a consolation.

    Known answers at gamma = 1 and horizon 3, from state 0: the best CVaR at 1/4 is 5 (initial stock -6), the best policy
    without a stock reaches 19/4, the risk-neutral one 27/8; the best mean is 129/16.
    """
    P = np.zeros((2, 2, 2))
    r = np.zeros((2, 2, 2))
    for s, a, outcomes in (
        (0, 0, ((3 / 4, 2, 0), (1 / 4, 2, 1))),
        (0, 1, ((3 / 4, 4, 0), (1 / 4, 0, 1))),
        (1, 0, ((1 / 2, 1, 0), (1 / 2, 0, 1))),
        (1, 1, ((1 / 4, 0, 0), (3 / 4, 2, 1))),
    ):
        for p, reward, after in outcomes:
            P[s, a, after], r[s, a, after] = p, reward
    return TabularMDP(P, r, np.array([1.0, 0.0]), horizon, gamma, name="wager")


def long_shot() -> TabularMDP:
    """One choice: 10 with probability 1/8, else nothing (action 0), or 5 for sure (action 1).

    Known answer: the mean of the best quarter of returns is 5 for either action, and 50/7 when the first is drawn with
    probability 6/7 before the episode.
    """
    P, r = np.zeros((2, 2, 2)), np.zeros((2, 2, 2))
    P[0, 0], P[0, 1, 0], P[1, :, 1] = (7 / 8, 1 / 8), 1.0, 1.0
    r[0, 0, 1], r[0, 1, 0] = 10.0, 5.0
    return TabularMDP(P, r, np.array([1.0, 0.0]), 1, name="long-shot")


def two_needs(*, horizon: int | None = 6, gamma: float = 1.0, cost: float = 0.25) -> VectorMDP:
    """Two needs: action 0 feeds the first by 1, action 1 feeds the second by 1 and with probability ``cost`` takes 1 from the
    first (state 1: the last step did). Its scalar reward is the sum.

    Known answer at horizon 6: kept near (3, 3) the expected distance is 41/64.

    Raises `SettingError` unless cost lies in [0, 1].
    """
    if not 0 <= cost <= 1:
        raise SettingError(f"cost = {cost}; a probability lies in [0, 1]")
    P = np.array([[[1.0, 0.0], [1 - cost, cost]]] * 2)
    rewards = np.zeros((2, 2, 2, 2))
    rewards[:, 0, :, 0], rewards[:, 1, :, 1], rewards[:, 1, 1, 0] = 1.0, 1.0, -1.0
    return VectorMDP(P, rewards.sum(-1), np.array([1.0, 0.0]), horizon, gamma, name="two-needs", rewards=rewards)


def toll_road(
    *, crossings: int = 6, toll: float = 4.0, chance: float = 0.25, detour: float = 3.0, gamma: float = 1.0
) -> TabularMDP:
    """A road with crossings: the bridge (action 0) costs 1, and ``toll`` more with probability ``chance``; the detour
    (action 1) costs ``detour`` and never a toll.

    State i is crossing i, the last state is home, the horizon is the number of crossings. A policy without a stock does not
    know what it has paid, so that it fixes beforehand where it will drive around; with a stock it takes risks until the
    first toll, or after it, as the objective asks.

    Raises `SettingError` unless crossings >= 1, toll and detour >= 0, and chance lies in [0, 1].
    """
    if crossings < 1 or min(toll, detour) < 0 or not 0 <= chance <= 1:
        raise SettingError(
            f"crossings = {crossings}, toll = {toll}, chance = {chance}, detour = {detour}; crossings >= 1, costs >= 0, "
            "chance in [0, 1]"
        )
    S = crossings + 1
    P = np.repeat(np.eye(S, k=1)[:, None], 2, axis=1)
    P[-1, :, -1] = 1.0
    probs = np.zeros((S, 2, 4))
    probs[:-1, 0, 1:3], probs[:-1, 1, 3], probs[-1, :, 0] = (1 - chance, chance), 1.0, 1.0
    values = np.array([0.0, -1.0, -1.0 - toll, -detour])
    return TabularMDP(
        P, probs @ values, np.eye(S)[0], crossings, gamma, np.arange(S) == crossings, RewardAtoms(values, probs),
        name="toll-road",
    )  # fmt: skip
