"""Worst values of the factors from estimated laws, in torch, for n replicas; formulas and deviations stand in the reference."""

from __future__ import annotations

import math
from typing import Any

import torch

from polytheory._typing import Float

Rows = Float[torch.Tensor, "n d S"]
Vector = Float[torch.Tensor, "n S"]
Factors = Float[torch.Tensor, "n d"]

KL_FLOOR = 0.1  # least b, in units of the largest value
GRID, ROUNDS = 33, 9  # points a round; every round narrows the bracket of log b sixteenfold


def factor_values(
    W: Rows, v: Vector, radius: Float[torch.Tensor, " d"], *, kind: str, top: float,
    low: Float[torch.Tensor, " n"] | None = None, centred: bool = False, floor: float = KL_FLOOR,
) -> Factors:  # fmt: skip
    """The estimated worst value of every factor; arguments as in the reference, ``W``, ``v`` and ``low`` for n replicas."""
    low = (v.amin(-1) if low is None else low)[:, None]
    free = radius.isinf() if kind.startswith("penalised") else radius == 0
    size = torch.where(free, 1.0, radius)
    if kind == "tv":
        worst = tv_dual(W, v, size, low, top)
    elif kind == "kl":
        worst = kl_dual(W, v, size, top, centred, floor)
    elif kind == "penalised-tv":
        worst = (W * torch.minimum(v[:, None], (low + size)[..., None])).sum(-1)
    elif kind == "penalised-kl":
        worst = entropic(W, v, size[:, None].expand(*W.shape[:2], 1), top, centred)[..., 0]
    else:
        worst = chi2_dual(W, v, size, top, priced=kind == "penalised-chi2")
    return torch.where(free, (W @ v[..., None])[..., 0], worst)


def tv_dual(W: Rows, v: Vector, radius: torch.Tensor, low: Float[torch.Tensor, "n 1"], top: float) -> Factors:
    """``max_a z([V]_a) - radius (a - min([V]_a))``: linear between values, so that one of them attains it."""
    a = _between(torch.zeros_like(v[:, :1]), v.sort(-1).values, top)
    means = W @ torch.minimum(v[..., None], a[:, None])
    return (means - radius[:, None] * (a - torch.minimum(low, a))[:, None]).amax(-1)


def entropic(W: Rows, v: Vector, b: Float[torch.Tensor, "n d k"], top: float, centred: bool):
    """``-b log z(exp(-V / b))`` within [0, top]; ``top`` where the estimate of the mean is not positive."""
    shift = v.amin(-1)[:, None, None]
    weight = torch.exp((shift - v[:, None])[:, :, None] / b[..., None])
    z = (W[:, :, None] * weight).sum(-1)
    if centred:
        z = z + (1 - W.sum(-1))[..., None] * torch.exp(shift / b)
    return (shift - b * z.clamp(min=0.0).log()).clamp(0.0, top)


def kl_dual(W: Rows, v: Vector, radius: torch.Tensor, top: float, centred: bool, floor: float) -> Factors:
    """``max_b`` of `entropic` less ``b radius``; beyond ``b = top / radius`` the dual is negative."""
    least = math.log(floor * top)
    right = (top / radius).clamp(min=floor * top).log().expand(W.shape[:2])
    left, best = torch.full_like(right, least), torch.full_like(right, -torch.inf)
    grid = torch.linspace(0.0, 1.0, GRID, dtype=v.dtype, device=v.device)
    for _ in range(ROUNDS):
        x = left[..., None] + (right - left)[..., None] * grid
        b = x.exp()
        value = entropic(W, v, b, top, centred) - b * radius[:, None]
        most, at = value.max(-1)
        best, step = torch.maximum(best, most), (right - left) / (GRID - 1)
        centre = x.gather(-1, at[..., None])[..., 0]
        left, right = torch.maximum(centre - step, left), torch.minimum(centre + step, right)
    return best


def chi2_dual(W: Rows, v: Vector, size: torch.Tensor, top: float, *, priced: bool) -> Factors:
    """The duals of chi-square, at all ends, kinks and stationary points of all pieces."""
    x, order = v.sort(dim=-1, stable=True)
    w = W.gather(-1, order[:, None].expand_as(W))
    ends = _between(torch.zeros_like(v[:, :1]), x, top)
    alpha, gamma = (_before(w * y[:, None]) for y in (x, x * x))
    beta = w.sum(-1, keepdim=True) - _before(w)
    left, right = ends[:, None, :-1].expand_as(alpha), ends[:, None, 1:].expand_as(alpha)
    square, linear, constant = beta - beta**2, -2 * alpha * beta, gamma - alpha**2  # the variance in a
    size = size[:, None]
    found = [left, right, -alpha / beta, (top - alpha) / beta, (-gamma / beta).sqrt(), ((top**2 - gamma) / beta).sqrt()]
    sure = torch.stack(roots(square, linear, constant))  # no variance there, of which rounding would leave some
    if priced:
        found.append((2 * size + alpha) / (1 - beta))
    else:
        found += roots(
            4 * square * (beta**2 - size * square), 4 * linear * (beta**2 - size * square),
            4 * beta**2 * constant - size * linear**2,
        )  # fmt: skip
    a = torch.stack([torch.where(y.isfinite(), y, left).clamp(left, right) for y in found])
    z1 = (alpha + beta * a).clamp(0.0, top)
    variance = ((gamma + beta * a**2).clamp(0.0, top**2) - z1**2).clamp(min=0.0)
    charge = variance / (4 * size) if priced else (size * variance).sqrt()
    sure = torch.where(sure.isfinite(), sure, -1.0)  # outside of all pieces
    mean = alpha + beta * sure
    inside = (sure >= left) & (sure <= right) & (mean >= 0) & (mean <= top)
    return torch.maximum((z1 - charge).amax((0, -1)), mean.masked_fill(~inside, -torch.inf).amax((0, -1)))


def _between(first: torch.Tensor, x: torch.Tensor, top: float) -> torch.Tensor:
    return torch.cat([first, x, torch.full_like(first, top)], -1)


def _before(terms: torch.Tensor) -> torch.Tensor:
    """Sums of what comes before each of the S + 1 pieces."""
    return torch.cat([torch.zeros_like(terms[..., :1]), terms.cumsum(-1)], -1)


def roots(square: torch.Tensor, linear: torch.Tensor, constant: torch.Tensor) -> list[Any]:
    """Both roots of quadratics, not finite where there are none."""
    half = -(linear + torch.copysign((linear**2 - 4 * square * constant).sqrt(), linear)) / 2
    return [half / square, constant / half]
