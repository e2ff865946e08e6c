"""Learners that estimate every member's value and take the best: trajectory trees, and importance weights.

Both average unbiased estimates, so that ``n`` of them are within ``radius`` of the truth for all members at once with
probability 1 - delta [hoeffding1963], and the best estimate loses at most twice that.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.exploration.agnostic import SelectionSettings
from polytheory.models.layered import layers_of
from polytheory.policies import TabularPolicy
from polytheory.streams import row_ids

Ask = Callable[[int, Any, Any, Any], tuple[Any, Any]]
"""``ask(h, tree, s, a) -> (reward, next state)``, arrays [m]; a next state outside of [0, n) ends the walk."""


@dataclass(eq=False)
class SelectionState:
    """Fields: ``totals`` [N] sums of estimates; ``samples`` how many were averaged; ``t`` steps; ``seed``, ``replica``."""

    totals: Float[np.ndarray, " N"]
    samples: int
    t: int
    seed: int
    replica: int  # in the scaled room int64 [n]


class Selection(SelectionSettings, ABC):
    """Settings that both learners share.

    Fields as in `SelectionSettings`.
    """

    def init(self, access: Any, seed: int, replica: int = 0) -> SelectionState:
        """Nothing estimated yet."""
        self.policies.fits(layers_of(access.spec))
        return SelectionState(np.zeros(len(self.policies)), 0, 0, seed, replica)

    def step(self, state: SelectionState, access: Any) -> tuple[SelectionState, Info]:
        """Estimate every member ``batch`` times more."""
        totals = state.totals + self.estimates(state, access).sum(axis=0)
        new = SelectionState(totals, state.samples + self.batch, state.t + 1, state.seed, state.replica)
        mean = totals / new.samples
        return new, {"best_estimate": float(mean.max()), "radius": self.radius(new.samples)}

    @abstractmethod
    def estimates(self, state: SelectionState, access: Any) -> Float[np.ndarray, "m N"]:
        """Fresh unbiased estimates of every member's value, independent by row."""

    @abstractmethod
    def scale(self) -> float:
        """Range of one estimate when returns lie in [0, 1]."""

    def radius(self, samples: int) -> float:
        """All means are this close to the values with probability 1 - delta, when returns lie in [0, 1]."""
        return hoeffding_radius(samples, len(self.policies), self.delta) * self.scale()

    def policy(self, state: SelectionState) -> TabularPolicy:
        """The member with the largest estimate, the first of equals."""
        return self.policies.policy(int(np.argmax(state.totals)))


class TrajectoryTree(Selection):
    """One deterministic MDP a tree, drawn only where some member goes and shared by all of them [kearns1999].

    Guarantee: the mean return in a tree is the value of each member; ``(2 / eps^2) log(2 N / delta)`` trees find an
    eps-best one, and a tree costs ``sum_h E C_h <= sum_h C_h(Pi)`` transitions. Fields as in `Selection`.
    """

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE, Grant.SAMPLE})

    def estimates(self, state: SelectionState, access: Any) -> Float[np.ndarray, "m N"]:
        """Returns of all members in ``batch`` fresh trees."""
        trees = np.arange(self.batch)
        key = Key(state.seed, "trajectory-tree/root", state.t)
        roots = access.initial_states(key, row_ids(state.replica, trees))
        ask = sampler(access, state, layers_of(access.spec))
        return tree_returns(ask, roots, self.policies.actions, self.policies.A)[0]

    def scale(self) -> float:
        """A return."""
        return 1.0


class ImportanceSampling(Selection):
    """Uniform actions, and every member's value by importance weights: the online baseline.

    Guarantee: unbiased, with variance ``A^H E[R^2] - V^2``: exact, and exponential in the horizon. Fields as in `Selection`.
    """

    def estimates(self, state: SelectionState, access: Any) -> Float[np.ndarray, "m N"]:
        """Weighted returns of ``batch`` episodes."""
        H, n, A = layers_of(access.spec)
        ids = row_ids(state.replica, np.arange(self.batch))
        key = Key(state.seed, "importance-sampling/episode", state.t)
        traj = access.rollouts(TabularPolicy.uniform(H * n + 1, A), Requests(ids, H), key)
        returns = np.where(traj.mask, traj.rewards, 0.0).sum(axis=1)
        return importance_estimates(traj.states, traj.actions, traj.mask, returns, self.policies.by_state, A)

    def scale(self) -> float:
        """The largest weight."""
        return float(self.policies.A) ** self.policies.H


