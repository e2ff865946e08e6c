"""The parts of the method on grids, in torch: the stock's move, laws with a fixed number of atoms, the greedy step.

Text and conventions are the reference's; laws lie on the last axis, all axes before it are a batch.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Float, Int
from polytheory.distributional.constants import EDGE, TIE
from polytheory.models.objectives import Objective


def next_stock(stock: Any, reward: Any, gamma: float) -> Any:
    """``c' = (c + r) / gamma``, which keeps ``c_0 + G_0 = gamma^t (c_t + G_t)``."""
    return (stock + reward) / gamma


def nearest(stock: Float[torch.Tensor, "*n"], stocks: Float[torch.Tensor, " C"]) -> Int[torch.Tensor, "*n"]:
    """Index of the nearest of the evenly spaced nodes; stocks beyond the ends take the end."""
    step = stocks[1] - stocks[0]
    return torch.round((stock - stocks[0]) / step).clamp(0, len(stocks) - 1).long()


def nearest_node(stock: Float[torch.Tensor, "*n"], stocks: Float[torch.Tensor, "C ..."]) -> Int[torch.Tensor, "..."]:
    """Index of the nearest node of a stock [*n] (or vectors [*n, m], of a product grid with the last quantity fastest)."""
    if stocks.ndim == 1:
        return nearest(stock, stocks)
    index = torch.zeros(stock.shape[:-1], dtype=torch.int64, device=stock.device)
    for i in range(stocks.shape[1]):
        nodes = stocks[:, i].unique()
        index = index * len(nodes) + nearest(stock[..., i], nodes)
    return index


def categorical_projection(
    atoms: Float[torch.Tensor, "*n K"], probs: Float[torch.Tensor, "*n K"], support: Float[torch.Tensor, " N"]
) -> Float[torch.Tensor, "*n N"]:
    """Split every atom between the neighbours on an even support so that the mean stays; beyond the ends they go to the end."""
    N = len(support)
    place = ((atoms - support[0]) / (support[1] - support[0])).clamp(0, N - 1)
    left = place.floor().clamp(max=N - 2).long()
    right_share = place - left
    out = torch.zeros(*atoms.shape[:-1], N, dtype=atoms.dtype, device=atoms.device)
    out.scatter_add_(-1, left, probs * (1 - right_share))
    return out.scatter_add_(-1, left + 1, probs * right_share)


def quantile_projection(
    atoms: Float[torch.Tensor, "*n K"], probs: Float[torch.Tensor, "*n K"], n: int
) -> Float[torch.Tensor, "*n N"]:
    """The quantiles at levels ``(2 i + 1) / (2 n)``: the nearest law of n equal atoms in 1-Wasserstein distance."""
    atoms, order = atoms.sort(dim=-1, stable=True)
    upto = probs.gather(-1, order).cumsum(-1)
    levels = (2 * torch.arange(n, dtype=atoms.dtype, device=atoms.device) + 1) / (2 * n) - EDGE
    index = torch.searchsorted(upto, levels.expand(*atoms.shape[:-1], n).contiguous())
    return atoms.gather(-1, index.clamp(max=atoms.shape[-1] - 1))


def backup(
    reward: Float[torch.Tensor, "S A K"],
    prob: Float[torch.Tensor, "S A K"],
    next_state: Int[torch.Tensor, "S A K"],
    eta: Float[torch.Tensor, "S C N"],
    support: Float[torch.Tensor, " N"] | None,
    stocks: Float[torch.Tensor, " C"],
    gamma: float,
) -> tuple[Float[torch.Tensor, "S C A KN"], Float[torch.Tensor, "S C A KN"]]:
    """``(T_a eta)(s, c)`` for every action, before any projection: atoms ``r + gamma z`` and their probabilities.

    ``support`` is that of categorical laws, None for quantile laws.
    """
    node = nearest(next_stock(stocks[:, None, None], reward[:, None], gamma), stocks)  # [S, C, A, K]
    after = eta[next_state[:, None], node]  # [S, C, A, K, N]
    values = after if support is None else support.expand(after.shape)
    mass = torch.full_like(after, 1 / after.shape[-1]) if support is None else after
    atoms = reward[:, None, ..., None] + gamma * values
    probs = prob[:, None, ..., None] * mass
    return atoms.flatten(-2), probs.flatten(-2)


def action_values(
    objective: Objective,
    atoms: Float[torch.Tensor, "S C A M"],
    probs: Float[torch.Tensor, "S C A M"],
    stocks: Float[torch.Tensor, " C"],
    scale: float = 1.0,
) -> Float[torch.Tensor, "S C A"]:
    """``K(law of scale (c + G))`` of every action: the greedy step looks at whole laws."""
    return objective.value(scale * (stocks[:, None, None] + atoms), probs)


def best_actions(values: Float[torch.Tensor, "*n A"]) -> Int[torch.Tensor, "*n"]:
    """The first action that is best up to rounding."""
    top = values.amax(-1, keepdim=True)
    return (values >= top - TIE * (1 + top.abs())).to(torch.uint8).argmax(-1)


def chosen(laws: Float[torch.Tensor, "*n A M"], actions: Int[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n M"]:
    """The law of the chosen action, whole: neither an average of equals nor a maximum atom by atom is a policy's law."""
    index = actions[..., None, None].expand(*actions.shape, 1, laws.shape[-1])
    return laws.gather(-2, index)[..., 0, :]
