"""PLHR: policy learning with hybrid resets in block MDPs, through a policy emulator [krishnamurthy2025].

The emulator is a small model in which every member of the class has nearly its true value. Its states are clusters of
observations: ``Q^pi(x, a)`` depends on an observation x only through its latent state (``V^pi(x)`` does not, since pi reads x),
so that rollouts from a *restored* observation, action by action, tell latent states apart. With resets to fresh observations
alone no two rollouts start from the same one, and such averages cannot be had: this is what the local simulator buys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.exploration.agnostic import PlhrSettings
from polytheory.models.layered import layers_of
from polytheory.policies import Memoryless, TabularPolicy
from polytheory.reference.exploration.plhr_parts import emulated_values, fingerprint_means, nearest
from polytheory.streams import row_ids, uniforms


@dataclass(eq=False)
class PlhrState:
    """Fields.

    ``label`` [S] cluster of each observation met, -1 for others; ``clusters`` [H] how many there are;
    ``representative`` [H, C, F] their fingerprints. ``pool`` [H, C, n] how often each observation was met by (layer, cluster);
    ``tried`` [H, C, A] transitions taken, ``moves`` [H, C, A, C] those between clusters (the others ended the episode),
    ``rewards`` [H, C, A] their summed rewards.
    ``t`` steps: H to find clusters, then H to learn transitions; ``seed``, ``replica``.
    """

    label: Int[np.ndarray, " S"]
    clusters: Int[np.ndarray, " H"]
    representative: Float[np.ndarray, "H C F"]
    pool: Float[np.ndarray, "H C n"]
    tried: Float[np.ndarray, "H C A"]
    moves: Float[np.ndarray, "H C A C2"]
    rewards: Float[np.ndarray, "H C A"]
    t: int
    seed: int
    replica: int


class Plhr(PlhrSettings):
    """The simplest form: clusters by fingerprints of values, layer by layer, then transitions between clusters.

    Guarantee: when no cluster mixes latent states, the emulated values of all members converge at the rate
    ``transitions^(-1/2)``; the member that is best in an emulator of error eps loses at most 2 eps.

    Deviations: (1) the paper builds transitions from the last layer up, with tests chosen where the emulator disagrees and
    refitted; here tests are spread over the class. (2) Fingerprints are kept for each observation.

    Fields as in `PlhrSettings`.
    """

    @cached_property
    def test_policies(self) -> Int[np.ndarray, "F S"]:
        """Members, evenly spread over the class, whose values make fingerprints."""
        k = np.unique(np.linspace(0, len(self.policies) - 1, self.tests).astype(np.int64))
        return self.policies.by_state[k]

    def init(self, access: Any, seed: int, replica: int = 0) -> PlhrState:
        """Nothing met yet."""
        H, n, A = layers_of(access.spec)
        self.policies.fits((H, n, A))
        C, F = self.most_clusters, len(self.test_policies) * A
        return PlhrState(
            np.full(H * n + 1, -1), np.zeros(H, dtype=np.int64), np.zeros((H, C, F)), np.zeros((H, C, n)),
            np.zeros((H, C, A)), np.zeros((H, C, A, C)), np.zeros((H, C, A)), 0, seed, replica,
        )  # fmt: skip

    def step(self, state: PlhrState, access: Any) -> tuple[PlhrState, Info]:
        """Cluster the observations of one layer, or learn the transitions from one layer; after 2 H steps, stay."""
        H = len(state.clusters)
        new = replace(
            state, label=state.label.copy(), clusters=state.clusters.copy(), representative=state.representative.copy(),
            pool=state.pool.copy(), tried=state.tried.copy(), moves=state.moves.copy(), rewards=state.rewards.copy(),
            t=state.t + 1,
        )  # fmt: skip
        if state.t < H:
            ids = row_ids(state.replica, np.arange(self.draws))
            met = access.reset_starts(Key(state.seed, "plhr/reset", state.t), ids, h=state.t)
            self.decode(new, met, access)
        elif state.t < 2 * H:
            self.learn_layer(new, state.t - H, access)
        return new, {"clusters": float(new.clusters.sum()), "best_estimate": float(self.values(new).max())}

    def learn_layer(self, state: PlhrState, h: int, access: Any) -> None:
        """Transitions of every (cluster, action) of layer h from random members; their ends fill the next pool."""
        H, n, A = layers_of(access.spec)
        if h == 0:
            ids = row_ids(state.replica, np.arange(self.draws))
            first = access.initial_states(Key(state.seed, "plhr/start", 0), ids)
            self.decode(state, first, access)
            _add(state.pool, (0, state.label[first], first), 1.0)
        C = int(state.clusters[h])
        cluster, action = (x.ravel() for x in np.indices((C, A)))
        cluster, action = (np.repeat(x, self.transitions) for x in (cluster, action))
        ids = row_ids(state.replica, np.arange(len(cluster)))
        u = uniforms(state.seed, "plhr/member", h, ids, 1)[:, 0]
        starts = self.members(state, h, cluster, u, n)
        policy = FirstAction(action, np.zeros((1, H * n + 1), dtype=np.int64), np.zeros(len(ids), dtype=np.int64), A)
        traj = access.rollouts(policy, Requests(ids, 1, starts), Key(state.seed, "plhr/transition", h))
        _add(state.tried, (h, cluster, action), 1.0)
        _add(state.rewards, (h, cluster, action), traj.rewards[:, 0])
        went = traj.final_states < H * n  # the others ended: they move to no cluster
        met = traj.final_states[went]
        self.decode(state, met, access)
        _add(state.moves, (h, cluster[went], action[went], state.label[met]), 1.0)
        if h + 1 < H:
            _add(state.pool, (h + 1, state.label[met], met - (h + 1) * n), 1.0)

    def members(
        self, state: PlhrState, h: int, cluster: Int[np.ndarray, " m"], u: Float[np.ndarray, " m"], n: int
    ) -> Int[np.ndarray, " m"]:
        """A uniform member of each cluster of layer h."""
        label = state.label[h * n : (h + 1) * n]
        table = np.zeros((int(state.clusters[h]), n), dtype=np.int64)
        size = np.zeros(len(table), dtype=np.int64)
        for c in range(len(table)):
            own = np.flatnonzero(label == c)
            table[c, : len(own)], size[c] = own, len(own)
        return h * n + table[cluster, np.floor(u * size[cluster]).astype(np.int64)]

    def decode(self, state: PlhrState, met: Int[np.ndarray, " m"], access: Any) -> None:
        """Give every observation met for the first time its cluster, or a new one."""
        n = layers_of(access.spec).n
        fresh = np.unique(met[state.label[met] < 0])
        if not len(fresh):
            return
        for x, mark in zip(fresh, self.fingerprints(state, fresh, access), strict=True):
            h = int(x) // n
            known = int(state.clusters[h])
            c = nearest(mark, state.representative[h, :known], self.tolerance)
            if c < 0:
                c = known
                if c == self.most_clusters:
                    raise SettingError(
                        f"layer {h} has more than most_clusters = {c} clusters; raise it, or the tolerance {self.tolerance}"
                    )
                state.representative[h, c] = mark
                state.clusters[h] += 1
            state.label[x] = c

    def fingerprints(self, state: PlhrState, fresh: Int[np.ndarray, " k"], access: Any) -> Float[np.ndarray, "k F"]:
        """Rollouts from restored observations, each entry of the fingerprint ``rollouts`` times."""
        H, _, A = layers_of(access.spec)
        tests, M = len(self.test_policies), self.rollouts
        test, action, _ = (x.ravel() for x in np.indices((tests, A, M)))
        k, per = len(fresh), tests * A * M
        ids = row_ids(state.replica, (fresh[:, None] * per + np.arange(per)).ravel())
        policy = FirstAction(np.tile(action, k), self.test_policies, np.tile(test, k), A)
        request = Requests(ids, H, np.repeat(fresh, per))
        traj = access.rollouts(policy, request, Key(state.seed, "plhr/fingerprint", 0))
        returns = np.where(traj.mask, traj.rewards, 0.0).sum(axis=1)
        return fingerprint_means(returns, k, tests, A)

    def values(self, state: PlhrState) -> Float[np.ndarray, " N"]:
        """Value of every member in the emulator (0 before there is one)."""
        return emulated_values(state.pool, state.tried, state.moves, state.rewards, self.policies.actions)

    def policy(self, state: PlhrState) -> TabularPolicy:
        """The member with the largest emulated value, the first of equals."""
        return self.policies.policy(int(np.argmax(self.values(state))))

    def done(self, state: PlhrState) -> bool:
        """The emulator is complete."""
        return state.t >= 2 * len(state.clusters)


def _add(table: np.ndarray, place: Any, amount: Any) -> None:
    """Add the amounts at these places; places may repeat."""
    np.add.at(table, place, amount)


class FirstAction(Memoryless):
    """Row i takes ``first[i]`` at its first step and then follows ``tables[test[i]]`` [S]."""

    def __init__(
        self, first: Int[np.ndarray, " m"], tables: Int[np.ndarray, "F S"], test: Int[np.ndarray, " m"], n_actions: int
    ):
        self.first, self.tables, self.test, self.eye = first, tables, test, np.eye(n_actions)

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m A"]:
        """Action probabilities in the states ``s``, one for each row."""
        return self.eye[self.first if h == 0 else self.tables[self.test, s]]
