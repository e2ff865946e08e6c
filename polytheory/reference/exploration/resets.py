"""PSDP and CPI: learners with exploratory resets, whose guarantees need a class that contains its greedy improvements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.exploration.agnostic import CpiSettings, PsdpSettings
from polytheory.models.layered import layers_of
from polytheory.policies import Memoryless, TabularPolicy
from polytheory.reference.exploration.reset_parts import (
    best_restriction,
    cell_means,
    class_gains,
    mixed,
    step_length,
)
from polytheory.streams import row_ids, uniforms


@dataclass(eq=False)
class PsdpState:
    """Fields: ``probs`` [H, n, A] the policy so far, uniform on layers not yet chosen; ``chosen`` [H] member whose layer was
    taken (-1: none yet); ``t`` layers done; ``seed``, ``replica``."""

    probs: Float[np.ndarray, "H n A"]
    chosen: Int[np.ndarray, " H"]
    t: int
    seed: int
    replica: int


class Psdp(PsdpSettings):
    """Policy search by dynamic programming [bagnell2003]: choose the last layer first, from resets to each layer.

    A step chooses one layer: reset to ``x ~ mu_h``, take a uniform action, follow the layers chosen already, and take the
    member's layer with the largest ``E[A 1{p(x) = a} R]``. The result is a product of layers, which may lie outside of the
    class when the class is not a product itself; the first of equals is taken.

    Guarantee: ``V* - V <= sum_h max_x (d*_h / mu_h) (loss at layer h)`` for the best layer of all; without policy
    completeness nothing, however many samples.

    Fields as in `PsdpSettings`.
    """

    def init(self, access: Any, seed: int, replica: int = 0) -> PsdpState:
        """No layer chosen."""
        H, n, A = layers_of(access.spec)
        self.policies.fits((H, n, A))
        return PsdpState(np.full((H, n, A), 1 / A), np.full(H, -1), 0, seed, replica)

    def step(self, state: PsdpState, access: Any) -> tuple[PsdpState, Info]:
        """Choose the next layer from the end; all layers chosen, stay."""
        H, n, A = layers_of(access.spec)
        if state.t >= H:
            return PsdpState(state.probs, state.chosen, state.t + 1, state.seed, state.replica), {"gain": 0.0}
        h = H - 1 - state.t
        ids = row_ids(state.replica, np.arange(self.batch))
        starts = access.reset_starts(Key(state.seed, "psdp/reset", state.t), ids, h=h)
        policy = TabularPolicy(by_state(state.probs))  # layer h is still uniform
        traj = access.rollouts(policy, Requests(ids, H - h, starts), Key(state.seed, "psdp/episode", state.t))
        returns = np.where(traj.mask, traj.rewards, 0.0).sum(axis=1)
        cells = cell_means(traj.states[:, 0] - h * n, traj.actions[:, 0], returns, n, A)
        k, gain = best_restriction(cells, self.policies.actions[:, h])
        probs, chosen = state.probs.copy(), state.chosen.copy()
        probs[h], chosen[h] = np.eye(A)[self.policies.actions[k, h]], k
        return PsdpState(probs, chosen, state.t + 1, state.seed, state.replica), {"gain": gain}

    def policy(self, state: PsdpState) -> TabularPolicy:
        """The product of the chosen layers."""
        return TabularPolicy(by_state(state.probs))

    def done(self, state: PsdpState) -> bool:
        """Every layer is chosen."""
        return state.t >= len(state.chosen)


@dataclass(eq=False)
class CpiState:
    """Fields: ``probs`` [H, n, A] the mixture; ``gain`` estimated gain of the last step; ``alpha`` its length; ``stopped``
    the gain fell to ``tol``; ``t`` steps; ``seed``, ``replica``."""

    probs: Float[np.ndarray, "H n A"]
    gain: float
    alpha: float
    stopped: bool
    t: int
    seed: int
    replica: int


class Cpi(CpiSettings):
    """Conservative policy iteration [kakade2002] with a finite horizon: mix in the member with the largest estimated gain.

    A step resets to a uniform layer, follows the policy to a uniform later layer, acts uniformly there, and follows the
    policy on; the weighted returns estimate ``G(p) = sum_h E[A_h(x, p(x))]`` for every member p.

    Guarantee: with exact G, ``J_mu`` rises by at least ``alpha G - alpha^2 H (H - 1) advantage_bound``, which the step length
    ``G / (2 H (H - 1) advantage_bound)`` maximises. Where G is at most tol for a policy complete class, the loss is at most
    ``C H tol``; without completeness nothing follows.

    Fields as in `CpiSettings`.
    """

    def init(self, access: Any, seed: int, replica: int = 0) -> CpiState:
        """The uniform policy."""
        H, n, A = layers_of(access.spec)
        self.policies.fits((H, n, A))
        return CpiState(np.full((H, n, A), 1 / A), 0.0, 0.0, False, 0, seed, replica)

    def step(self, state: CpiState, access: Any) -> tuple[CpiState, Info]:
        """Estimate all gains, and mix in the best member unless its gain is at most tol."""
        H, _, A = layers_of(access.spec)
        cells = self.cells(state, access)
        gains = class_gains(cells, state.probs, self.policies.actions)
        k = int(np.argmax(gains))
        gain = float(gains[k])
        stopped = state.stopped or gain <= self.tol
        length = step_length(gain, H, self.advantage_bound) if self.alpha is None else self.alpha
        alpha = 0.0 if stopped else length
        probs = mixed(state.probs, np.eye(A)[self.policies.actions[k]], alpha)
        return CpiState(probs, gain, alpha, stopped, state.t + 1, state.seed, state.replica), {
            "gain": gain, "alpha": alpha
        }  # fmt: skip

    def cells(self, state: CpiState, access: Any) -> Float[np.ndarray, "H n A"]:
        """Estimates of ``d_mu,h(x) Q_h(x, a)`` from one batch."""
        H, n, A = layers_of(access.spec)
        ids = row_ids(state.replica, np.arange(self.batch))
        u = uniforms(state.seed, "cpi/layers", state.t, ids, 2)
        first = np.floor(u[:, 0] * H).astype(np.int64)
        acting = first + np.floor(u[:, 1] * (H - first)).astype(np.int64)
        starts = np.zeros(self.batch, dtype=np.int64)
        for h in range(H):
            rows = first == h
            if rows.any():
                starts[rows] = access.reset_starts(Key(state.seed, "cpi/reset", state.t), ids[rows], h=h)
        explorer = LayerExplorer(by_state(state.probs), acting, n)
        traj = access.rollouts(explorer, Requests(ids, H, starts), Key(state.seed, "cpi/episode", state.t))
        layer = traj.states // n
        here = traj.mask & (layer == acting[:, None])
        later = np.where(traj.mask & (layer >= acting[:, None]), traj.rewards, 0.0).sum(axis=1)
        weight = np.where(here.any(axis=1), (H - first) * later, 0.0)
        at = np.argmax(here, axis=1)
        rows = np.arange(self.batch)
        return cell_means(traj.states[rows, at], traj.actions[rows, at], weight, H * n, A).reshape(H, n, A)

    def policy(self, state: CpiState) -> TabularPolicy:
        """The mixture: action probabilities are mixed state by state."""
        return TabularPolicy(by_state(state.probs))

    def done(self, state: CpiState) -> bool:
        """The gain fell to tol."""
        return state.stopped


class LayerExplorer(Memoryless):
    """Row i follows ``table`` [S, A], except at layer ``acting[i]``, where it acts uniformly."""

    def __init__(self, table: Float[np.ndarray, "S A"], acting: Int[np.ndarray, " m"], n: int):
        self.table, self.acting, self.n = table, acting, n

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m A"]:
        """Action probabilities in the states ``s``, one for each row."""
        explore = (s // self.n == self.acting)[:, None]
        return np.where(explore, 1 / self.table.shape[1], self.table[s])


def by_state(probs: Float[np.ndarray, "H n A"]) -> Float[np.ndarray, "S A"]:
    """A table by state number; the last state, where episodes end, gets action 0."""
    H, n, A = probs.shape
    return np.concatenate([probs.reshape(H * n, A), np.eye(A)[:1]])
