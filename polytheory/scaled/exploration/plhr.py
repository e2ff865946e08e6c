"""PLHR in torch: replicas in lock-step, with as many rollouts as each of them needs; the theorem is the reference's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.exploration.agnostic import PlhrSettings
from polytheory.models.layered import layers_of
from polytheory.scaled.exploration.plhr_parts import emulated_values, fingerprint_means, nearest
from polytheory.scaled.exploration.row_policies import FirstAction, MemberPolicies
from polytheory.streams import row_ids, uniforms


@dataclass(eq=False)
class PlhrState:
    """As the reference's with a leading replica axis; all on the CPU, only rollouts go to the device."""

    label: Int[torch.Tensor, "n S"]
    clusters: Int[torch.Tensor, "n H"]
    representative: Float[torch.Tensor, "n H C F"]
    pool: Float[torch.Tensor, "n H C x"]
    tried: Float[torch.Tensor, "n H C A"]
    moves: Float[torch.Tensor, "n H C A C2"]
    rewards: Float[torch.Tensor, "n H C A"]
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


class Plhr(PlhrSettings):
    """Policy learning with hybrid resets, simplest form; deviations as in the reference.

    Fields as in `PlhrSettings`.
    """

    @cached_property
    def test_policies(self) -> Int[torch.Tensor, "F S"]:
        """Members, evenly spread over the class, whose values make fingerprints."""
        k = np.unique(np.linspace(0, len(self.policies) - 1, self.tests).astype(np.int64))
        return torch.tensor(self.policies.by_state[k])

    def init(self, access: Any, seed: int, replica: int = 0) -> PlhrState:
        """Nothing met yet."""
        H, n, A = layers_of(access.spec)
        self.policies.fits((H, n, A))
        R, C, F = access.replicas, self.most_clusters, len(self.test_policies) * A
        shapes = ((H, C, F), (H, C, n), (H, C, A), (H, C, A, C), (H, C, A))
        mark, pool, tried, moves, rewards = (torch.zeros(R, *shape, dtype=torch.float64) for shape in shapes)
        label, clusters = torch.full((R, H * n + 1), -1), torch.zeros(R, H, dtype=torch.int64)
        return PlhrState(label, clusters, mark, pool, tried, moves, rewards, 0, seed, replica + torch.arange(R))

    def step(self, state: PlhrState, access: Any) -> tuple[PlhrState, Info]:
        """Cluster the observations of one layer, or learn the transitions from one layer; after 2 H steps, stay."""
        R, H = state.clusters.shape
        names = ("label", "clusters", "representative", "pool", "tried", "moves", "rewards")
        new = replace(state, t=state.t + 1, **{name: getattr(state, name).clone() for name in names})
        if state.t < H:
            replica = torch.arange(R).repeat_interleave(self.draws)
            ids = self._ids(state, replica, np.tile(np.arange(self.draws), R))
            met = access.reset_starts(Key(state.seed, "plhr/reset", state.t), ids, h=state.t, replica=replica).cpu()
            self.decode(new, met, replica, access)
        elif state.t < 2 * H:
            self.learn_layer(new, state.t - H, access)
        best, known = self.values(new).amax(1), new.clusters.sum(1).double()
        return new, {"clusters": known.numpy(force=True), "best_estimate": best.numpy(force=True)}

    def learn_layer(self, state: PlhrState, h: int, access: Any) -> None:
        """Transitions of every (cluster, action) of layer h from random members; their ends fill the next pool."""
        H, n, A = layers_of(access.spec)
        R = len(state.clusters)
        if h == 0:
            replica = torch.arange(R).repeat_interleave(self.draws)
            ids = self._ids(state, replica, np.tile(np.arange(self.draws), R))
            first = access.initial_states(Key(state.seed, "plhr/start", 0), ids).cpu()
            self.decode(state, first, replica, access)
            _add(state.pool, (replica, torch.zeros_like(first), state.label[replica, first], first))
        C = state.clusters[:, h]
        per = C * A * self.transitions  # rows of each replica
        replica = torch.arange(R).repeat_interleave(per)
        place = torch.cat([torch.arange(int(m)) for m in per])
        cluster, action = place // (A * self.transitions), place // self.transitions % A
        ids = self._ids(state, replica, place.numpy())
        u = torch.as_tensor(uniforms(state.seed, "plhr/member", h, ids, 1)[:, 0])
        starts = self.members(state, h, replica, cluster, u, n)
        policy = FirstAction(action, torch.zeros(1, H * n + 1, dtype=torch.int64), torch.zeros_like(action), A)
        key = Key(state.seed, "plhr/transition", h)
        reward, end = self._rollouts(access, policy, ids, 1, starts, replica, key)
        layer = torch.full_like(cluster, h)
        _add(state.tried, (replica, layer, cluster, action))
        _add(state.rewards, (replica, layer, cluster, action), reward)
        went = end < H * n  # the others ended: they move to no cluster
        met, who = end[went], replica[went]
        self.decode(state, met, who, access)
        _add(state.moves, (who, layer[went], cluster[went], action[went], state.label[who, met]))
        if h + 1 < H:
            _add(state.pool, (who, layer[went] + 1, state.label[who, met], met - (h + 1) * n))

    def members(
        self, state: PlhrState, h: int, replica: Int[torch.Tensor, " m"], cluster: Int[torch.Tensor, " m"],
        u: Float[torch.Tensor, " m"], n: int,
    ) -> Int[torch.Tensor, " m"]:  # fmt: skip
        """A uniform member of each cluster of layer h."""
        label = state.label[:, h * n : (h + 1) * n]
        R, C = len(label), int(state.clusters[:, h].max())
        own = label[:, None, :] == torch.arange(C)[:, None]  # [n, C, x]
        order = torch.argsort(~own, dim=2, stable=True)
        pick = torch.floor(u * own.sum(2)[replica, cluster]).long()
        return h * n + order.view(R, C, n)[replica, cluster, pick]

    def decode(
        self, state: PlhrState, met: Int[torch.Tensor, " m"], replica: Int[torch.Tensor, " m"], access: Any
    ) -> None:
        """Give every observation that a replica meets for the first time its cluster, or a new one."""
        n, S = layers_of(access.spec).n, state.label.shape[1]
        unknown = state.label[replica, met] < 0
        fresh = torch.unique(replica[unknown] * S + met[unknown])
        if not len(fresh):
            return
        who, x = fresh // S, fresh % S
        for i, s, mark in zip(who.tolist(), x.tolist(), self.fingerprints(state, x, who, access), strict=True):
            h = s // n
            known = int(state.clusters[i, h])
            c = nearest(mark, state.representative[i, h, :known], self.tolerance)
            if c < 0:
                c = known
                if c == self.most_clusters:
                    raise SettingError(
                        f"layer {h} has more than most_clusters = {c} clusters; raise it, or the tolerance {self.tolerance}"
                    )
                state.representative[i, h, c] = mark
                state.clusters[i, h] += 1
            state.label[i, s] = c

    def fingerprints(
        self, state: PlhrState, fresh: Int[torch.Tensor, " k"], who: Int[torch.Tensor, " k"], access: Any
    ) -> Float[torch.Tensor, "k F"]:
        """Rollouts from restored observations, each entry of the fingerprint ``rollouts`` times."""
        H, _, A = layers_of(access.spec)
        tests, k = len(self.test_policies), len(fresh)
        per = tests * A * self.rollouts
        place = torch.arange(per)
        test, action = place // (A * self.rollouts), place // self.rollouts % A
        replica = who.repeat_interleave(per)
        ids = self._ids(state, replica, (fresh[:, None] * per + place).flatten().numpy())
        policy = FirstAction(action.repeat(k), self.test_policies, test.repeat(k), A)
        key = Key(state.seed, "plhr/fingerprint", 0)
        returns, _ = self._rollouts(access, policy, ids, H, fresh.repeat_interleave(per), replica, key)
        return fingerprint_means(returns, k, tests, A)

    def values(self, state: PlhrState) -> Float[torch.Tensor, "n N"]:
        """Value of every member in the emulator (0 before there is one)."""
        actions = torch.tensor(self.policies.actions)
        return emulated_values(state.pool, state.tried, state.moves, state.rewards, actions)

    def policy(self, state: PlhrState) -> MemberPolicies:
        """The member with the largest emulated value of each replica, the first of equals."""
        return MemberPolicies(self.policies, torch.argmax(self.values(state), dim=1))

    def done(self, state: PlhrState) -> bool:
        """The emulator is complete."""
        return state.t >= 2 * state.clusters.shape[1]

    def _rollouts(self, access, policy, ids, steps, starts, replica, key) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns and last states of episodes, on the CPU."""
        policy.first, policy.tables, policy.test = (
            x.to(access.device) for x in (policy.first, policy.tables, policy.test)
        )
        traj = access.rollouts(policy, Requests(ids, steps, starts, replica=replica), key)
        return torch.where(traj.mask, traj.rewards, 0.0).sum(1).cpu(), traj.final_states.cpu()

    @staticmethod
    def _ids(state: PlhrState, replica: torch.Tensor, place: np.ndarray) -> np.ndarray:
        return row_ids(state.replica.numpy()[replica.numpy()], place)


def _add(table: torch.Tensor, place: tuple[torch.Tensor, ...], amount: torch.Tensor | None = None) -> None:
    """Add 1, or an amount each, at these places; places may repeat."""
    one = torch.ones(len(place[0]), dtype=table.dtype) if amount is None else amount
    table.index_put_(place, one, accumulate=True)
