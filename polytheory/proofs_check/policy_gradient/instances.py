"""Small models and policies on which every trajectory can be listed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.errors import require
from polytheory.models.tabular import TabularMDP
from polytheory.reference.policy_gradient.exact import enumerate_trajectories
from polytheory.reference.policy_gradient.softmax import LinearSoftmax
from polytheory.trajectories import Trajectories


@dataclass(frozen=True, eq=False)
class Case:
    """A model, softmax features [S, A, d], two parameter vectors [d], and a cut-off."""

    model: TabularMDP
    features: Float[np.ndarray, "S A d"]
    theta: Float[np.ndarray, " d"]
    other: Float[np.ndarray, " d"]
    truncation: int

    def reference(self, theta: Float[np.ndarray, " d"] | None = None) -> LinearSoftmax:
        """The reference policy at ``theta`` (default: the case's own)."""
        return LinearSoftmax(self.features, self.theta if theta is None else theta)

    def policy(self, room: Any, theta: Float[np.ndarray, " d"] | None = None) -> Any:
        """The room's own policy object."""
        theta = self.theta if theta is None else theta
        return room.part("LinearSoftmax")(room.inward(self.features), room.inward(room.batch(theta)))

    def trajectories(self, theta: Float[np.ndarray, " d"] | None = None) -> tuple[np.ndarray, Trajectories]:
        """Probabilities and all trajectories under ``theta``."""
        return enumerate_trajectories(self.model, self.reference(theta), self.truncation)

    def at(self, **changes: Any) -> Case:
        """The same case with fields replaced."""
        return replace(self, **changes)


def one_logit(n_states: int) -> Float[np.ndarray, "S 2 S"]:
    """Features of one logit per state."""
    return np.stack([np.zeros((n_states, n_states)), np.eye(n_states)], axis=1)


def case_a(theta: tuple[float, float] = (0.3, -0.5), truncation: int = 4) -> Case:
    """Two states, two actions, one logit per state: ``J* = 3.913043478261`` (action 1 everywhere)."""
    P = [[[0.9, 0.1], [0.2, 0.8]], [[0.7, 0.3], [0.1, 0.9]]]
    model = TabularMDP(P, [[0.1, 0.0], [0.5, 1.0]], [0.6, 0.4], gamma=0.8, name="two states")
    return Case(model, one_logit(2), np.array(theta), np.array([0.9, 0.2]), truncation)


def case_shared(x: float = 0.0) -> Case:
    """One logit for both states where the best policy differs by state: ``J* = 5``, ``eps_bias = 1/4`` at x = 0."""
    model = TabularMDP(case_a().model.P, [[1.0, 0.0], [0.0, 1.0]], [0.6, 0.4], gamma=0.8, name="shared logit")
    features = np.zeros((2, 2, 1))
    features[:, 1] = 1
    return Case(model, features, np.array([x]), np.array([x + 0.5]), 4)


def case_ends() -> Case:
    """Three actions, transition rewards, and a terminal state that is reached after 1, 2, ... steps."""
    P = np.zeros((3, 3, 3))
    P[0] = [[0.5, 0.25, 0.25], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
    P[1] = [[1.0, 0.0, 0.0], [0.0, 0.5, 0.5], [0.25, 0.0, 0.75]]
    P[2, :, 2] = 1
    r = np.arange(27).reshape(3, 3, 3) / 9 - 1
    r[2] = 0
    features = np.array([[[1, 0], [0, 1], [1, 1]], [[0, 2], [1, 0], [-1, 1]], [[3, 1], [0, 0], [1, 2]]], dtype=float)
    model = TabularMDP(P, r, [0.75, 0.25, 0.0], gamma=0.9, terminal=[False, False, True], name="ends early")
    return Case(model, features, np.array([0.2, -0.4]), np.array([-0.5, 0.3]), 3)


def worked() -> list[Case]:
    """The cases above."""
    return [case_a(), case_ends(), case_shared(0.7)]


def cases(max_trajectories: int = 2000) -> Any:
    """Hypothesis strategy of cases: one state, one action, zero rewards, probabilities 0 and 1, gamma 0 included."""
    st = require("hypothesis.strategies", "conform")
    small = st.integers(-8, 8).map(lambda k: k / 4)

    def vector(n: int) -> Any:
        return st.lists(small, min_size=n, max_size=n).map(np.array)

    def law(n: int) -> Any:
        weights = st.lists(st.integers(0, 4), min_size=n, max_size=n).filter(any)
        return weights.map(lambda w: np.array(w) / sum(w))

    @st.composite
    def make(draw: Any) -> Case:
        S, A, d = draw(st.integers(1, 3)), draw(st.integers(1, 3)), draw(st.integers(1, 3))
        most = max(1, int(np.log(max_trajectories) / np.log(max(S * A, 2))))
        H = draw(st.integers(1, min(4, most)))
        P = np.array([[draw(law(S)) for _ in range(A)] for _ in range(S)])
        r = draw(vector(S * A)).reshape(S, A) / 2
        gamma = draw(st.sampled_from([0.0, 0.5, 0.9, 0.99]))
        model = TabularMDP(P, r, draw(law(S)), gamma=gamma, name="generated")
        features = draw(vector(S * A * d)).reshape(S, A, d)
        return Case(model, features, draw(vector(d)), draw(vector(d)), H)

    return make()
