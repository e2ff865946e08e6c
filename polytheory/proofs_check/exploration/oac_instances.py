"""Small episodic models, learners on them, and exact numbers to compare with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Online
from polytheory.errors import require
from polytheory.models.linear import LinearMDP
from polytheory.models.random_models import random_linear
from polytheory.models.registry import make
from polytheory.models.tabular import TabularMDP

ROUNDING = (
    1e-10  # sums of at most a few hundred terms of size at most H, each off by 1e-16 times condition numbers below 1e3
)


@dataclass(frozen=True, eq=False)
class World:
    """A model, features or None, and settings of the learners on it."""

    model: TabularMDP
    phi: Float[np.ndarray, "S A d"] | None = None
    settings: dict[str, Any] = field(default_factory=dict)

    def online(self, **options: Any) -> Online:
        """Episodes, with rewards known unless said otherwise."""
        return Online(self.model, **{"known_rewards": True, **options})


def m0() -> TabularMDP:
    """H = 3, two states, two actions; ``V*_1 = (1.376, 2.608)``."""
    P = [[[0.9, 0.1], [0.4, 0.6]], [[0.7, 0.3], [0.2, 0.8]]]
    return TabularMDP(P, [[0.2, 0.0], [0.0, 1.0]], [1.0, 0.0], 3, 1.0, name="two states, three stages")


def linear_world() -> World:
    """A random linear MDP of 5 states, 3 actions, 3 features, 3 stages."""
    made: LinearMDP = random_linear(S=5, A=3, d=3, horizon=3, seed=7)
    return World(made.to_tabular(), made.phi)


def worlds() -> list[World]:
    """Tables and features; certain and uncertain transitions; episodes that end early."""
    return [
        World(m0()),
        World(make("combination-lock", H=3)),
        World(make("baited-lock", H=3), settings={"value_bound": 1.2}),
        World(make("riverswim", S=3, horizon=4)),
        linear_world(),
    ]


def lift(room: Any, x: Any) -> Any:
    """A table as this room's parts take it: a leading replica axis in the scaled room."""
    return x if room.name == "reference" else np.asarray(x)[None]


def lower(room: Any, x: Any) -> Any:
    """The inverse of `lift`."""
    return np.asarray(x) if room.name == "reference" else np.asarray(x)[0]


def random_table(draw: Any, shape: tuple[int, ...], low: float = 0.0, high: float = 1.0) -> np.ndarray:
    """Numbers of a coarse grid in [low, high], so that ties and ends are common."""
    st = require("hypothesis.strategies", "conform")
    size = int(np.prod(shape))
    k = draw(st.lists(st.integers(0, 8), min_size=size, max_size=size))
    return low + (high - low) * np.array(k, dtype=float).reshape(shape) / 8


@dataclass(frozen=True, eq=False)
class Pieces:
    """A model with a critic and two policies that have nothing to do with it."""

    model: TabularMDP
    f: np.ndarray
    pi: np.ndarray
    other: np.ndarray


def pieces() -> Any:
    """Hypothesis strategy: one state, one action, zero rewards, certain transitions included."""
    st = require("hypothesis.strategies", "conform")

    @st.composite
    def make_pieces(draw: Any) -> Pieces:
        H, S, A = draw(st.integers(1, 4)), draw(st.integers(1, 3)), draw(st.integers(1, 3))

        def laws(*shape: int) -> np.ndarray:
            weights = random_table(draw, shape)
            weights[..., 0] += weights.sum(-1) == 0
            return weights / weights.sum(-1, keepdims=True)

        r = random_table(draw, (H, S, A))
        model = TabularMDP(laws(H, S, A, S), np.repeat(r[..., None], S, -1), laws(1, S)[0], H, 1.0, name="generated")
        return Pieces(model, random_table(draw, (H, S, A), -1.0, 3.0), laws(H, S, A), laws(H, S, A))

    return make_pieces()


def trajectory_sum(model: TabularMDP, pi: np.ndarray, x: np.ndarray) -> float:
    """``E_pi sum_h x_h(s_h, a_h)`` by listing all paths of positive probability."""
    total, paths = 0.0, [(float(p), int(s)) for s, p in enumerate(model.mu) if p > 0]
    for h in range(len(pi)):
        after = []
        P = np.asarray(model.P_at(h))
        for p, s in paths:
            for a in range(model.A):
                q = p * pi[h, s, a]
                if q > 0:
                    total += q * x[h, s, a]
                    after += [(q * P[s, a, y], y) for y in range(model.S) if P[s, a, y] > 0]
        paths = after
    return total
