"""The recursion on utilities: one number for each state and stock, scalar or vector, in place of a law."""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float, Int
from polytheory.models.objectives import Objective
from polytheory.models.stock_product import nodes_of
from polytheory.reference.distributional.representations import next_stock


def split_stock(
    stock: Float[np.ndarray, "*n m"], axes: tuple[Float[np.ndarray, " _"], ...]
) -> tuple[Int[np.ndarray, "*n J"], Float[np.ndarray, "*n J"], Float[np.ndarray, "*n m"]]:
    """Split a stock between the J = 2^m corners around it so that its mean stays: their indices in the product grid (last
    quantity fastest), their weights, and how far the stock lies beyond the grid (the split is that of the nearest point).

    Guarantee: moves the stock's law by ``sum_i 2 x_i (1 - x_i) dz_i``, at most ``sum_i dz_i / 2``, in the 1-Wasserstein
    distance of the sum of absolute values.
    """
    index = np.zeros((*stock.shape[:-1], 1), dtype=np.int64)
    weight = np.ones((*stock.shape[:-1], 1))
    beyond = np.zeros(stock.shape)
    for i, nodes in enumerate(axes):
        kept = np.clip(stock[..., i], nodes[0], nodes[-1])
        beyond[..., i] = stock[..., i] - kept
        place = (kept - nodes[0]) / (nodes[1] - nodes[0])
        left = np.clip(np.floor(place), 0, len(nodes) - 2).astype(np.int64)
        right_share = (place - left)[..., None]
        at = index * len(nodes) + left[..., None]
        index = np.concatenate([at, at + 1], -1)
        weight = np.concatenate([weight * (1 - right_share), weight * right_share], -1)
    return index, weight, beyond


def utility_backup(
    objective: Objective,
    reward: Float[np.ndarray, "S A K *m"],
    prob: Float[np.ndarray, "S A K"],
    next_state: Int[np.ndarray, "S A K"],
    after: Float[np.ndarray, "S C"],
    axes: tuple[Float[np.ndarray, " _"], ...],
    gamma: float,
    alpha: float,
    scale: float,
) -> Float[np.ndarray, "S C A"]:
    """``alpha E U(S', (c + R) / gamma)`` of every action, from U at the nodes.

    Beyond the grid U goes on along the straight ends of f, at ``scale`` times the stock: ``f(2 x) - f(x)`` is the slope there
    times x, also for an f that jumps at 0.
    """
    paid = reward.reshape(*prob.shape, len(axes))
    stock = next_stock(nodes_of(axes)[:, None, None], paid[:, None], gamma)  # [S, C, A, K, m]
    index, weight, beyond = split_stock(stock, axes)
    ahead = (weight * after[next_state[:, None, :, :, None], index]).sum(-1)
    if objective.straight:
        way = scale * (beyond[..., 0] if reward.ndim == 3 else beyond)
        ahead = ahead + objective.utility(2 * way) - objective.utility(way)
    return alpha * (prob[:, None] * ahead).sum(-1)