def hoeffding_radius(samples: int, members: int, delta: float) -> float:
    """``sqrt(log(2 N / delta) / (2 n))``: means of n values in [0, 1], for N members at once."""
    return float(np.sqrt(np.log(2 * members / delta) / (2 * samples)))


def trees_needed(eps: float, members: int, delta: float) -> int:
    """Trees after which the best estimate is eps-best with probability 1 - delta: radius eps / 2."""
    if not (eps > 0 and 0 < delta < 1):
        raise SettingError(f"eps = {eps}, delta = {delta}; eps > 0 and 0 < delta < 1 are needed")
    return int(np.ceil(2 / eps**2 * np.log(2 * members / delta)))


def sampler(access: Any, state: SelectionState, layers: Any) -> Ask:
    """Answers of a generative model, each drawn from the stream of its tree and pair."""
    H, n, A = layers
    key = Key(state.seed, "trajectory-tree/transition", state.t)

    def ask(h: int, tree: np.ndarray, s: np.ndarray, a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        x = h * n + s
        ids = row_ids(state.replica, tree * (H * n * A) + x * A + a)
        r, x2 = access.sample(x, a, key, row_id=ids)
        return r, np.where(x2 < H * n, x2 - (h + 1) * n, n)

    return ask


def tree_returns(
    ask: Ask, roots: Int[np.ndarray, " T"], actions: Int[np.ndarray, "N H n"], n_actions: int
) -> tuple[Float[np.ndarray, "T N"], Int[np.ndarray, "T H"]]:
    """Return of every member in every tree, and how many transitions each tree asked for at each layer.

    A pair is asked for when the first member needs it, and the answer is used by all members of the same tree.
    """
    N, H, n = actions.shape
    T, rows, members = len(roots), np.arange(len(roots))[:, None], np.arange(N)
    padded = np.concatenate([actions, np.zeros((N, H, 1), dtype=np.int64)], axis=2)  # state n: the episode is over
    s = np.repeat(roots[:, None], N, axis=1)
    returns, calls = np.zeros((T, N)), np.zeros((T, H), dtype=np.int64)
    for h in range(H):
        pair = s * n_actions + padded[members, h, s]
        tree, asked = needed_pairs(pair, n * n_actions)
        reward, after = np.zeros((T, (n + 1) * n_actions)), np.full((T, (n + 1) * n_actions), n)
        if len(tree):
            r, s2 = ask(h, tree, asked // n_actions, asked % n_actions)
            reward[tree, asked], after[tree, asked] = r, np.where((s2 >= 0) & (s2 < n), s2, n)
        returns += reward[rows, pair]
        s = after[rows, pair]
        calls[:, h] = np.bincount(tree, minlength=T)
    return returns, calls


def needed_pairs(pair: Int[np.ndarray, "T N"], pairs: int) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " m"]]:
    """(tree, pair) that some member is at, each once; pairs from ``pairs`` on belong to ended episodes."""
    seen = np.zeros((len(pair), int(max(pairs, pair.max() + 1))), dtype=bool)
    seen[np.arange(len(pair))[:, None], pair] = True
    tree, asked = np.nonzero(seen[:, :pairs])
    return tree, asked


def importance_estimates(
    states: Int[np.ndarray, "m t"],
    actions: Int[np.ndarray, "m t"],
    mask: Bool[np.ndarray, "m t"],
    returns: Float[np.ndarray, " m"],
    by_state: Int[np.ndarray, "N S"],
    n_actions: int,
) -> Float[np.ndarray, "m N"]:
    """``A^length 1{all actions are the member's} R`` for episodes with uniform actions."""
    agree = agreement(states, actions, mask, by_state)
    weight = float(n_actions) ** mask.sum(axis=1)
    return agree * (weight * returns)[:, None]


def agreement(
    states: Int[np.ndarray, "m t"], actions: Int[np.ndarray, "m t"], mask: Bool[np.ndarray, "m t"],
    by_state: Int[np.ndarray, "N S"],
) -> Bool[np.ndarray, "m N"]:  # fmt: skip
    """Whether each episode is what each member would have done."""
    agree = np.ones((len(states), len(by_state)), dtype=bool)
    for t in range(states.shape[1]):
        agree &= (by_state[:, states[:, t]].T == actions[:, t, None]) | ~mask[:, t, None]
    return agree
