"""Trajectory trees and importance weights for large classes in torch, with replicas; theorems as in the reference.

A tree is shared by all members: it costs the transitions that some member needs, and one gather for each member and layer.
Trees are taken in blocks, so that memory does not grow with the batch; a class of 10^5 policies runs on a CPU.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import torch

from polytheory._typing import Bool, Float, Int
from polytheory.access import Grant, Key, Requests
from polytheory.algorithm import Info
from polytheory.exploration.agnostic import SelectionSettings
from polytheory.models.layered import layers_of
from polytheory.scaled.exploration.row_policies import MemberPolicies, UniformPolicy
from polytheory.streams import row_ids

Ask = Callable[[int, Any, Any, Any], tuple[Any, Any]]
"""``ask(h, tree, s, a) -> (reward, next state)``, tensors [m]; a next state outside of [0, n) ends the walk."""

BLOCK = 1 << 22  # entries of one work array


@dataclass(eq=False)
class SelectionState:
    """As the reference's with a leading replica axis: ``totals`` [n, N]; ``samples``, ``t`` and ``seed`` are shared."""

    totals: Float[torch.Tensor, "n N"]
    samples: int
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


class Selection(SelectionSettings, ABC):
    """Settings that both learners share.

    Fields as in `SelectionSettings`.
    """

    @cached_property
    def actions(self) -> Int[torch.Tensor, "N H n"]:
        """Actions of the class as a tensor."""
        return torch.tensor(self.policies.actions)

    def init(self, access: Any, seed: int, replica: int = 0) -> SelectionState:
        """Nothing estimated yet."""
        self.policies.fits(layers_of(access.spec))
        n = access.replicas
        totals = torch.zeros(n, len(self.policies), dtype=torch.float64, device=access.device)
        return SelectionState(totals, 0, 0, seed, replica + torch.arange(n))

    def step(self, state: SelectionState, access: Any) -> tuple[SelectionState, Info]:
        """Estimate every member ``batch`` times more."""
        totals = state.totals + self.batch_totals(state, access)
        new = SelectionState(totals, state.samples + self.batch, state.t + 1, state.seed, state.replica)
        best = (totals.amax(1) / new.samples).numpy(force=True)
        return new, {"best_estimate": best, "radius": np.full(len(best), self.radius(new.samples))}

    @abstractmethod
    def batch_totals(self, state: SelectionState, access: Any) -> Float[torch.Tensor, "n N"]:
        """Sums over ``batch`` fresh unbiased estimates of every member's value."""

    @abstractmethod
    def scale(self) -> float:
        """Range of one estimate when returns lie in [0, 1]."""

    def radius(self, samples: int) -> float:
        """All means are this close to the values with probability 1 - delta, when returns lie in [0, 1]."""
        return hoeffding_radius(samples, len(self.policies), self.delta) * self.scale()

    def policy(self, state: SelectionState) -> MemberPolicies:
        """The member with the largest estimate of each replica, the first of equals."""
        return MemberPolicies(self.policies, torch.argmax(state.totals, dim=1))


