"""The formulas of POPLER: segments between petal states, their weights, and the small reward process of each policy.

Policy k of N has nodes 0 (TOP, before layer 0), 1..D (its petal states in order of layer) and D + 1 (BOT, after the end).
``slot[k, s]`` is the node of state s for policy k, 0 when s is none of its petal states.
"""

from __future__ import annotations

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.errors import PolicyError


def petal_slots(petals: Bool[np.ndarray, "N H n"]) -> tuple[Int[np.ndarray, "N S"], Int[np.ndarray, "N D"]]:
    """``slot`` [N, S] and the state of each node [N, D] (-1: no such node); S = H n + 1, nodes in order of state number."""
    flat = np.concatenate([petals.reshape(len(petals), -1), np.zeros((len(petals), 1), dtype=bool)], axis=1)
    order = np.cumsum(flat, axis=1)
    slot = np.where(flat, order, 0)
    node_state = np.full((len(flat), int(order.max())), -1)
    k, s = np.nonzero(flat)
    node_state[k, slot[k, s] - 1] = s
    return slot, node_state


def segment_ends(
    slot: Int[np.ndarray, "N S"], states: Int[np.ndarray, "m t"], mask: Bool[np.ndarray, "m t"], from_top: bool
) -> tuple[Int[np.ndarray, "N m"], Int[np.ndarray, "N m"]]:
    """Where each policy's first segment ends in each episode: the step (t where it reaches the end) and the node.

    The first state itself is passed over unless the segment comes ``from_top``.
    """
    t = states.shape[1]
    hit = (slot[:, states] > 0) & mask
    if not from_top:
        hit[..., 0] = False
    ends = np.where(hit.any(axis=2), hit.argmax(axis=2), t)
    at = slot[np.arange(len(slot))[:, None], states[np.arange(len(states)), np.minimum(ends, t - 1)]]
    bottom = slot.max() + 1
    return ends, np.where(ends < t, at, bottom)


def segment_weights(
    core: Int[np.ndarray, "K S"],
    by_state: Int[np.ndarray, "N S"],
    states: Int[np.ndarray, "m t"],
    actions: Int[np.ndarray, "m t"],
    mask: Bool[np.ndarray, "m t"],
    ends: Int[np.ndarray, "N m"],
) -> Float[np.ndarray, "N m"]:
    """``K 1{policy agrees with the segment} / #{core policies that agree}``: at most K, mean 1 over uniform core policies.

    Raises `PolicyError` when a policy agrees with a segment that no core policy agrees with: it is no petal of this core.
    """
    own = _agreement_until(by_state, states, actions, mask, ends)
    agree = _prefixes(core, states, actions, mask).sum(axis=0)  # [m, t + 1]
    count = agree[np.arange(len(states)), ends]
    if (own & (count == 0)).any():
        k = int(np.argwhere(own & (count == 0))[0, 0])
        raise PolicyError(
            f"policy {k} goes where no core policy goes, outside of its petal states: this is no sunflower; "
            "add petal states or core policies"
        )
    return own * len(core) / np.where(count > 0, count, 1)


def segment_rewards(
    rewards: Float[np.ndarray, "m t"], mask: Bool[np.ndarray, "m t"], ends: Int[np.ndarray, "N m"]
) -> Float[np.ndarray, "N m"]:
    """Sum of rewards from the start of the segment to just before its end."""
    sums = np.concatenate([np.zeros((len(rewards), 1)), np.cumsum(np.where(mask, rewards, 0.0), axis=1)], axis=1)
    return sums[np.arange(len(rewards)), ends]


def add_segments(
    weight: Float[np.ndarray, "N U V"], reward: Float[np.ndarray, "N U V"], source: Int[np.ndarray, " N"],
    node: Int[np.ndarray, "N m"], w: Float[np.ndarray, "N m"], segment_reward: Float[np.ndarray, "N m"],
) -> tuple[Float[np.ndarray, "N U V"], Float[np.ndarray, "N U V"]]:  # fmt: skip
    """Sums of weights and of weighted rewards by (policy, source node, end node); source -1 means: not this policy's."""
    weight, reward = weight.copy(), reward.copy()
    k, i = np.nonzero(np.repeat((source >= 0)[:, None], node.shape[1], axis=1))
    np.add.at(weight, (k, source[k], node[k, i]), w[k, i])
    np.add.at(reward, (k, source[k], node[k, i]), w[k, i] * segment_reward[k, i])
    return weight, reward


def node_samples(samples: Int[np.ndarray, " S"], node_state: Int[np.ndarray, "N D"]) -> Int[np.ndarray, "N U"]:
    """How many segments each node's row is a mean of: of TOP (``samples[S - 1]``), then of its petal states."""
    later = np.where(node_state >= 0, samples[node_state], 0)
    return np.concatenate([np.full((len(node_state), 1), samples[-1]), later], axis=1)


def transition_means(sums: Float[np.ndarray, "N U V"], samples: Int[np.ndarray, "N U"]) -> Float[np.ndarray, "N U V"]:
    """Means over the segments of each source node; rows without data are 0."""
    return sums / np.where(samples > 0, samples, 1)[..., None]


def evaluate_nodes(P_hat: Float[np.ndarray, "N U V"], r_hat: Float[np.ndarray, "N U V"]) -> Float[np.ndarray, " N"]:
    """Values of TOP: ``val(u) = sum_v r_hat(u, v) + P_hat(u, v) val(v)``, deepest node first, ``val(BOT) = 0``."""
    val = np.zeros((P_hat.shape[0], P_hat.shape[2]))
    for u in reversed(range(P_hat.shape[1])):
        val[:, u] = r_hat[:, u].sum(axis=1) + (P_hat[:, u] * val).sum(axis=1)
    return val[:, 0]


def visit_probabilities(P_hat: Float[np.ndarray, "N U V"]) -> Float[np.ndarray, "N D"]:
    """Probability that each policy visits each of its petal states, in the reward process."""
    visit = np.zeros((P_hat.shape[0], P_hat.shape[2]))
    visit[:, 0] = 1.0
    for u in range(P_hat.shape[1]):
        visit += visit[:, u, None] * P_hat[:, u]
    return visit[:, 1:-1]


def _prefixes(
    by_state: Int[np.ndarray, "K S"], states: Int[np.ndarray, "m t"], actions: Int[np.ndarray, "m t"],
    mask: Bool[np.ndarray, "m t"],
) -> Bool[np.ndarray, "K m t1"]:  # fmt: skip
    """Whether each policy agrees with the first 0, 1, ..., t actions of each episode."""
    agree = (by_state[:, states] == actions) | ~mask
    first = np.ones((*agree.shape[:2], 1), dtype=bool)
    return np.concatenate([first, np.logical_and.accumulate(agree, axis=2)], axis=2)


def _agreement_until(by_state, states, actions, mask, ends) -> Bool[np.ndarray, "N m"]:
    prefixes = _prefixes(by_state, states, actions, mask)
    return np.take_along_axis(prefixes, ends[..., None], axis=2)[..., 0]
