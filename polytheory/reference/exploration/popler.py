"""POPLER: policy optimisation by learning the states that matter, online, for sunflower classes [jia2023, Algorithm 1].

All members are evaluated from shared data: an episode of a random core policy is, up to an importance weight of at most K,
an episode of every member until that one enters a petal state of its own. POPLER collects data from such states when some
member reaches them often enough, and glues the segments together in a small reward process for each member.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Key, Requests
from polytheory.algorithm import Info
from polytheory.errors import PolicyError
from polytheory.exploration.agnostic import PoplerSettings
from polytheory.models.layered import layers_of
from polytheory.policies import Memoryless, TabularPolicy
from polytheory.policy_classes import PolicyClass
from polytheory.reference.exploration.popler_parts import (
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
from polytheory.reference.exploration.sunflower import is_sunflower
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


@dataclass(eq=False)
class PoplerState:
    """Fields.

    ``weight``, ``reward`` [N, D + 1, D + 2]: sums of segment weights and weighted rewards by (member, from node, to node).
    ``samples`` [S]: segments collected from each state; the last entry counts those from TOP.
    ``complete``: no reachable petal state is left without data. ``t`` steps; ``seed``, ``replica``.
    """

    weight: Float[np.ndarray, "N U V"]
    reward: Float[np.ndarray, "N U V"]
    samples: Int[np.ndarray, " S"]
    complete: bool
    t: int
    seed: int
    replica: int


class Popler(PoplerSettings):
    """One step collects ``batch`` episodes from one node: TOP at first, then a petal state that some member reaches with
    estimated probability ``threshold`` or more and that has no data yet. When there is none the run is done; further steps
    refine the node with the fewest segments.

    Guarantee: for a (K, D)-sunflower of spanning capacity C,
    O~((1/eps^2 + H D^6 C / eps^4) K^2 log(N / delta)) episodes find an eps-best member, with threshold eps / (6 D).

    Fields as in `PoplerSettings`.
    """

    def __post_init__(self) -> None:
        super().__post_init__()
        given = self.sunflower
        if given is not None and not is_sunflower(self.policies.actions, given.petals, given.core):
            raise PolicyError(
                "this is no sunflower: some member goes where no core policy goes, outside of its petals, and its value would "
                "be wrong; add petal states or core policies"
            )

    @cached_property
    def nodes(self) -> tuple[Int[np.ndarray, "N S"], Int[np.ndarray, "N D"]]:
        """``slot`` and the state of each node, see `popler_parts`."""
        return petal_slots(self.petals.petals)

    @cached_property
    def core(self) -> Int[np.ndarray, "K S"]:
        """Actions of the core policies by state number."""
        return PolicyClass(self.petals.core, self.policies.A).by_state

    def init(self, access: Any, seed: int, replica: int = 0) -> PoplerState:
        """No data."""
        H, n, A = layers_of(access.spec)
        self.policies.fits((H, n, A))
        N, D = self.nodes[1].shape
        empty = np.zeros((N, D + 1, D + 2))
        return PoplerState(empty, empty.copy(), np.zeros(H * n + 1, dtype=np.int64), False, 0, seed, replica)

    def step(self, state: PoplerState, access: Any) -> tuple[PoplerState, Info]:
        """Collect from one node, and put the segments into every member's reward process."""
        S = len(state.samples)
        node, member = self.next_node(state)
        top = node == S - 1
        traj: Any = self.collect(node, member, state, access)
        slot = self.nodes[0]
        source = np.zeros(len(slot), dtype=np.int64) if top else np.where(slot[:, node] > 0, slot[:, node], -1)
        weight, reward = state.weight, state.reward
        if traj.n:
            ends, to = segment_ends(slot, traj.states, traj.mask, top)
            w = segment_weights(self.core, self.policies.by_state, traj.states, traj.actions, traj.mask, ends)
            gained = segment_rewards(traj.rewards, traj.mask, ends)
            weight, reward = add_segments(weight, reward, source, to, w, gained)
        samples = state.samples.copy()
        samples[node] += traj.n
        new = PoplerState(weight, reward, samples, False, state.t + 1, state.seed, state.replica)
        new.complete = self.missing(new) is None
        values = self.values(new)
        return new, {"best_estimate": float(values.max()), "nodes": int((samples > 0).sum())}

    def next_node(self, state: PoplerState) -> tuple[int, int]:
        """(state to collect from, the member most likely to lead there); TOP is the last state number, no one leads there."""
        S = len(state.samples)
        if state.samples[-1] == 0:
            return S - 1, 0
        node = self.missing(state)
        if node is None:
            known = np.where(state.samples > 0, state.samples, np.iinfo(np.int64).max)
            node = int(np.argmin(known))
        return node, int(np.argmax(self.leading(state)[:, node]))

    def missing(self, state: PoplerState) -> int | None:
        """The first petal state without data that some member is estimated to reach often enough."""
        visit = visit_probabilities(self.means(state)[0])
        node_state = self.nodes[1]
        wanted = (visit >= self.threshold) & (node_state >= 0) & (state.samples[node_state] == 0)
        if not wanted.any():
            return None
        k, d = np.argwhere(wanted)[0]
        return int(node_state[k, d])

    def leading(self, state: PoplerState) -> Float[np.ndarray, "N S"]:
        """Estimated probability that each member visits each petal state of its own; -1 elsewhere."""
        visit, node_state = visit_probabilities(self.means(state)[0]), self.nodes[1]
        out = np.full((len(node_state), len(state.samples)), -1.0)
        k, d = np.nonzero(node_state >= 0)
        out[k, node_state[k, d]] = visit[k, d]
        return out

    def collect(self, node: int, member: int, state: PoplerState, access: Any) -> Trajectories:
        """Episodes that a random core policy continues from the node; those that never came there are dropped."""
        H, n, A = layers_of(access.spec)
        ids = row_ids(state.replica, np.arange(self.batch))
        K = len(self.core)
        u = uniforms(state.seed, "popler/core", state.t, ids, 1)[:, 0]
        core = self.core[np.floor(u * K).astype(np.int64)]
        layer = 0 if node == H * n else node // n
        leader = self.policies.by_state[member]
        follow = np.where(np.arange(H * n + 1) < layer * n, leader, core)
        traj = access.rollouts(RowPolicy(follow, A), Requests(ids, H), Key(state.seed, "popler/episode", state.t))
        if node == H * n:
            return traj
        there = traj.mask[:, layer] & (traj.states[:, layer] == node)
        return Trajectories(*(x[there, layer:] for x in (traj.states, traj.actions, traj.rewards, traj.mask)))

    def means(self, state: PoplerState) -> tuple[Float[np.ndarray, "N U V"], Float[np.ndarray, "N U V"]]:
        """``P_hat`` and ``r_hat`` of every member."""
        samples = node_samples(state.samples, self.nodes[1])
        return transition_means(state.weight, samples), transition_means(state.reward, samples)

    def values(self, state: PoplerState) -> Float[np.ndarray, " N"]:
        """Estimated value of every member."""
        return evaluate_nodes(*self.means(state))

    def policy(self, state: PoplerState) -> TabularPolicy:
        """The member with the largest estimate, the first of equals."""
        return self.policies.policy(int(np.argmax(self.values(state))))

    def done(self, state: PoplerState) -> bool:
        """Every petal state that is reached often enough has data."""
        return state.complete


class RowPolicy(Memoryless):
    """Row i takes ``actions[i, s]``."""

    def __init__(self, actions: Int[np.ndarray, "m S"], n_actions: int):
        self.actions, self.eye = actions, np.eye(n_actions)

    def probs(self, m: Any, h: int, s: Int[np.ndarray, " m"]) -> Float[np.ndarray, "m A"]:
        """Action probabilities in the states ``s``, one for each row."""
        return self.eye[self.actions[np.arange(len(s)), s]]
