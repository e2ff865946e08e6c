"""A finite MDP as what decides the law of its returns: successors with their rewards, in floats or in Fractions.

Rewards may be vectors, which a `TabularMDP` cannot hold. The stock c of a state is what was collected so far in the units of
what is to come: it starts at ``c_0`` and moves by ``c' = (c + r) / gamma``, so that ``c_0 + G_0 = gamma^t (c_t + G_t)``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp

from polytheory._show import compact
from polytheory._typing import Array, Bool, Int
from polytheory.errors import NotStochasticError, ShapeError
from polytheory.models._arrays import frozen
from polytheory.models.objectives import as_fraction
from polytheory.models.tabular import TabularMDP

SETTLED, FALLS = 1e-9, 10_000  # when a bound on returns has fallen far enough, relative to 1 + the largest reward
LARGEST = 4001  # nodes of a lattice that returns are kept on without error


@dataclass(frozen=True, eq=False)
class VectorMDP(TabularMDP):
    """A model that pays several quantities: ``rewards`` [S, A, S, m]; ``r`` is what it pays where one number is asked for.

    Raises `ShapeError` for another shape of ``rewards``.
    """

    rewards: Array = None

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "rewards", frozen(self.rewards, float))
        check_vectors(self.rewards, self.S, self.A)


def check_vectors(rewards: Array, S: int, A: int) -> None:
    """Raise `ShapeError` unless vector rewards are [S, A, S, m]."""
    if rewards.ndim != 4 or rewards.shape[:3] != (S, A, S):
        raise ShapeError(f"rewards must be [S, A, S, m] = [{S}, {A}, {S}, m]; got {list(rewards.shape)}")


@dataclass(frozen=True, eq=False)
class StockProblem:
    """States, actions and outcomes.

    Fields, with a leading axis of L = H stages (1 for a stationary model):
        next_state [L, S, A, K]; prob [L, S, A, K], 0 on padding; reward [L, S, A, K], or [L, S, A, K, m] for vectors; mu [S];
        terminal [S], where the return is 0; horizon; gamma.

    prob, reward, mu and gamma are float64, or Fractions in arrays of objects.
    """

    next_state: Int[np.ndarray, "L S A K"]
    prob: Array
    reward: Array
    mu: Array
    terminal: Bool[np.ndarray, " S"]
    horizon: int | None
    gamma: Any
    name: str = "stock"

    __repr__ = compact

    @property
    def S(self) -> int:
        """Number of states."""
        return self.next_state.shape[1]

    @property
    def A(self) -> int:
        """Number of actions."""
        return self.next_state.shape[2]

    @property
    def m(self) -> int | None:
        """Length of vector rewards, None for numbers."""
        return self.reward.shape[4] if self.reward.ndim == 5 else None

    @cached_property
    def coordinates(self) -> tuple[StockProblem, ...]:
        """The problem with one of the quantities that it pays alone, for each of them."""
        if self.m is None:
            return (self,)
        return tuple(replace(self, reward=self.reward[..., i]) for i in range(self.m))

    @property
    def farthest(self) -> float:
        """Bound on the size of a return (vectors: the sum of the sizes of its entries)."""
        return sum(max(abs(x) for x in one.returns) for one in self.coordinates)

    @property
    def is_exact(self) -> bool:
        """True when the numbers are Fractions."""
        return self.prob.dtype == object

    def stage(self, h: int) -> int:
        """Index of stage h in the leading axis."""
        return h if len(self.next_state) > 1 else 0

    @cached_property
    def returns(self) -> tuple[float, float]:
        """Bounds on the return of any policy from any state and stage (scalar rewards), met up to 1e-9 of their size."""
        low, high = (self._extreme(sign) for sign in (-1.0, 1.0))
        return -low, high

    def _extreme(self, sign: float) -> float:
        """Largest possible return of ``sign`` times the rewards, at least 0 for a state at its end."""
        gamma, H = float(self.gamma), self.horizon
        pays = self.prob > 0
        reward = np.where(pays, sign * self.reward.astype(float), -np.inf)
        size = float(np.max(np.abs(reward[pays])))
        # without a horizon the bound falls from a crude one, so that it is a bound whenever it stops
        v = np.where(self.terminal, 0.0, 0.0 if H is not None else size / (1 - gamma))
        top = float(v.max()) if H is None else 0.0
        for h in reversed(range(FALLS if H is None else H)):
            i = self.stage(h if H is not None else 0)
            after = np.where(self.terminal, 0.0, (reward[i] + gamma * v[self.next_state[i]]).max((1, 2)))
            still = H is None and np.max(np.abs(after - v)) <= SETTLED * (1 + size)
            v = after
            top = float(v.max()) if H is None else max(top, float(v.max()))
            if still:
                break
        return top if H is not None else max(top, 0.0) + SETTLED * (1 + size) * (not self.terminal.all())

    @cached_property
    def spacing(self) -> float | None:
        """Largest step of which all rewards are multiples, for gamma = 1: returns and stocks then stay on a lattice without
        error. None where there is none that needs at most 4001 nodes."""
        if self.gamma != 1 or self.reward.ndim != 4:
            return None
        step = Fraction(0)
        for x in np.unique(self.reward[self.prob > 0]):
            step = _common(step, as_fraction(x))
        low, high = self.returns
        if step == 0:
            return 1.0
        return float(step) if (high - low) / float(step) < LARGEST else None


def _common(a: Fraction, b: Fraction) -> Fraction:
    """Largest number of which both are multiples."""
    while b:
        a, b = b, a % b
    return abs(a)


_MADE: WeakKeyDictionary[TabularMDP, dict[Any, StockProblem]] = WeakKeyDictionary()


def stock_problem(model: TabularMDP, *, exact: bool = False, rewards: Array | None = None) -> StockProblem:
    """The outcomes of a model.

    Args:
        exact: read every number as the nearest Fraction with a denominator up to 10^6.
        rewards: vector rewards of transitions ``[S, A, S, m]`` in place of the model's own.

    Raises:
        NotStochasticError: as Fractions, some probabilities do not sum to 1. ShapeError: ``rewards`` has another shape.
    """
    known = _MADE.setdefault(model, {})
    key = exact, None if rewards is None else (np.shape(rewards), np.asarray(rewards, dtype=float).tobytes())
    if key in known:
        return known[key]
    stages = [_outcomes(model, h, rewards) for h in range(model.horizon or 1 if model.is_staged else 1)]
    K = max(x[0].shape[-1] for x in stages)
    next_state, prob, reward = (np.stack([_pad(x[i], K) for x in stages]) for i in range(3))
    gamma, mu = model.gamma, np.array(model.mu)
    if exact:
        prob, reward, mu, gamma = *(fractions(x) for x in (prob, reward, mu)), as_fraction(gamma)
        for what, sums in (("transition probabilities", prob.sum(-1)), ("mu", mu.sum(-1))):
            if (np.asarray(sums) != 1).any():
                raise NotStochasticError(f"{what} of {model.name} do not sum to 1 as Fractions; solve it in floats")
    known[key] = StockProblem(
        next_state, prob, reward, mu, np.asarray(model.terminal), model.horizon, gamma, model.name
    )
    return known[key]


def fractions(x: Array) -> Array:
    """The array with every entry as a Fraction."""
    out = np.empty(np.shape(x), dtype=object)
    out.ravel()[:] = [as_fraction(float(y)) for y in np.ravel(x)]
    return out


def _outcomes(model: TabularMDP, h: int, rewards: Array | None) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Successor, probability and reward of every (s, a), ``[S, A, K]``."""
    P, S, A = model.P_at(h), model.S, model.A
    dense = np.asarray(P.toarray() if sp.issparse(P) else P, dtype=float).reshape(S, A, S)
    r = model.r[h] if model._r_staged else model.r
    r = np.asarray(r.toarray() if sp.issparse(r) else r, dtype=float)
    paid = r.reshape(S, A, S) if r.size == S * A * S and (r.ndim == 3 or sp.issparse(model.r)) else None
    if rewards is not None:
        paid = np.asarray(rewards, dtype=float)
        check_vectors(paid, S, A)
    K = max(int(np.count_nonzero(dense, axis=-1).max()), 1)
    order = np.argsort(dense == 0, axis=-1, kind="stable")[..., :K]
    prob = np.take_along_axis(dense, order, -1)
    if paid is None:
        reward = np.repeat(r[..., None], K, -1)
    else:
        reward = np.take_along_axis(paid, order if paid.ndim == 3 else order[..., None], 2)
    if model.reward_law is not None and rewards is None:
        law = model.reward_law
        prob = (prob[..., :, None] * law.probs[..., None, :]).reshape(S, A, -1)
        reward = np.broadcast_to(law.values, (S, A, K, len(law.values))).reshape(S, A, -1)
        order = np.repeat(order, len(law.values), axis=-1)
    return order, prob, reward


def _pad(x: np.ndarray, K: int) -> np.ndarray:
    missing = K - x.shape[2]
    if not missing:
        return x
    return np.concatenate([x, np.zeros_like(x[:, :, :1].repeat(missing, 2))], axis=2)
