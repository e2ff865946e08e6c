"""Worst laws of polyhedral sets, in closed form with a dual bound: total variation, intervals, transport, mixtures, lists.

Every function takes values ``z [..., n]`` and nominal laws ``p [..., n]`` that broadcast, and returns a `Worst`. Nature
minimises ``q . z``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from polytheory._typing import Float


class Worst(NamedTuple):
    """``value`` [...] of the worst case; a ``law`` [..., n] that attains it; ``gap`` [...] between the value of that law and a
    dual bound, >= 0 and zero up to rounding: the certificate."""

    value: Float[np.ndarray, "*k"]
    law: Float[np.ndarray, "*k n"]
    gap: Float[np.ndarray, "*k"]


def worst_l1(
    z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], radius: float, *, support: str = "full"
) -> Worst:
    """Laws with ``sum |q - p| <= radius``: probability moves from the best outcomes to the worst one.

    Dual: ``max_a E min(z, a) - (radius / 2) (a - min z)``, and the value of the last donor attains it.

    Args:
        radius: in [0, 2]; half of it is the total variation.
        support: "nominal" keeps ``q_i = 0`` where ``p_i = 0``.
    """
    z, p = np.broadcast_arrays(z, p)
    worst = np.argmin(receivers(z, p, support), axis=-1)[..., None]
    z_min = np.take_along_axis(z, worst, -1)
    moved = np.minimum(radius / 2, 1 - np.take_along_axis(p, worst, -1))
    donors = p.copy()
    np.put_along_axis(donors, worst, 0.0, -1)
    best_first = np.argsort(-z, axis=-1, kind="stable")
    stock = np.take_along_axis(donors, best_first, -1)
    before = np.cumsum(stock, -1) - stock
    taken = np.clip(moved - before, 0, stock)
    law = p.copy()
    np.put_along_axis(law, best_first, np.take_along_axis(p, best_first, -1) - taken, -1)
    np.put_along_axis(law, worst, np.take_along_axis(p, worst, -1) + taken.sum(-1, keepdims=True), -1)
    # the last donor's value; the largest one when nothing moved, the smallest when everything has
    last = z.shape[-1] - 1 - np.argmax(taken[..., ::-1] > 0, axis=-1)[..., None]
    donor = np.take_along_axis(np.take_along_axis(z, best_first, -1), last, -1)
    caps = [np.maximum(a, z_min) for a in (donor, z.max(-1, keepdims=True), z_min)]
    dual = np.max([(p * np.minimum(z, a)).sum(-1) - radius / 2 * (a - z_min)[..., 0] for a in caps], axis=0)
    value = (law * z).sum(-1)
    return Worst(value, law, np.abs(value - dual))


def receivers(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], support: str) -> Float[np.ndarray, "*k n"]:
    """``z``, infinite where nature may put no probability."""
    return z if support == "full" else np.where(p > 0, z, np.inf)


def worst_interval(
    z: Float[np.ndarray, "*k n"], low: Float[np.ndarray, "*k n"], high: Float[np.ndarray, "*k n"]
) -> Worst:
    """Laws with ``low <= q <= high``: fill up from the worst outcome [iyengar2005].

    Dual: ``max_c c + sum_i low_i max(z_i - c, 0) - high_i max(c - z_i, 0)``, attained by the value of the last one filled.
    """
    z, low, high = np.broadcast_arrays(z, low, high)
    worst_first = np.argsort(z, axis=-1, kind="stable")
    room = np.take_along_axis(high - low, worst_first, -1)
    before = np.cumsum(room, -1) - room
    left = 1 - low.sum(-1, keepdims=True)
    given = np.clip(left - before, 0, room)
    law = low.copy()
    np.put_along_axis(law, worst_first, np.take_along_axis(low, worst_first, -1) + given, -1)
    last = np.argmax(before + room >= left, axis=-1)[..., None]
    c = np.take_along_axis(np.take_along_axis(z, worst_first, -1), last, -1)
    dual = c[..., 0] + (low * np.maximum(z - c, 0) - high * np.maximum(c - z, 0)).sum(-1)
    value = (law * z).sum(-1)
    return Worst(value, law, np.abs(value - dual))


def worst_linf(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], radius: float) -> Worst:
    """Laws with ``max |q - p| <= radius``."""
    return worst_interval(z, np.maximum(p - radius, 0), np.minimum(p + radius, 1))


def worst_contamination(
    z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], radius: float, *, support: str = "full"
) -> Worst:
    """``(1 - radius) p + radius mu``: all that nature adds goes to the worst outcome."""
    z, p = np.broadcast_arrays(z, p)
    worst = np.argmin(receivers(z, p, support), axis=-1)[..., None]
    law = (1 - radius) * p
    np.put_along_axis(law, worst, np.take_along_axis(law, worst, -1) + radius, -1)
    value = (1 - radius) * (p * z).sum(-1) + radius * np.take_along_axis(z, worst, -1)[..., 0]
    return Worst(value, law, np.abs(value - (law * z).sum(-1)))


def worst_scenario(z: Float[np.ndarray, "*k n"], laws: Float[np.ndarray, "N *k n"]) -> Worst:
    """The worst of finitely many laws."""
    values = (laws * z).sum(-1)
    chosen = np.argmin(values, axis=0)
    law = np.take_along_axis(laws, chosen[None, ..., None], 0)[0]
    value = np.take_along_axis(values, chosen[None], 0)[0]
    return Worst(value, law, np.zeros_like(value))


def worst_transport(
    z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], cost: Float[np.ndarray, "n n"], radius: float
) -> Worst:
    """Laws to which ``p`` can be moved at a cost of at most ``radius`` (Wasserstein distance of order 1).

    Dual: ``max_{l >= 0} sum_x p_x min_y (z_y + l cost[x, y]) - l radius``, concave and piecewise linear with breakpoints
    ``(z_y - z_y') / (cost[x, y'] - cost[x, y])``. At the best price l the cheapest and the dearest of the best plans are
    mixed so that the budget is spent.
    """
    z, p = np.broadcast_arrays(z, p)
    lead = z.shape[:-1]
    rows = [_transport(zi, pi, cost, radius) for zi, pi in zip(_flat(z), _flat(p), strict=True)]
    value, law, gap = (np.array(x) for x in zip(*rows, strict=True))
    return Worst(value.reshape(lead), law.reshape(*lead, z.shape[-1]), gap.reshape(lead))


def _transport(z: np.ndarray, p: np.ndarray, cost: np.ndarray, radius: float) -> tuple[float, np.ndarray, float]:
    up, dear = z[None, :] - z[:, None], cost[:, None, :] - cost[:, :, None]  # [y', y], [x, y', y]
    with np.errstate(divide="ignore", invalid="ignore"):
        price = -up / dear
    prices = np.unique(np.concatenate([[0.0], price[np.isfinite(price) & (price > 0)]]))
    dual = (p * (z + prices[:, None, None] * cost).min(-1)).sum(-1) - prices * radius
    l = prices[np.argmax(dual)]
    total = z + l * cost
    best = total <= total.min(-1, keepdims=True) * (1 + 1e-15) + 1e-13 * (1 + np.abs(z).max())
    rows = np.arange(len(z))
    cheap = np.argmin(np.where(best, cost, np.inf), -1)
    far = np.argmax(np.where(best, cost, -np.inf), -1) if l > 0 else cheap
    spent = [float((p * cost[rows, to]).sum()) for to in (cheap, far)]
    share = 0.0 if spent[1] <= spent[0] else min(1.0, max(0.0, (radius - spent[0]) / (spent[1] - spent[0])))
    law = (1 - share) * np.bincount(cheap, p, len(z)) + share * np.bincount(far, p, len(z))
    value = float((law * z).sum())
    return value, law, abs(value - float(dual.max()))


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(-1, x.shape[-1])
