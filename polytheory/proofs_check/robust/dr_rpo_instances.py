"""Worked numbers of linear robust MDPs, random ones, and values by sums over trajectories' laws in place of the recursion."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.models.linear import LinearMDP
from polytheory.models.random_models import random_linear
from polytheory.models.robust_problems import simulated_linear

PRINTED = 6e-11  # of tables with ten decimals
EIGHT = 6e-9  # of tables with eight
ROUNDING = 1e-12  # sums of a few dozen numbers of size 1

# the simulated linear MDP: (kind, radius of every factor) -> value of the start
HOMOGENEOUS = {
    ("tv", 0.0): 1.624250125, ("tv", 0.2): 1.159350125, ("tv", 0.5): 0.593250125, ("kl", 0.1): 1.5970685522,
    ("kl", 0.5): 1.5314077817, ("kl", 1.0): 1.4652594878, ("chi2", 0.2): 1.6136773367, ("chi2", 1.0): 1.6006776808,
    ("penalised-tv", 0.5): 0.49975, ("penalised-tv", 1.0): 0.9995, ("penalised-tv", 2.0): 1.624250125,
    ("penalised-kl", 0.5): 1.6220078754, ("penalised-kl", 1.0): 1.6235948131, ("penalised-chi2", 0.5): 1.6238288981,
    ("penalised-chi2", 1.0): 1.6240395018,
}  # fmt: skip
# the same with eta = 0.1: value of the start and probability of the largest pull there
REGULARISED = {
    ("tv", 0.2): (0.9310508835, 0.21778718), ("tv", 0.5): (0.4622678908, 0.13343225), ("kl", 0.5): (1.2410039857, 0.34180765),
    ("chi2", 1.0): (1.3052169306, 0.30764171), ("penalised-kl", 1.0): (1.3268558931, 0.29643673),
}  # fmt: skip
# only what follows state 4 is uncertain, total variation 0.5: eta -> value, probability of the smallest pull
ONE_FACTOR = {
    0.01: (1.1633000129, 0.62158010), 0.1: (0.9760800616, 0.05832726), 1.0: (0.8789173633, 0.06036314),
    100.0: (0.8664134976, 0.06247615),
}  # fmt: skip
# total variation 0.3 by eta; eta = 0.1 by radius of total variation, and by price of relative entropy
BY_ETA = {0.0: 0.95315012, 0.001: 0.94906984, 0.01: 0.91261656, 0.1: 0.75827205, 1.0: 0.68756923, 10.0: 0.67929658}
BY_RADIUS = {0.0: 1.32727907, 0.1: 1.12065176, 0.2: 0.93105088, 0.4: 0.60209082, 0.8: 0.13844320, 1.0: 0.0}
BY_PRICE = {0.01: 0.81144678, 0.1: 1.16010263, 1.0: 1.32685589, 10.0: 1.32724782, 1000.0: 1.32727877}
# return after a collapse of probability 0, 0.2 .. 1: planned nominally, for one factor with 0.5, and that with eta = 0.05
COLLAPSES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
AFTER_COLLAPSE = (
    (0.0, 0.0, (1.624875, 1.424875, 1.224875, 1.024875, 0.824875, 0.624875)),
    (0.5, 0.0, (1.324775, 1.284775, 1.244775, 1.204775, 1.164775, 1.124775)),
    (0.5, 0.05, (1.431852, 1.316748, 1.201643, 1.086539, 0.971435, 0.856330)),
)


def one_factor(radius: float, elsewhere: float = 0.0) -> Float[np.ndarray, "3 4"]:
    """Radii of the simulated linear MDP: ``radius`` for what follows state 4 at the first stage."""
    radii = np.full((3, 4), elsewhere)
    radii[0, 3] = radius
    return radii


@lru_cache(maxsize=1)
def nominal() -> LinearMDP:
    """The simulated linear MDP."""
    return simulated_linear()


@dataclass(frozen=True, eq=False)
class Regression:
    """Data of one stage: ``phi`` [m, d], one transition each into the state of the same number, with values ``v`` [m]."""

    phi: Float[np.ndarray, "m d"]
    v: Float[np.ndarray, " m"]
    top: float = 3.0

    def counts(self) -> tuple[Int[np.ndarray, "m 1"], Int[np.ndarray, "m 1 m"], Float[np.ndarray, "m 1 d"]]:
        """The same as tables of visits and transitions, and features [S, 1, d]."""
        m = len(self.v)
        return np.ones((m, 1), np.int64), np.eye(m, dtype=np.int64)[:, None], self.phi[:, None]


def five_samples() -> Regression:
    """Five transitions, two factors."""
    phi = np.array([[1.0, 0.0], [0.5, 0.5], [0.0, 1.0], [0.25, 0.75], [1.0, 0.0]])
    return Regression(phi, np.array([2.0, 1.0, 0.0, 3.0, 1.0]))


@dataclass(frozen=True, eq=False)
class DataCase:
    """Random episodes of a random linear MDP: counts ``n`` [H, S, A], ``N`` [H, S, A, S], and a problem to plan for."""

    model: LinearMDP
    n: Int[np.ndarray, "H S A"]
    N: Int[np.ndarray, "H S A S"]
    kind: str
    radius: float
    eta: float

    @property
    def r(self) -> Float[np.ndarray, "H S A"]:
        """Known rewards."""
        return np.einsum("sad,hd->hsa", self.model.phi, self.model.theta)

    @property
    def caps(self) -> Float[np.ndarray, " H"]:
        """What is left to earn."""
        H = int(self.model.horizon or 0)
        return np.arange(H, 0, -1.0)


@lru_cache(maxsize=1)
def data_cases() -> tuple[DataCase, ...]:
    """One for every kind and both a regularised and a greedy learner; from few samples to many."""
    rng, found = np.random.default_rng(4), []
    kinds = (
        ("tv", 0.3),
        ("chi2", 0.4),
        ("penalised-tv", 0.5),
        ("penalised-kl", 1.0),
        ("penalised-chi2", 0.5),
        ("kl", 0.3),
    )
    for i, (kind, radius) in enumerate(kinds):
        model = random_linear(S=4, A=3, d=3, horizon=3, seed=i)
        n, N = np.zeros((3, 4, 3), np.int64), np.zeros((3, 4, 3, 4), np.int64)
        at = np.array([(10, 300, 10_000)[i % 3], 0, 0, 0])  # episodes in every state
        for h in range(3):
            for s in range(4):
                n[h, s] = rng.multinomial(at[s], np.full(3, 1 / 3))
            after = np.array([[rng.multinomial(n[h, s, a], model.kernel[h, s, a]) for a in range(3)] for s in range(4)])
            N[h], at = after if h < 2 else 0, after.sum((0, 1))
        found.append(DataCase(model, n, N, kind, radius, (0.1, 0.0)[i % 2]))
    return tuple(found)


def expected_sum(
    model: LinearMDP, policy: Float[np.ndarray, "H S A"], factors: Float[np.ndarray, "H d S"],
    paid: Float[np.ndarray, "H S A"],
) -> float:  # fmt: skip
    """``E sum_h paid_h(s_h, a_h)`` under a policy and factors, by the laws of the states forward in time."""
    law, total = model.mu, 0.0
    for h in range(len(policy)):
        both = law[:, None] * policy[h]
        total += float((both * paid[h]).sum())
        law = np.einsum("sa,sad,dx->x", both, model.phi, factors[h])
    return total


def within(rng: np.random.Generator, kind: str, size: float, p: Any) -> tuple[np.ndarray, np.ndarray]:
    """A random law for every row of ``p`` inside the ball, and what it costs at the price ``size`` (0 for balls)."""
    other = rng.dirichlet(np.full(p.shape[-1], 0.5), p.shape[0])
    if "tv" not in kind:
        other = other * (p > 0)
        other = other / other.sum(-1, keepdims=True)
    if kind.startswith("penalised"):
        return other, size * distance(kind.removeprefix("penalised-"), other, p)
    share = np.ones(len(p))
    for _ in range(60):  # towards the nominal law until inside: balls are convex
        mixed = p + share[:, None] * (other - p)
        share = np.where(distance(kind, mixed, p) <= size, share, share * 0.8)
    mixed = p + share[:, None] * (other - p)
    return np.where((distance(kind, mixed, p) <= size)[:, None], mixed, p), np.zeros(len(p))


def distance(kind: str, q: np.ndarray, p: np.ndarray) -> np.ndarray:
    """Total variation, relative entropy or chi-square of rows, by definition; q is 0 where p is, but for the first."""
    if kind == "tv":
        return np.abs(q - p).sum(-1) / 2
    safe = np.where(p > 0, p, 1.0)
    if kind == "kl":
        return np.where(q > 0, q * np.log(np.where(q > 0, q, 1.0) / safe), 0.0).sum(-1)
    return np.where(p > 0, (q - p) ** 2 / safe, 0.0).sum(-1)
