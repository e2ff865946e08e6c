"""Small reward-design problems, worked by hand or generated."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.errors import require
from polytheory.models import make
from polytheory.models.tabular import TabularMDP
from polytheory.reward_design import World, reward_features, world_of


@dataclass(frozen=True, eq=False)
class Case:
    """A model whose rewards are the true ones, features [S, A, m], parameters [m], an entropy weight."""

    model: TabularMDP
    features: Float[np.ndarray, "S A m"]
    nu: Float[np.ndarray, " m"]
    tau: float = 0.5

    @property
    def world(self) -> World:
        """The model as arrays."""
        return world_of(self.model)

    @property
    def access(self) -> KnownModel:
        """The model, known."""
        return KnownModel(self.model)

    @property
    def size(self) -> float:
        """How large a derivative may be, which is what rounding is relative to: two advantages over tau."""
        effective = 1 / (1 - self.model.gamma)
        phi, r = np.abs(self.features).max() * (1 + np.abs(self.nu).sum()), np.abs(self.model.r_at()).max()
        return float((1 + phi) * (1 + r) * effective**3 * (1 + 1 / self.tau))


def three_state(nu: tuple[float, float] = (0.6, -0.4), tau: float = 0.5) -> Case:
    """The worked instance: hypergradient (-0.8697429992, 0.9818468325) at nu = (0.6, -0.4) with ridge 0.05."""
    return Case(make("three-state"), reward_features("three-state", 3, 2), np.array(nu), tau)


def two_layers() -> Case:
    """Every episode ends after two steps: a truncated enumeration misses nothing."""
    P = np.zeros((4, 2, 4))
    P[0] = [[0, 0.75, 0.25, 0], [0, 0.25, 0.5, 0.25]]  # action 1 may end the episode at once
    P[1, :, 3] = P[2, :, 3] = P[3, :, 3] = 1
    r = np.array([[0.0, 0.5], [1.0, -0.5], [0.25, 2.0], [0.0, 0.0]])
    model = TabularMDP(P, r, [0.75, 0.25, 0, 0], gamma=0.8, terminal=[False, False, False, True], name="two layers")
    features = np.array([[[1, 0], [0, 1]], [[0.5, -1], [1, 0]], [[-0.5, 1], [0.25, 0.5]], [[0, 0], [0, 0]]])
    return Case(model, features, np.array([0.8, -0.6]), 0.7)


def coin() -> Case:
    """One state, two actions, two steps of which the second is free: four trajectories."""
    return Case(
        TabularMDP(np.ones((1, 2, 1)), [[0.0, 1.0]], [1.0], gamma=0.5, name="coin"),
        np.array([[[1.0, 0.5], [-0.5, 1.0]]]), np.array([0.3, -0.2]), 0.5,
    )  # fmt: skip


SIDES = (0, 1, 2, 1, 2, 0)  # what the reward sees of each state of the model below: how far, and not on which side


def two_sides(tau: float = 1.0) -> Case:
    """A step to one side, two steps there: action 1 earns 1 to the left and loses 1.1 to the right, action 0 the reverse.

    The designed reward has a number for each stage and action, the same on both sides: no reward of the class is right
    everywhere, and one that is right on either side does for a policy that goes there.
    """
    P = np.zeros((6, 2, 6))
    P[0, 0, 1] = P[0, 1, 3] = P[1, :, 2] = P[3, :, 4] = P[2, :, 5] = P[4, :, 5] = P[5, :, 5] = 1
    r = np.array([[0, 0], [-1, 1], [-1, 1], [1.1, -1.1], [1.1, -1.1], [0, 0]])
    model = TabularMDP(P, r, [1.0, 0, 0, 0, 0, 0], gamma=0.95, terminal=[False] * 5 + [True], name="two sides")
    features = np.eye(6).reshape(3, 2, 6)[list(SIDES)]
    features[5] = 0.0
    return Case(model, features, np.zeros(6), tau)


@lru_cache(maxsize=1)
def worked() -> tuple[Case, ...]:
    """The cases above."""
    return three_state(), two_layers(), coin()


def cases() -> Any:
    """Hypothesis strategy: one state, one action, zero rewards, terminal states, probabilities 0 and 1, gamma 0 included."""
    st = require("hypothesis.strategies", "conform")
    from polytheory.conformance.strategies import tabular_mdps

    quarter = st.integers(-4, 4).map(lambda k: k / 4)

    @st.composite
    def make_case(draw: Any) -> Case:
        model = draw(tabular_mdps(max_states=3, max_actions=3, gamma=draw(st.sampled_from([0.0, 0.5, 0.9]))))
        m = draw(st.integers(1, 3))
        count = model.S * model.A * m
        phi = np.array(draw(st.lists(quarter, min_size=count, max_size=count))).reshape(model.S, model.A, m)
        nu = np.array(draw(st.lists(quarter, min_size=m, max_size=m)))
        return Case(model, phi, nu, draw(st.sampled_from([0.25, 0.5, 2.0])))

    return make_case()


@dataclass(frozen=True, eq=False)
class Bandit:
    """Prompts with probabilities rho [X], a reference policy [X, K], features [X, K, m], true rewards [X, K]."""

    rho: Float[np.ndarray, " X"]
    pi_ref: Float[np.ndarray, "X K"]
    features: Float[np.ndarray, "X K m"]
    r: Float[np.ndarray, "X K"]
    nu: Float[np.ndarray, " m"]
    beta: float

    @property
    def labels(self) -> Float[np.ndarray, "X K K"]:
        """Probability that the first completion is preferred to the second."""
        return 1 / (1 + np.exp(-(self.r[:, :, None] - self.r[:, None, :])))


def two_prompts() -> Bandit:
    """The worked bandit: T1 = (0.0199010951, -0.0350515099), T2 = (-0.0540336114, 0.0144688126)."""
    features = [[[1, 0], [0, 1], [0.5, 0.5]], [[0.2, -0.4], [-1, 0.3], [0.6, 0.8]]]
    return Bandit(
        np.array([0.5, 0.5]), np.array([[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]), np.array(features),
        np.array([[0, 1, 0.3], [0.8, -0.2, 0.1]]), np.array([0.4, -0.3]), 0.5,
    )  # fmt: skip


def tabular_lm() -> Bandit:
    """One prompt, every completion of a tiny language model; features count tokens and lengths."""
    from polytheory.models.tabular_lm import TabularLM

    lm = TabularLM(3, 2)
    logits = np.random.default_rng(3).normal(size=(lm.C, lm.V))
    features = np.array([[y.count(0), y.count(1) - 0.5 * len(y), float(y[0] == 1)] for y in lm.sequences])
    r = lm.reward(lambda y: float(y.count(1) % 2) - 0.25 * len(y))
    return Bandit(np.ones(1), lm.probs(logits)[None], features[None], r[None], np.array([0.3, -0.5, 0.4]), 0.4)


def bandits() -> list[Bandit]:
    """Both of them."""
    return [two_prompts(), tabular_lm()]
