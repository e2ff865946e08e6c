"""The formulas of POPLER in torch, as in the reference; statistics may carry a leading replica axis."""

from __future__ import annotations

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.errors import PolicyError


def petal_slots(petals: Bool[torch.Tensor, "N H n"]) -> tuple[Int[torch.Tensor, "N S"], Int[torch.Tensor, "N D"]]:
    """``slot`` [N, S] and the state of each node [N, D] (-1: no such node); S = H n + 1, nodes in order of state number."""
    flat = torch.nn.functional.pad(petals.flatten(1), (0, 1))
    order = flat.long().cumsum(1)
    slot = torch.where(flat, order, 0)
    node_state = torch.full((len(flat), int(order.max())), -1, device=petals.device)
    k, s = flat.nonzero(as_tuple=True)
    node_state[k, slot[k, s] - 1] = s
    return slot, node_state


def segment_ends(
    slot: Int[torch.Tensor, "N S"], states: Int[torch.Tensor, "m t"], mask: Bool[torch.Tensor, "m t"], from_top: bool
) -> tuple[Int[torch.Tensor, "N m"], Int[torch.Tensor, "N m"]]:
    """Where each policy's first segment ends in each episode: the step (t where it reaches the end) and the node."""
    t = states.shape[1]
    node = slot[:, states]
    hit = (node > 0) & mask
    if not from_top:
        hit[..., 0] = False
    ends = torch.where(hit.any(2), hit.to(torch.int8).argmax(2), t)
    at = node.gather(2, ends.clamp(max=t - 1)[..., None])[..., 0]
    return ends, torch.where(ends < t, at, int(slot.max()) + 1)


def segment_weights(
    core: Int[torch.Tensor, "K S"],
    by_state: Int[torch.Tensor, "N S"],
    states: Int[torch.Tensor, "m t"],
    actions: Int[torch.Tensor, "m t"],
    mask: Bool[torch.Tensor, "m t"],
    ends: Int[torch.Tensor, "N m"],
) -> Float[torch.Tensor, "N m"]:
    """``K 1{policy agrees with the segment} / #{core policies that agree}``: at most K, mean 1 over uniform core policies.

    Raises `PolicyError` when a policy agrees with a segment that no core policy agrees with: it is no petal of this core.
    """
    own = _prefixes(by_state, states, actions, mask).gather(2, ends[..., None])[..., 0]
    agree = _prefixes(core, states, actions, mask).sum(0)
    count = agree[torch.arange(len(states), device=states.device), ends]
    lost = own & (count == 0)
    if bool(lost.any()):
        raise PolicyError(
            f"policy {int(lost.nonzero()[0, 0])} goes where no core policy goes, outside of its petal states: this is no "
            "sunflower; add petal states or core policies"
        )
    return own.double() * len(core) / count.clamp(min=1)


def segment_rewards(
    rewards: Float[torch.Tensor, "m t"], mask: Bool[torch.Tensor, "m t"], ends: Int[torch.Tensor, "N m"]
) -> Float[torch.Tensor, "N m"]:
    """Sum of rewards from the start of the segment to just before its end."""
    sums = torch.nn.functional.pad(torch.where(mask, rewards, 0.0).cumsum(1), (1, 0))
    return sums[torch.arange(len(rewards), device=rewards.device), ends]


def add_segments(
    weight: Float[torch.Tensor, "N U V"], reward: Float[torch.Tensor, "N U V"], source: Int[torch.Tensor, " N"],
    node: Int[torch.Tensor, "N m"], w: Float[torch.Tensor, "N m"], segment_reward: Float[torch.Tensor, "N m"],
) -> tuple[Float[torch.Tensor, "N U V"], Float[torch.Tensor, "N U V"]]:  # fmt: skip
    """Sums of weights and of weighted rewards by (policy, source node, end node); source -1 means: not this policy's."""
    k, i = (source >= 0)[:, None].expand_as(node).nonzero(as_tuple=True)
    place = (k, source[k], node[k, i])
    return (
        weight.index_put(place, w[k, i], accumulate=True),
        reward.index_put(place, w[k, i] * segment_reward[k, i], accumulate=True),
    )


def node_samples(
    samples: Int[torch.Tensor, "*n S"], node_state: Int[torch.Tensor, "N D"]
) -> Int[torch.Tensor, "*n N U"]:
    """How many segments each node's row is a mean of: of TOP (``samples[S - 1]``), then of its petal states."""
    later = torch.where(node_state >= 0, samples[..., node_state], 0)
    top = samples[..., -1:, None].expand(*later.shape[:-1], 1)
    return torch.cat([top, later], dim=-1)


def transition_means(
    sums: Float[torch.Tensor, "*n N U V"], samples: Int[torch.Tensor, "*n N U"]
) -> Float[torch.Tensor, "*n N U V"]:
    """Means over the segments of each source node; rows without data are 0."""
    return sums / samples.clamp(min=1)[..., None]


def evaluate_nodes(
    P_hat: Float[torch.Tensor, "*n N U V"], r_hat: Float[torch.Tensor, "*n N U V"]
) -> Float[torch.Tensor, "*n N"]:
    """Values of TOP: ``val(u) = sum_v r_hat(u, v) + P_hat(u, v) val(v)``, deepest node first, ``val(BOT) = 0``."""
    val = torch.zeros_like(P_hat[..., 0, :])
    for u in reversed(range(P_hat.shape[-2])):
        val[..., u] = r_hat[..., u, :].sum(-1) + (P_hat[..., u, :] * val).sum(-1)
    return val[..., 0]


def visit_probabilities(P_hat: Float[torch.Tensor, "*n N U V"]) -> Float[torch.Tensor, "*n N D"]:
    """Probability that each policy visits each of its petal states, in the reward process."""
    visit = torch.zeros_like(P_hat[..., 0, :])
    visit[..., 0] = 1.0
    for u in range(P_hat.shape[-2]):
        visit = visit + visit[..., u, None] * P_hat[..., u, :]
    return visit[..., 1:-1]


def _prefixes(
    by_state: Int[torch.Tensor, "K S"], states: Int[torch.Tensor, "m t"], actions: Int[torch.Tensor, "m t"],
    mask: Bool[torch.Tensor, "m t"],
) -> Bool[torch.Tensor, "K m t1"]:  # fmt: skip
    """Whether each policy agrees with the first 0, 1, ..., t actions of each episode."""
    agree = (by_state[:, states] == actions) | ~mask
    return torch.nn.functional.pad(agree.long().cumprod(2).bool(), (1, 0), value=True)
