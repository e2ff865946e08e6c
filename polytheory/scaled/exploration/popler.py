"""POPLER in torch: replicas collect in lock-step, each from the node that it needs; the theorem is the reference's."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
import torch

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.exploration.agnostic import PoplerSettings
from polytheory.models.layered import layers_of
from polytheory.policy_classes import PolicyClass
from polytheory.scaled.exploration.popler_parts import (
    add_segments,
    evaluate_nodes,
    node_samples,
    petal_slots,
    segment_ends,
    segment_rewards,
    segment_weights,
    transition_means,
    visit_probabilities,
)
from polytheory.scaled.exploration.row_policies import MemberPolicies, RowPolicy
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


@dataclass(eq=False)
class PoplerState:
    """As the reference's with a leading replica axis: ``weight``, ``reward`` [n, N, D + 1, D + 2], ``samples`` [n, S],
    ``complete`` [n]."""

    weight: Float[torch.Tensor, "n N U V"]
    reward: Float[torch.Tensor, "n N U V"]
    samples: Int[torch.Tensor, "n S"]
    complete: torch.Tensor
    t: int
    seed: int
    replica: Int[torch.Tensor, " n"]


class Popler(PoplerSettings):
    """One step collects ``batch`` episodes from one node in each replica; see the reference.

    Fields as in `PoplerSettings`.
    """

    @cached_property
    def nodes(self) -> tuple[Int[torch.Tensor, "N S"], Int[torch.Tensor, "N D"]]:
        """``slot`` and the state of each node, see `popler_parts`."""
        return petal_slots(torch.tensor(self.petals.petals))

    @cached_property
    def core(self) -> Int[torch.Tensor, "K S"]:
        """Actions of the core policies by state number."""
        return torch.tensor(PolicyClass(self.petals.core, self.policies.A).by_state)

    @cached_property
    def by_state(self) -> Int[torch.Tensor, "N S"]:
        """Actions of the members by state number."""
        return torch.tensor(self.policies.by_state)

    def init(self, access: Any, seed: int, replica: int = 0) -> PoplerState:
        """No data. The statistics are small and stay on the CPU."""
        self.policies.fits(layers_of(access.spec))
        (N, D), n = self.nodes[1].shape, access.replicas
        empty = torch.zeros(n, N, D + 1, D + 2, dtype=torch.float64)
        samples, complete = torch.zeros(n, access.spec.S, dtype=torch.int64), torch.zeros(n, dtype=torch.bool)
        return PoplerState(empty, empty.clone(), samples, complete, 0, seed, replica + torch.arange(n))

    def step(self, state: PoplerState, access: Any) -> tuple[PoplerState, Info]:
        """Collect from one node a replica, and put the segments into every member's reward process."""
        n, S = state.samples.shape
        chosen = [self.next_node(state, i) for i in range(n)]
        traj = self.collect(chosen, state, access)
        slot, layer_size = self.nodes[0], self.policies.n
        weight, reward, samples = state.weight.clone(), state.reward.clone(), state.samples.clone()
        for i, (node, _) in enumerate(chosen):
            top = node == S - 1
            layer = 0 if top else node // layer_size
            own = slice(i * self.batch, (i + 1) * self.batch)
            there = slice(None) if top else traj.mask[own, layer] & (traj.states[own, layer] == node)
            columns = (traj.states, traj.actions, traj.rewards, traj.mask)
            states, actions, rewards, mask = (x[own][there, layer:] for x in columns)
            samples[i, node] += len(states)
            if not len(states):
                continue
            source = (
                torch.zeros(len(slot), dtype=torch.int64) if top else torch.where(slot[:, node] > 0, slot[:, node], -1)
            )
            ends, to = segment_ends(slot, states, mask, top)
            w = segment_weights(self.core, self.by_state, states, actions, mask, ends)
            gained = segment_rewards(rewards, mask, ends)
            weight[i], reward[i] = add_segments(weight[i], reward[i], source, to, w, gained)
        new = replace(state, weight=weight, reward=reward, samples=samples, t=state.t + 1)
        new.complete = torch.tensor([self.missing(new, i) is None for i in range(n)])
        best, known = self.values(new).amax(1), (samples > 0).sum(1).double()
        return new, {"best_estimate": best.numpy(force=True), "nodes": known.numpy(force=True)}

    def next_node(self, state: PoplerState, i: int) -> tuple[int, int]:
        """(state to collect from, the member most likely to lead there) of replica i; TOP is the last state number."""
        samples = state.samples[i]
        if int(samples[-1]) == 0:
            return len(samples) - 1, 0
        node = self.missing(state, i)
        if node is None:
            node = int(torch.where(samples > 0, samples, torch.iinfo(torch.int64).max).argmin())
        return node, int(self.leading(state, i)[:, node].argmax())

    def missing(self, state: PoplerState, i: int) -> int | None:
        """The first petal state without data that some member is estimated to reach often enough."""
        visit, node_state = visit_probabilities(self.means(state)[0][i]), self.nodes[1]
        wanted = (visit >= self.threshold) & (node_state >= 0) & (state.samples[i][node_state] == 0)
        found = wanted.nonzero()
        return int(node_state[tuple(found[0])]) if len(found) else None

    def leading(self, state: PoplerState, i: int) -> Float[torch.Tensor, "N S"]:
        """Estimated probability that each member visits each petal state of its own; -1 elsewhere."""
        visit, node_state = visit_probabilities(self.means(state)[0][i]), self.nodes[1]
        out = torch.full((len(node_state), state.samples.shape[1]), -1.0, dtype=torch.float64)
        k, d = (node_state >= 0).nonzero(as_tuple=True)
        out[k, node_state[k, d]] = visit[k, d]
        return out

    def collect(self, chosen: list[tuple[int, int]], state: PoplerState, access: Any) -> Trajectories:
        """Episodes that a random core policy continues from each replica's node, on the CPU; rows replica-major."""
        H, n, A = layers_of(access.spec)
        R = len(chosen)
        ids = row_ids(state.replica.numpy().repeat(self.batch), np.tile(np.arange(self.batch), R))
        u = uniforms(state.seed, "popler/core", state.t, ids, 1)[:, 0]
        core = self.core[torch.as_tensor(np.floor(u * len(self.core)).astype(np.int64))]
        first = torch.tensor([0 if node == H * n else node // n * n for node, _ in chosen]).repeat_interleave(
            self.batch
        )
        leader = self.by_state[torch.tensor([member for _, member in chosen])].repeat_interleave(self.batch, 0)
        follow = torch.where(torch.arange(H * n + 1) < first[:, None], leader, core)
        policy = RowPolicy(follow.to(access.device), A)
        traj = access.rollouts(policy, Requests(ids, H), Key(state.seed, "popler/episode", state.t))
        return Trajectories(*(x.cpu() for x in (traj.states, traj.actions, traj.rewards, traj.mask)))

    def means(self, state: PoplerState) -> tuple[Float[torch.Tensor, "n N U V"], Float[torch.Tensor, "n N U V"]]:
        """``P_hat`` and ``r_hat`` of every member."""
        samples = node_samples(state.samples, self.nodes[1])
        return transition_means(state.weight, samples), transition_means(state.reward, samples)

    def values(self, state: PoplerState) -> Float[torch.Tensor, "n N"]:
        """Estimated value of every member."""
        return evaluate_nodes(*self.means(state))

    def policy(self, state: PoplerState) -> MemberPolicies:
        """The member with the largest estimate of each replica, the first of equals."""
        return MemberPolicies(self.policies, torch.argmax(self.values(state), dim=1))

    def done(self, state: PoplerState) -> bool:
        """In every replica, every petal state that is reached often enough has data."""
        return bool(state.complete.all())
