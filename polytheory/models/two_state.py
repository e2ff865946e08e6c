"""Models with two states, small enough to solve by hand."""

from __future__ import annotations

import numpy as np

from polytheory.models.tabular import TabularMDP

_P = ((((0.9, 0.1), (0.2, 0.8))), ((0.7, 0.3), (0.1, 0.9)))


def two_state(*, gamma: float = 0.8, horizon: int | None = None) -> TabularMDP:
    """Two states, two actions; action 1 pays off in the long run.

    Known answer at gamma = 0.8: take action 1 everywhere, ``J* = mu . V* = 3.913043478261`` (= 90/23).
    """
    return TabularMDP(
        np.array(_P), np.array([[0.1, 0.0], [0.5, 1.0]]), np.array([0.6, 0.4]), horizon, gamma, name="two-state"
    )


def two_state_misspecified(*, gamma: float = 0.8, horizon: int | None = None) -> TabularMDP:
    """The same transitions with rewards that ask for different actions in the two states.

    Known answer at gamma = 0.8: the policy (0, 1) earns 1 in every step, ``J* = 5``; a policy with one shared logit cannot
    express it.
    """
    return TabularMDP(np.array(_P), np.eye(2), np.array([0.6, 0.4]), horizon, gamma, name="two-state-misspecified")


def puterman(*, gamma: float = 0.95) -> TabularMDP:
    """The two-state example of [puterman2005, sec. 3.1].

    State 0 offers action 0 (reward 5, stay or move with probability 1/2) and action 1 (reward 10, move to state 1); state
    1 pays -1 and keeps the process. The book gives state 1 one action; here both of its actions are that one.

    Known answer: ``V*(1) = -1/(1-gamma)``; in state 0 action 0 is worth
    ``(5 - 0.5 gamma/(1-gamma)) / (1 - 0.5 gamma)`` and action 1 is worth ``10 - gamma/(1-gamma)``. They tie at
    gamma = 10/11: below it action 1 is optimal, above it action 0. At gamma = 0.95: V* = (-60/7, -20).
    """
    P = np.array([[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]])
    r = np.array([[5.0, 10.0], [-1.0, -1.0]])
    return TabularMDP(P, r, np.array([1.0, 0.0]), gamma=gamma, name="puterman")
