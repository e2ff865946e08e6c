"""Worst laws of balls of relative entropy and chi-square, and of the penalised problems.

Every function takes values ``z [..., n]`` and nominal laws ``p [..., n]`` that broadcast, and returns a `Worst` whose value is
the dual bound: near the optimum it moves only with the square of an error in the multiplier.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polytheory._typing import Array, Float
from polytheory.reference.robust.polyhedral import Worst

HALVINGS = 200  # of a bracket: more than float64 can tell apart


def worst_kl(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], radius: float) -> Worst:
    """Laws with ``sum q log(q / p) <= radius``: ``q ~ p exp(-t (z - min z))``, t found by halving.

    Dual: ``max_{b > 0} -b log E exp(-z / b) - b radius`` with ``b = 1 / t`` [nilim2005]. Where
    ``radius >= -log P(z = min z)`` nature takes the minimum over the support (branched first: a search would miss it).
    """
    z, p = np.broadcast_arrays(z, p)
    z_min, at_min = lowest(z, p)
    d = np.where(p > 0, z - z_min, 0.0)
    sure = p * at_min / np.maximum((p * at_min).sum(-1, keepdims=True), np.finfo(float).tiny)
    reaches = radius >= -np.log((p * at_min).sum(-1))
    t = increasing_root(
        lambda t: tilt_divergence(d, p, t),
        radius,
        1 / np.maximum(d.max(-1), np.finfo(float).tiny),
        ~reaches & bool(radius > 0),
    )
    law = np.where(reaches[..., None], sure, tilted(d, p, t))
    if radius == 0:
        law = p.copy()
    dual = z_min[..., 0] + np.where(t > 0, _free_energy(d, p, t) - radius / np.where(t > 0, t, 1.0), (p * d).sum(-1))
    value = np.where(reaches, z_min[..., 0], dual)
    return Worst(value, law, np.abs((law * np.where(p > 0, z, 0)).sum(-1) - value))


def lowest(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"]) -> tuple[np.ndarray, np.ndarray]:
    """The smallest value of the support, [..., 1], and where it is taken, [..., n]."""
    z_min = np.where(p > 0, z, np.inf).min(-1, keepdims=True)
    return z_min, (z == z_min) & (p > 0)


def tilted(d: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], t: Array) -> Float[np.ndarray, "*k n"]:
    """``q ~ p exp(-t d)`` for d >= 0."""
    weight = p * np.exp(-t[..., None] * d)
    return weight / weight.sum(-1, keepdims=True)


def tilt_divergence(d: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], t: Array) -> Array:
    """``KL(tilted || p) = -t E_q d - log E exp(-t d)``, increasing in t."""
    return -t * (tilted(d, p, t) * d).sum(-1) - _log_mean(d, p, t)


def _log_mean(d: Array, p: Array, t: Array) -> Array:
    x = -t[..., None] * d
    small = (p * np.expm1(x)).sum(-1)  # accurate near 0, where the plain sum is not, and the other way round
    return np.where(small > -0.5, np.log1p(np.maximum(small, -0.5)), np.log((p * np.exp(x)).sum(-1)))


def _free_energy(d: Array, p: Array, t: Array) -> Array:
    """``-(1 / t) log E exp(-t d)``; t = 0 gives 0 (the caller looks away)."""
    return -_log_mean(d, p, t) / np.where(t > 0, t, 1.0)


def increasing_root(f: Callable[[Array], Array], target: Array, start: Array, wanted: Array) -> Array:
    """The largest number t found with ``f(t) <= target`` for an increasing f; 0 where not ``wanted``."""
    low, high = np.zeros_like(start), start.copy()
    for _ in range(HALVINGS):
        below = wanted & (f(high) < target) & (high < 1e300)
        if not below.any():
            break
        low, high = np.where(below, high, low), np.where(below, 2 * high, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        inside = f(middle) <= target
        done = (middle == low) | (middle == high)
        low, high = np.where(inside & ~done, middle, low), np.where(inside | done, high, middle)
        if (done | ~wanted).all():
            break
    return np.where(wanted, low, 0.0)


def worst_chi2(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], radius: float) -> Worst:
    """Laws with ``sum (q - p)^2 / p <= radius``: ``q ~ p max(a - z, 0)``, a in closed form.

    Dual: ``max_a E min(z, a) - sqrt(radius Var min(z, a))``. With the k worst outcomes in play, of mass P, mean m and
    variance V, ``a = m + sqrt(V / ((1 + radius) P - 1))``; k is the one for which a lies between the k-th and the next outcome.
    """
    z, p = np.broadcast_arrays(z, p)
    z_min, at_min = lowest(z, p)
    mass = (p * at_min).sum(-1)
    reaches = radius >= 1 / mass - 1
    d = np.where(p > 0, z - z_min, 0.0)
    order, own, P, m, V = moments(d, p)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = m + np.sqrt(V / ((1 + radius) * P - 1))
    sorted_d = np.take_along_axis(np.where(p > 0, d, np.inf), order, -1)
    following = np.concatenate([sorted_d[..., 1:], np.full((*d.shape[:-1], 1), np.inf)], -1)
    # E (x - d)_+^2 / (E (x - d)_+)^2 falls in x: the first k whose next outcome is beyond the root
    with np.errstate(invalid="ignore", divide="ignore"):
        ratio = ((following - m) ** 2 + V) / (P * (following - m) ** 2)
    ratio = np.where(np.isinf(following), 1 / P, ratio)
    k = np.argmax((ratio <= 1 + radius) & (own > 0), axis=-1)[..., None]
    cap = np.take_along_axis(a, k, -1)
    spread = (d * p).sum(-1, keepdims=True)
    flat = ((p * (d - spread) ** 2).sum(-1) == 0) | (radius == 0)
    cap = np.where(reaches[..., None] | flat[..., None] | ~np.isfinite(cap), 1.0, cap)
    weight = p * np.maximum(cap - d, 0)
    law = weight / np.maximum(weight.sum(-1, keepdims=True), np.finfo(float).tiny)
    law = np.where(flat[..., None], p, np.where(reaches[..., None], p * at_min / mass[..., None], law))
    cut = np.minimum(d, cap)
    mean = (p * cut).sum(-1)
    dual = mean - np.sqrt(radius * np.maximum((p * (cut - mean[..., None]) ** 2).sum(-1), 0))
    value = z_min[..., 0] + np.where(flat, (p * d).sum(-1), np.where(reaches, 0.0, dual))
    return Worst(value, law, np.abs((law * np.where(p > 0, z, 0)).sum(-1) - value))


def moments(d: np.ndarray, p: np.ndarray) -> tuple[np.ndarray, ...]:
    """Outcomes worst first: their order and mass, and mass, mean and variance of the first k of them."""
    order = np.argsort(np.where(p > 0, d, np.inf), axis=-1, kind="stable")
    own, x = np.take_along_axis(p, order, -1), np.take_along_axis(d, order, -1)
    P = np.cumsum(own, -1)
    m = np.cumsum(own * x, -1) / P
    # sums of squares grow by terms that are never negative, while E x^2 - m^2 would cancel
    nothing = np.zeros_like(m[..., :1])
    P_before, m_before = (np.concatenate([nothing, y[..., :-1]], -1) for y in (P, m))
    return order, own, P, m, np.cumsum(own * P_before / P * (x - m_before) ** 2, -1) / P


def worst_reverse_kl(
    z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], radius: float, *, support: str = "full"
) -> Worst:
    """Laws with ``sum p log(p / q) <= radius``: ``q_i ~ p_i / (z_i - min z + c)`` with c >= 0 found by halving.

    Where the worst outcome has no nominal mass and c reaches 0, what is left goes there. Dual:
    ``max_{c >= 0} min z - c + exp(E log(z - min z + c) - radius)``.
    """
    z, p = np.broadcast_arrays(z, p)
    allowed = z if support == "full" else np.where(p > 0, z, np.inf)
    z_min = allowed.min(-1, keepdims=True)
    d = np.where(p > 0, z - z_min, 0.0)
    scale = np.maximum(d.max(-1), np.finfo(float).tiny)
    flat = ((d == 0) | (p == 0)).all(-1) | (radius == 0)

    def distance(u: Array) -> Array:  # u = scale / c, so that it increases
        y = d * (u / scale)[..., None]  # log(d + c) - log c = log1p(y): nothing cancels for a small radius
        away, rest = (p * y / (1 + y)).sum(-1), (p / (1 + y)).sum(-1)  # they sum to 1; the smaller is the accurate one
        return (p * np.log1p(y)).sum(-1) + np.where(away < 0.5, np.log1p(-np.minimum(away, 0.5)), np.log(rest))

    touches = (p * (d <= 0)).sum(-1) > 0  # the worst outcome has mass: c stays positive
    clear = np.where(p > 0, np.where(d > 0, d, 1.0), 1.0)
    at_zero = (p * np.log(clear)).sum(-1) + np.log((p / clear).sum(-1))
    left_over = ~touches & (at_zero <= radius)
    u = increasing_root(distance, radius, np.ones_like(scale), ~(left_over | flat))
    c = np.where(left_over | flat, 0.0, scale / np.maximum(u, 1e-300))
    rise = (p * np.log1p(d * (u / scale)[..., None])).sum(-1) - radius  # log of level / c
    level = np.where(left_over, np.exp((p * np.log(clear)).sum(-1) - radius), c * np.exp(rise))
    x = np.where((p > 0) & (d + c[..., None] > 0), d + c[..., None], 1.0)
    law = level[..., None] * p / x
    rest = np.maximum(1 - law.sum(-1), 0)
    worst = np.argmin(allowed, -1)[..., None]
    spare = np.where(left_over[..., None], rest[..., None], 0.0)
    law = np.where(left_over[..., None], law, law / np.maximum(law.sum(-1, keepdims=True), np.finfo(float).tiny))
    np.put_along_axis(law, worst, np.take_along_axis(law, worst, -1) + spare, -1)
    law = np.where(flat[..., None], p, law)
    above = np.where(left_over, level, c * np.expm1(rise))
    value = np.where(flat, (p * z).sum(-1), z_min[..., 0] + above)
    return Worst(value, law, np.abs((law * z).sum(-1) - value))


def penalised_tv(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], strength: float) -> Worst:
    """``min_q q . z + strength TV(q, p) = E min(z, min z + strength)``, over all states."""
    z, p = np.broadcast_arrays(z, p)
    worst = np.argmin(z, -1)[..., None]
    z_min = np.take_along_axis(z, worst, -1)
    moves = z > z_min + strength
    law = np.where(moves, 0.0, p)
    np.put_along_axis(law, worst, np.take_along_axis(law, worst, -1) + (p * moves).sum(-1, keepdims=True), -1)
    value = (p * np.minimum(z, z_min + strength)).sum(-1)
    paid = (law * z).sum(-1) + strength * np.abs(law - p).sum(-1) / 2
    return Worst(value, law, np.abs(paid - value))


def penalised_kl(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], strength: float) -> Worst:
    """``min_q q . z + strength KL(q, p) = -strength log E exp(-z / strength)``, the entropic risk."""
    z, p = np.broadcast_arrays(z, p)
    z_min, _ = lowest(z, p)
    d = np.where(p > 0, z - z_min, 0.0)
    t = np.full(d.shape[:-1], 1 / strength)
    law = tilted(d, p, t)
    value = z_min[..., 0] + _free_energy(d, p, t)
    paid = z_min[..., 0] + (law * d).sum(-1) + strength * tilt_divergence(d, p, t)
    return Worst(value, law, np.abs(paid - value))


def penalised_chi2(z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"], strength: float) -> Worst:
    """``min_q q . z + strength chi2(q, p)``: ``q = p max(a - z, 0) / (2 strength)`` with ``E max(a - z, 0) = 2 strength``.

    Dual: ``max_a E min(z, a) - Var min(z, a) / (4 strength)``. With the k worst outcomes in play ``E max(a - z, 0) = P_k
    (a - m_k)``,
    which is largest for the right k: a is the smallest ``m_k + 2 strength / P_k``.
    """
    z, p = np.broadcast_arrays(z, p)
    z_min, _ = lowest(z, p)
    d = np.where(p > 0, z - z_min, 0.0)
    _, own, P, m, _ = moments(d, p)
    a = np.where(own > 0, m + 2 * strength / P, np.inf).min(-1)
    law = p * np.maximum(a[..., None] - d, 0) / (2 * strength)
    cut = np.minimum(d, a[..., None])
    mean = (p * cut).sum(-1)
    value = z_min[..., 0] + mean - (p * (cut - mean[..., None]) ** 2).sum(-1) / (4 * strength)
    away = np.where(p > 0, (law - p) ** 2 / np.where(p > 0, p, 1.0), 0.0).sum(-1)
    paid = z_min[..., 0] + (law * d).sum(-1) + strength * away
    return Worst(value, law, np.abs(paid - value))
