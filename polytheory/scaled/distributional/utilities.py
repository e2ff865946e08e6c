"""The recursion on utilities in torch: one number for each state and stock, scalar or vector, in place of a law."""

from __future__ import annotations

import torch

from polytheory._typing import Float, Int
from polytheory.models.objectives import Objective
from polytheory.scaled.distributional.representations import next_stock


def split_stock(
    stock: Float[torch.Tensor, "*n m"], axes: tuple[Float[torch.Tensor, " _"], ...]
) -> tuple[Int[torch.Tensor, "*n J"], Float[torch.Tensor, "*n J"], Float[torch.Tensor, "*n m"]]:
    """Split a stock between the J = 2^m corners around it; the reference states what that costs."""
    index = torch.zeros((*stock.shape[:-1], 1), dtype=torch.int64, device=stock.device)
    weight = torch.ones_like(stock[..., :1])
    beyond = torch.zeros_like(stock)
    for i, nodes in enumerate(axes):
        kept = stock[..., i].clamp(nodes[0], nodes[-1])
        beyond[..., i] = stock[..., i] - kept
        place = (kept - nodes[0]) / (nodes[1] - nodes[0])
        left = place.floor().clamp(0, len(nodes) - 2).long()
        right_share = (place - left)[..., None]
        at = index * len(nodes) + left[..., None]
        index = torch.cat([at, at + 1], -1)
        weight = torch.cat([weight * (1 - right_share), weight * right_share], -1)
    return index, weight, beyond


def utility_backup(
    objective: Objective,
    reward: Float[torch.Tensor, "S A K *m"],
    prob: Float[torch.Tensor, "S A K"],
    next_state: Int[torch.Tensor, "S A K"],
    after: Float[torch.Tensor, "S C"],
    axes: tuple[Float[torch.Tensor, " _"], ...],
    gamma: float,
    alpha: float,
    scale: float,
) -> Float[torch.Tensor, "S C A"]:
    """``alpha E U(S', (c + R) / gamma)`` of every action, from U at the nodes; beyond the grid as in the reference."""
    nodes = torch.stack([x.flatten() for x in torch.meshgrid(*axes, indexing="ij")], -1)
    paid = reward.reshape(*prob.shape, len(axes))
    stock = next_stock(nodes[:, None, None], paid[:, None], gamma)  # [S, C, A, K, m]
    index, weight, beyond = split_stock(stock, axes)
    ahead = (weight * after[next_state[:, None, :, :, None], index]).sum(-1)
    if objective.straight:
        way = scale * (beyond[..., 0] if reward.ndim == 3 else beyond)
        ahead = ahead + objective.utility(2 * way) - objective.utility(way)
    return alpha * (prob[:, None] * ahead).sum(-1)