class TrajectoryTree(Selection):
    """One deterministic MDP a tree, drawn only where some member goes and shared by all of them [kearns1999].

    Fields as in `Selection`.
    """

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.EPISODE, Grant.SAMPLE})

    def batch_totals(self, state: SelectionState, access: Any) -> Float[torch.Tensor, "n N"]:
        """Returns of all members in ``batch`` fresh trees, summed."""
        n = access.replicas
        ids = row_ids(state.replica.numpy().repeat(self.batch), np.tile(np.arange(self.batch), n))
        roots = access.initial_states(Key(state.seed, "trajectory-tree/root", state.t), ids)
        ask = sampler(access, state, layers_of(access.spec), self.batch)
        total, actions = torch.zeros_like(state.totals), self.actions.to(access.device)
        rows, replica = max(1, BLOCK // len(self.policies)), torch.arange(len(ids), device=access.device) // self.batch
        for first in range(0, len(ids), rows):
            own = slice(first, first + rows)
            returns, _ = tree_returns(
                lambda h, tree, s, a, first=first: ask(h, tree + first, s, a), roots[own], actions, self.policies.A
            )
            total.index_add_(0, replica[own], returns)
        return total

    def scale(self) -> float:
        """A return."""
        return 1.0


class ImportanceSampling(Selection):
    """Uniform actions, and every member's value by importance weights: the online baseline. Fields as in `Selection`."""

    def batch_totals(self, state: SelectionState, access: Any) -> Float[torch.Tensor, "n N"]:
        """Weighted returns of ``batch`` episodes, summed; episodes in blocks."""
        H, _, A = layers_of(access.spec)
        n = access.replicas
        ids = row_ids(state.replica.numpy().repeat(self.batch), np.tile(np.arange(self.batch), n))
        key = Key(state.seed, "importance-sampling/episode", state.t)
        traj = access.rollouts(UniformPolicy(A), Requests(ids, H), key)
        returns = torch.where(traj.mask, traj.rewards, 0.0).sum(1)
        by_state = torch.tensor(self.policies.by_state, device=access.device)
        total = torch.zeros_like(state.totals)
        rows, replica = max(1, BLOCK // len(self.policies)), torch.arange(len(ids), device=access.device) // self.batch
        for first in range(0, len(ids), rows):
            own = slice(first, first + rows)
            estimates = importance_estimates(
                traj.states[own], traj.actions[own], traj.mask[own], returns[own], by_state, A
            )
            total.index_add_(0, replica[own], estimates)
        return total

    def scale(self) -> float:
        """The largest weight."""
        return float(self.policies.A) ** self.policies.H


def hoeffding_radius(samples: int, members: int, delta: float) -> float:
    """``sqrt(log(2 N / delta) / (2 n))``: means of n values in [0, 1], for N members at once."""
    return float(np.sqrt(np.log(2 * members / delta) / (2 * samples)))


def sampler(access: Any, state: SelectionState, layers: Any, batch: int) -> Ask:
    """Answers of a generative model, each drawn from the stream of its tree and pair."""
    H, n, A = layers
    key = Key(state.seed, "trajectory-tree/transition", state.t)

    def ask(h: int, tree: torch.Tensor, s: torch.Tensor, a: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        x = h * n + s
        place = (tree % batch) * (H * n * A) + x * A + a
        replica = tree // batch
        ids = row_ids(state.replica.numpy()[replica.numpy(force=True)], place.numpy(force=True))
        r, x2 = access.sample(x, a, key, row_id=ids, replica=replica)
        return r, torch.where(x2 < H * n, x2 - (h + 1) * n, n)

    return ask


def tree_returns(
    ask: Ask, roots: Int[torch.Tensor, " T"], actions: Int[torch.Tensor, "N H n"], n_actions: int
) -> tuple[Float[torch.Tensor, "T N"], Int[torch.Tensor, "T H"]]:
    """Return of every member in every tree, and how many transitions each tree asked for at each layer."""
    N, H, n = actions.shape
    T, width = len(roots), (n + 1) * n_actions
    returns = torch.zeros(T, N, dtype=torch.float64, device=actions.device)
    s = roots[:, None].repeat(1, N)
    calls = []
    for h in range(H):
        own = torch.cat([actions[:, h], torch.zeros_like(actions[:, h, :1])], dim=1)  # state n: the episode is over
        pair = s * n_actions + own.gather(1, s.T).T
        tree, asked = needed_pairs(pair, n * n_actions)
        reward = torch.zeros(T, width, dtype=torch.float64, device=actions.device)
        after = torch.full((T, width), n, device=actions.device)
        if len(tree):
            r, s2 = ask(h, tree, asked // n_actions, asked % n_actions)
            reward[tree, asked] = r
            after[tree, asked] = torch.where((s2 >= 0) & (s2 < n), s2, n)
        returns += reward.gather(1, pair)
        s = after.gather(1, pair)
        calls.append(torch.bincount(tree, minlength=T))
    return returns, torch.stack(calls, dim=1)


def needed_pairs(pair: Int[torch.Tensor, "T N"], pairs: int) -> tuple[Int[torch.Tensor, " m"], Int[torch.Tensor, " m"]]:
    """(tree, pair) that some member is at, each once; pairs from ``pairs`` on belong to ended episodes."""
    seen = torch.zeros(len(pair), max(pairs, int(pair.max()) + 1), dtype=torch.bool, device=pair.device)
    seen.scatter_(1, pair, True)
    tree, asked = seen[:, :pairs].nonzero(as_tuple=True)
    return tree, asked


def importance_estimates(
    states: Int[torch.Tensor, "m t"],
    actions: Int[torch.Tensor, "m t"],
    mask: Bool[torch.Tensor, "m t"],
    returns: Float[torch.Tensor, " m"],
    by_state: Int[torch.Tensor, "N S"],
    n_actions: int,
) -> Float[torch.Tensor, "m N"]:
    """``A^length 1{all actions are the member's} R`` for episodes with uniform actions."""
    agree = torch.ones(len(states), len(by_state), dtype=torch.bool, device=states.device)
    for t in range(states.shape[1]):
        agree &= (by_state[:, states[:, t]].T == actions[:, t, None]) | ~mask[:, t, None]
    weight = float(n_actions) ** mask.sum(1)
    return agree * (weight * returns)[:, None]
