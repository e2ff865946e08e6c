"""The parts of the method on grids: the stock's move, laws with a fixed number of atoms and their projections, the greedy step.

A law is kept as N probabilities on a common support (*categorical*) or as N atoms of mass 1/N (*quantile*). Laws lie on the
last axis; all axes before it are a batch.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Array, Float, Int
from polytheory.distributional.constants import EDGE, TIE
from polytheory.models.objectives import Objective


def next_stock(stock: Any, reward: Any, gamma: Any) -> Any:
    """``c' = (c + r) / gamma``, which keeps ``c_0 + G_0 = gamma^t (c_t + G_t)``."""
    return (stock + reward) / gamma


def nearest(stock: Array, stocks: Float[np.ndarray, " C"]) -> Array:
    """Index of the nearest of the evenly spaced nodes; stocks beyond the ends take the end."""
    step = stocks[1] - stocks[0]
    return np.clip(np.rint((stock - stocks[0]) / step), 0, len(stocks) - 1).astype(np.int64)


def nearest_node(stock: Array, stocks: Float[np.ndarray, "C ..."]) -> Array:
    """Index of the nearest node of a stock [*n] (or vectors [*n, m], of a product grid with the last quantity fastest)."""
    if stocks.ndim == 1:
        return nearest(stock, stocks)
    index = np.zeros(stock.shape[:-1], dtype=np.int64)
    for i in range(stocks.shape[1]):
        nodes = np.unique(stocks[:, i])
        index = index * len(nodes) + nearest(stock[..., i], nodes)
    return index


def categorical_projection(
    atoms: Float[np.ndarray, "*n K"], probs: Float[np.ndarray, "*n K"], support: Float[np.ndarray, " N"]
) -> Float[np.ndarray, "*n N"]:
    """Split every atom between the neighbours on an even support so that the mean stays; atoms beyond the ends go to the end.

    Guarantee: moves a law by at most ``dz / 2`` in 1-Wasserstein distance when the support covers it.
    """
    lead, N = atoms.shape[:-1], len(support)
    place = np.clip((atoms - support[0]) / (support[1] - support[0]), 0, N - 1)
    left = np.minimum(np.floor(place), N - 2).astype(np.int64)
    right_share = place - left
    row = N * np.arange(int(np.prod(lead, dtype=np.int64))).reshape(*lead, 1)
    size, flat = N * int(np.prod(lead, dtype=np.int64)), (row + left).ravel()
    out = np.bincount(flat, (probs * (1 - right_share)).ravel(), minlength=size)
    out += np.bincount(flat + 1, (probs * right_share).ravel(), minlength=size + 1)[:size]
    return out.reshape(*lead, N)


def quantile_projection(
    atoms: Float[np.ndarray, "*n K"], probs: Float[np.ndarray, "*n K"], n: int
) -> Float[np.ndarray, "*n N"]:
    """The quantiles at levels ``(2 i + 1) / (2 n)``: the nearest law of n equal atoms in 1-Wasserstein distance.

    Guarantee: moves a law on [a, b] by at most ``(b - a) / (2 n)``; the mean may move.
    """
    order = np.argsort(atoms, axis=-1, kind="stable")
    atoms, upto = np.take_along_axis(atoms, order, -1), np.cumsum(np.take_along_axis(probs, order, -1), -1)
    levels = (2 * np.arange(n) + 1) / (2 * n) - EDGE
    rows, flat = upto.reshape(-1, upto.shape[-1]), atoms.reshape(-1, atoms.shape[-1])
    index = np.stack([np.searchsorted(row, levels) for row in rows])
    return np.take_along_axis(flat, np.minimum(index, flat.shape[-1] - 1), -1).reshape(*atoms.shape[:-1], n)


def backup(
    reward: Float[np.ndarray, "S A K"],
    prob: Float[np.ndarray, "S A K"],
    next_state: Int[np.ndarray, "S A K"],
    eta: Float[np.ndarray, "S C N"],
    support: Float[np.ndarray, " N"] | None,
    stocks: Float[np.ndarray, " C"],
    gamma: float,
) -> tuple[Float[np.ndarray, "S C A KN"], Float[np.ndarray, "S C A KN"]]:
    """``(T_a eta)(s, c)`` for every action, before any projection: atoms ``r + gamma z`` and their probabilities.

    ``support`` is that of categorical laws, None for quantile laws.
    """
    node = nearest(next_stock(stocks[:, None, None], reward[:, None], gamma), stocks)  # [S, C, A, K]
    after = eta[next_state[:, None], node]  # [S, C, A, K, N]
    values = after if support is None else np.broadcast_to(support, after.shape)
    mass = np.full(after.shape, 1 / after.shape[-1]) if support is None else after
    atoms = reward[:, None, ..., None] + gamma * values
    probs = prob[:, None, ..., None] * mass
    return atoms.reshape(*atoms.shape[:3], -1), probs.reshape(*atoms.shape[:3], -1)


def action_values(
    objective: Objective,
    atoms: Float[np.ndarray, "S C A M"],
    probs: Float[np.ndarray, "S C A M"],
    stocks: Float[np.ndarray, " C"],
    scale: float = 1.0,
) -> Float[np.ndarray, "S C A"]:
    """``K(law of scale (c + G))`` of every action: the greedy step looks at whole laws."""
    return objective.value(scale * (stocks[:, None, None] + atoms), probs)


def best_actions(values: Float[np.ndarray, "*n A"]) -> Int[np.ndarray, "*n"]:
    """The first action that is best up to rounding."""
    top = values.max(-1, keepdims=True)
    return np.asarray(np.argmax(values >= top - TIE * (1 + abs(top)), -1))


def chosen(laws: Float[np.ndarray, "*n A M"], actions: Int[np.ndarray, "*n"]) -> Float[np.ndarray, "*n M"]:
    """The law of the chosen action, whole: neither an average of equals nor a maximum atom by atom is a policy's law."""
    return np.take_along_axis(laws, actions[..., None, None], -2)[..., 0, :]
