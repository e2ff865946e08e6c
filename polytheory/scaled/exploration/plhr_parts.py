"""The formulas of the policy emulator in torch, as in the reference; statistics may carry a leading replica axis."""

from __future__ import annotations

import torch

from polytheory._typing import Float, Int


def nearest(
    fingerprint: Float[torch.Tensor, " F"], representatives: Float[torch.Tensor, "C F"], tolerance: float
) -> int:
    """The cluster whose representative is nearest in sup norm; -1 when none is within the tolerance."""
    if not len(representatives):
        return -1
    distance = (representatives - fingerprint).abs().amax(1)
    c = int(distance.argmin())
    return c if float(distance[c]) <= tolerance else -1


def fingerprint_means(
    returns: Float[torch.Tensor, " m"], states: int, tests: int, n_actions: int
) -> Float[torch.Tensor, "k F"]:
    """``Q_hat(x, a)`` of every test policy from rollouts ordered by (state, test, action, repetition): [k, tests * A]."""
    return returns.view(states, tests * n_actions, -1).mean(2)


def emulated_values(
    pool: Float[torch.Tensor, "*n H C x"],
    tried: Float[torch.Tensor, "*n H C A"],
    moves: Float[torch.Tensor, "*n H C A C2"],
    rewards: Float[torch.Tensor, "*n H C A"],
    actions: Int[torch.Tensor, "N H x"],
) -> Float[torch.Tensor, "*n N"]:
    """Value of every policy in the emulator; see the reference."""
    A = rewards.shape[-1]
    V = torch.zeros(*pool.shape[:-3], len(actions), pool.shape[-2], dtype=pool.dtype)
    mass = pool.sum(-1)
    for h in reversed(range(pool.shape[-3])):
        count = tried[..., h, :, :].clamp(min=1)
        move = moves[..., h, :, :, :] / count[..., None]
        Q = (rewards[..., h, :, :] / count)[..., None, :, :] + torch.einsum("...cad,...kd->...kca", move, V)
        own = torch.nn.functional.one_hot(actions[:, h], A).to(pool)
        taken = torch.einsum("...cx,kxa->...kca", pool[..., h, :, :], own)
        V = (taken * Q).sum(-1) / mass[..., h, None, :].clamp(min=1)
    start = mass[..., 0, :]
    return (V * start[..., None, :]).sum(-1) / start.sum(-1, keepdim=True).clamp(min=1)
