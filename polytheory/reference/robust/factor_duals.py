"""What the worst law of every factor makes of the next value, from *estimated* laws: rows of a ridge regression.

With features ``phi`` and the ridge matrix ``Lambda``, ``W = Lambda^{-1} sum phi(s, a) 1{s'}`` [d, S] estimates the factors, so
that ``W f`` estimates the mean of any function f of the next state under each. Its rows need not be distributions: they sum to
less than 1 (ridge) and may have negative entries. Hence the duals are maximised as they stand, without concavity:

==================  ============================================================================
kind                value of a factor; z(f) = W f, [V]_a = min(V, a), a in [0, top]
==================  ============================================================================
``tv``              ``max_a z([V]_a) - rho (a - min [V]_a)``
``kl``              ``max_b -b log z(exp(-V / b)) - b rho``, b in [KL_FLOOR top, top / rho]
``chi2``            ``max_a z1 - sqrt(rho (z2 - z1^2)_+)``, z1 = z([V]_a), z2 = z([V]_a^2), clipped
``penalised-tv``    ``z(min(V, min V + lam))``
``penalised-kl``    ``-lam log z(exp(-V / lam))``
``penalised-chi2``  ``max_a z1 - (z2 - z1^2)_+ / (4 lam)``
==================  ============================================================================

In a the duals are smooth between neighbouring values of V, with few stationary points and kinks in closed form: all of them
are tried, which is exact. The dual of ``kl`` is searched on a grid of b that is refined.

Deviations: 1. b has a floor. An estimated row with a negative entry at the least values makes z negative for small b, and
``-b log`` of nothing is the largest value there is: without floor the estimate would never become consistent. With laws in
place of estimates a floor makes the value too small by at most ``floor (rho + log 1 / min p)``. 2. A factor that nature
cannot touch (radius 0, or infinite price) is the plain regression ``z(V)``.

References: [liu2024robust] Liu and Xu, Minimax Optimal and Computationally Efficient Algorithms for Distributionally Robust
Offline Reinforcement Learning, NeurIPS 2024, eq. 4.4 for ``tv``. [iyengar2005; nilim2005] for the duals of true laws.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Float

Rows = Float[np.ndarray, "d S"]
Vector = Float[np.ndarray, " S"]
Factors = Float[np.ndarray, " d"]

KL_FLOOR = 0.1  # least b, in units of the largest value
GRID, ROUNDS = 33, 9  # points a round; every round narrows the bracket of log b sixteenfold


def factor_values(
    W: Rows, v: Vector, radius: Factors, *, kind: str, top: float, low: float | None = None, centred: bool = False,
    floor: float = KL_FLOOR,
) -> Factors:  # fmt: skip
    """The estimated worst value of every factor.

    Args:
        W: estimated laws of the factors. v: values of the next states, in [0, top]. radius: of every factor >= 0; the price
            lam > 0 for the penalised kinds. kind: see above. top: the largest value that is possible.
        low: the least value that nature can reach by ``tv`` and ``penalised-tv``; None takes the least of ``v``.
        centred: regress ``exp(-V / b) - 1`` in place of ``exp(-V / b)`` (KL): what the ridge takes away then counts as value
            0 and not as value infinity.
        floor: least b of ``kl`` in units of ``top``.
    """
    low = float(v.min()) if low is None else low
    free = np.isinf(radius) if kind.startswith("penalised") else radius == 0
    size = np.where(free, 1.0, radius)
    if kind == "tv":
        worst = tv_dual(W, v, size, low, top)
    elif kind == "kl":
        worst = kl_dual(W, v, size, top, centred, floor)
    elif kind == "penalised-tv":
        worst = (W * np.minimum(v, low + size[:, None])).sum(-1)
    elif kind == "penalised-kl":
        worst = entropic(W, v, size[:, None], top, centred)[:, 0]
    else:
        worst = chi2_dual(W, v, size, top, priced=kind == "penalised-chi2")
    return np.where(free, W @ v, worst)


def tv_dual(W: Rows, v: Vector, radius: Factors, low: float, top: float) -> Factors:
    """``max_a z([V]_a) - radius (a - min([V]_a))``: linear between values, so that one of them attains it."""
    a = np.concatenate([[0.0], np.sort(v), [top]])
    means = W @ np.minimum(v[:, None], a)
    return (means - radius[:, None] * (a - np.minimum(low, a))).max(-1)


def entropic(W: Rows, v: Vector, b: Float[np.ndarray, "d k"], top: float, centred: bool) -> Float[np.ndarray, "d k"]:
    """``-b log z(exp(-V / b))`` within [0, top]; ``top`` where the estimate of the mean is not positive."""
    shift = v.min()  # of no consequence but for digits: it comes out of the logarithm again
    z = np.einsum("ds,dks->dk", W, np.exp((shift - v) / b[..., None]))
    if centred:
        with np.errstate(over="ignore"):
            z = z + (1 - W.sum(-1))[:, None] * np.exp(shift / b)
    with np.errstate(divide="ignore"):
        value = shift - b * np.log(np.maximum(z, 0.0))
    return np.clip(value, 0.0, top)


def kl_dual(W: Rows, v: Vector, radius: Factors, top: float, centred: bool, floor: float) -> Factors:
    """``max_b`` of `entropic` less ``b radius``; beyond ``b = top / radius`` the dual is negative."""
    least, most = np.log(floor * top), np.log(np.maximum(top / radius, floor * top))
    left, right = np.full_like(most, least), most
    best = np.full_like(most, -np.inf)
    for _ in range(ROUNDS):
        x = left[:, None] + (right - left)[:, None] * np.linspace(0.0, 1.0, GRID)
        b = np.exp(x)
        value = entropic(W, v, b, top, centred) - b * radius[:, None]
        best = np.maximum(best, value.max(-1))
        at, step = value.argmax(-1), (right - left) / (GRID - 1)
        centre = np.take_along_axis(x, at[:, None], -1)[:, 0]
        left, right = np.maximum(centre - step, left), np.minimum(centre + step, right)
    return best


def chi2_dual(W: Rows, v: Vector, size: Factors, top: float, *, priced: bool) -> Factors:
    """The duals of chi-square, at all ends, kinks and stationary points of all pieces.

    Between neighbouring values ``z1 = alpha + beta a`` and ``z2 = gamma + beta a^2``, clipped to [0, top] and [0, top^2].
    """
    order = np.argsort(v, kind="stable")
    x, w = v[order], W[:, order]
    ends = np.concatenate([[0.0], x, [top]])
    alpha, gamma = (_before(w * y) for y in (x, x * x))
    beta = w.sum(-1, keepdims=True) - _before(w)
    left, right = np.broadcast_to(ends[:-1], alpha.shape), np.broadcast_to(ends[1:], alpha.shape)
    square, linear, constant = beta - beta**2, -2 * alpha * beta, gamma - alpha**2  # the variance in a
    size = size[:, None]
    with np.errstate(divide="ignore", invalid="ignore"):
        found = [
            left,
            right,
            -alpha / beta,
            (top - alpha) / beta,
            np.sqrt(-gamma / beta),
            np.sqrt((top**2 - gamma) / beta),
        ]
        sure = np.stack(roots(square, linear, constant))  # no variance there, of which rounding would leave some
        if priced:
            found.append((2 * size + alpha) / (1 - beta))
        else:
            found += roots(
                4 * square * (beta**2 - size * square), 4 * linear * (beta**2 - size * square),
                4 * beta**2 * constant - size * linear**2,
            )  # fmt: skip
        a = np.stack([np.clip(np.where(np.isfinite(y), y, left), left, right) for y in found])
    z1 = np.clip(alpha + beta * a, 0.0, top)
    variance = np.maximum(np.clip(gamma + beta * a**2, 0.0, top**2) - z1**2, 0.0)
    charge = variance / (4 * size) if priced else np.sqrt(size * variance)
    sure = np.where(np.isfinite(sure), sure, -1.0)  # outside of all pieces
    mean = alpha + beta * sure
    inside = (sure >= left) & (sure <= right) & (mean >= 0) & (mean <= top)
    return np.maximum((z1 - charge).max((0, -1)), np.where(inside, mean, -np.inf).max((0, -1)))


def _before(terms: Any) -> Any:
    """Sums of what comes before each of the S + 1 pieces."""
    return np.concatenate([np.zeros_like(terms[:, :1]), np.cumsum(terms, -1)], -1)


def roots(square: Any, linear: Any, constant: Any) -> list[Any]:
    """Both roots of quadratics, not finite where there are none."""
    half = -(linear + np.copysign(np.sqrt(linear**2 - 4 * square * constant), linear)) / 2
    return [half / square, constant / half]
