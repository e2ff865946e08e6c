"""Small models on which the claims of planning are checked: worked examples by hand, and generated ones.

Generated probabilities are multiples of 1/8 and rewards multiples of 1/8, so that rows sum to 1 exactly and rational
arithmetic stays short. The ugly ones are included: one state, one action, zero and equal rewards, terminal states,
probabilities 0 and 1, gamma 0 and near 1.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.errors import require
from polytheory.models.tabular import TabularMDP

GAMMAS = (0.0, 0.5, 0.8, 0.9, 0.99, 0.999)


@dataclass(frozen=True, eq=False)
class Case:
    """A discounted model, two value vectors [S] and a constant."""

    model: TabularMDP
    v: Float[np.ndarray, " S"]
    w: Float[np.ndarray, " S"]
    shift: float

    @property
    def access(self) -> KnownModel:
        """The model with everything granted."""
        return KnownModel(self.model)


def two_state() -> TabularMDP:
    """Two states, gamma 0.8; action 1 everywhere is optimal: V* = (80/23, 105/23), J* = 90/23 = 3.913043478261."""
    return TabularMDP(
        [[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]]], [[0.1, 0.0], [0.5, 1.0]], [0.6, 0.4], gamma=0.8,
        name="two-state",
    )  # fmt: skip


def puterman() -> TabularMDP:
    """The two-state example of [puterman2005, sec. 3.1], gamma 0.95: V* = (-60/7, -20), staying is optimal."""
    return TabularMDP(
        [[[0.5, 0.5], [0.0, 1.0]], [[0.0, 1.0], [0.0, 1.0]]], [[5.0, 10.0], [-1.0, -1.0]], [0.5, 0.5], gamma=0.95,
        name="puterman",
    )  # fmt: skip


def worked() -> list[Case]:
    """The examples with known answers."""
    return [
        Case(two_state(), np.array([1.0, -2.0]), np.array([0.5, 3.0]), 4.0),
        Case(puterman(), np.array([-8.0, -20.0]), np.array([0.0, 1.0]), -3.0),
    ]


def cases() -> Any:
    """Strategy: `Case` with at most 4 states and 3 actions."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> Case:
        S, A = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        P = np.array([[draw_row(draw, S) for _ in range(A)] for _ in range(S)])
        r = draw_rewards(draw, (S, A))
        terminal = np.zeros(S, dtype=bool)
        if draw(st.booleans()) and S > 1:
            terminal[-1], P[-1], r[-1] = True, np.eye(S)[-1], 0.0
        model = TabularMDP(P, r, np.full(S, 1 / S), gamma=draw(st.sampled_from(GAMMAS)), terminal=terminal)
        v, w = (np.array(draw(st.lists(st.integers(-64, 64), min_size=S, max_size=S))) / 8 for _ in range(2))
        return Case(model, v, w, draw(st.integers(1, 64)) / 4 * draw(st.sampled_from((1, -1))))

    return build()


def staged_cases() -> Any:
    """Strategy: models with a horizon of at most 3 whose transitions and rewards change with the stage."""
    st = require("hypothesis", "conform").strategies

    @st.composite
    def build(draw: Any) -> TabularMDP:
        H, S, A = draw(st.integers(1, 3)), draw(st.integers(1, 2)), draw(st.integers(1, 2))
        P = np.array([[[draw_row(draw, S) for _ in range(A)] for _ in range(S)] for _ in range(H)])
        # by transition, because [H, S, A] would be read as [S, A, S] where H = S = A
        r = np.repeat(draw_rewards(draw, (H, S, A))[..., None], S, axis=-1)
        return TabularMDP(P, r, np.full(S, 1 / S), horizon=H, gamma=draw(st.sampled_from((0.5, 0.9, 1.0))))

    return build()


def staged_worked() -> list[TabularMDP]:
    """Three stages, two states; by hand V*_2 = (3, 0.5), V*_1 = (3.2, 2.95), V*_0 = (3.655, 2.88)."""
    to_0, to_1 = [1.0, 0.0], [0.0, 1.0]
    P = np.array([[[to_0, to_1], [to_1, to_0]]] * 2 + [[[to_1, to_0], [to_0, to_1]]])
    r = np.array([[[0.0, 1.0], [0.0, 0.0]], [[0.5, 1.0], [0.0, 0.25]], [[3.0, 0.0], [0.0, 0.5]]])
    return [TabularMDP(P, r, [0.5, 0.5], horizon=3, gamma=0.9, name="staged")]


def draw_row(draw: Any, S: int) -> Float[np.ndarray, " S"]:
    """A distribution of multiples of 1/8: eight tokens dropped on the states, or all on one."""
    st = require("hypothesis", "conform").strategies
    tokens = (
        draw(st.lists(st.integers(0, S - 1), min_size=8, max_size=8))
        if draw(st.booleans())
        else [draw(st.integers(0, S - 1))]
    )
    return np.bincount(tokens, minlength=S) / len(tokens)


def draw_rewards(draw: Any, shape: tuple[int, ...]) -> np.ndarray:
    """Rewards in [-4, 4] in steps of 1/8; all zero or all equal now and then."""
    st = require("hypothesis", "conform").strategies
    kind = draw(st.sampled_from(("any", "any", "any", "zero", "equal")))
    n = int(np.prod(shape))
    values = (
        draw(st.lists(st.integers(-32, 32), min_size=n, max_size=n)) if kind == "any" else [8 * (kind == "equal")] * n
    )
    return np.reshape(np.array(values) / 8, shape)
