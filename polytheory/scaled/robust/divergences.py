"""Worst laws of balls of relative entropy and chi-square, and of the penalised problems, in torch; the theorems stand in the
reference. Multipliers come from a safeguarded Newton search, values from the dual at the multiplier."""

from __future__ import annotations

from collections.abc import Callable

import torch

from polytheory._typing import Float
from polytheory.scaled.robust.polyhedral import Worst

STEPS = 200  # of a search: more than float64 can tell apart


def worst_kl(z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], radius: float) -> Worst:
    """Laws with ``sum q log(q / p) <= radius``: ``q ~ p exp(-t (z - min z))``."""
    z, p = torch.broadcast_tensors(z, p)
    tiny = torch.finfo(z.dtype).tiny
    z_min, at_min = lowest(z, p)
    d = torch.where(p > 0, z - z_min, 0.0)
    mass = (p * at_min).sum(-1)
    sure = p * at_min / mass[..., None]
    reaches = radius >= -mass.log()
    start = 1 / d.amax(-1).clamp(min=tiny)
    t = increasing_root(lambda t: _divergence_and_slope(d, p, t), radius, start, ~reaches & bool(radius > 0))
    law = torch.where(reaches[..., None], sure, tilted(d, p, t))
    if radius == 0:
        law = p.clone()
    safe = torch.where(t > 0, t, 1.0)
    dual = z_min[..., 0] + torch.where(t > 0, free_energy(d, p, safe) - radius / safe, (p * d).sum(-1))
    value = torch.where(reaches, z_min[..., 0], dual)
    return Worst(value, law, ((law * torch.where(p > 0, z, 0.0)).sum(-1) - value).abs())


def lowest(z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"]) -> tuple[torch.Tensor, torch.Tensor]:
    """The smallest value of the support, [..., 1], and where it is taken, [..., n]."""
    z_min = z.masked_fill(p <= 0, torch.inf).amin(-1, keepdim=True)
    return z_min, (z == z_min) & (p > 0)


def tilted(
    d: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], t: Float[torch.Tensor, "*k"]
) -> Float[torch.Tensor, "*k n"]:
    """``q ~ p exp(-t d)`` for d >= 0."""
    weight = p * torch.exp(-t[..., None] * d)
    return weight / weight.sum(-1, keepdim=True)


def tilt_divergence(
    d: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], t: Float[torch.Tensor, "*k"]
) -> Float[torch.Tensor, "*k"]:
    """``KL(tilted || p) = -t E_q d - log E exp(-t d)``, increasing in t."""
    return _divergence_and_slope(d, p, t)[0]


def _divergence_and_slope(d: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    q = tilted(d, p, t)
    mean = (q * d).sum(-1)
    return -t * mean - log_mean(d, p, t), t * (q * (d - mean[..., None]) ** 2).sum(-1)


def log_mean(d: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """``log E exp(-t d)``, accurate near t = 0."""
    x = -t[..., None] * d
    small = (p * torch.expm1(x)).sum(-1)
    return torch.where(small > -0.5, torch.log1p(small.clamp(min=-0.5)), (p * x.exp()).sum(-1).log())


def free_energy(d: torch.Tensor, p: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    """``-(1 / t) log E exp(-t d)``, t > 0."""
    return -log_mean(d, p, t) / t


def increasing_root(
    f: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor]],
    target: float | torch.Tensor,
    start: torch.Tensor,
    wanted: torch.Tensor,
) -> Float[torch.Tensor, "*k"]:
    """Where an increasing f, given with its slope, takes the value ``target``, from below; 0 where not ``wanted``.

    Newton's step where it stays inside the bracket, the middle where not; a last step keeps ``f <= target``.
    """
    low, high = torch.zeros_like(start), start.clone()
    for _ in range(STEPS):
        below = wanted & (f(high)[0] < target) & (high < torch.finfo(start.dtype).max / 4)
        if not bool(below.any()):
            break
        low, high = torch.where(below, high, low), torch.where(below, 2 * high, high)
    t = (low + high) / 2
    for _ in range(STEPS):
        value, slope = f(t)
        inside = value <= target
        low, high = torch.where(inside, t, low), torch.where(inside, high, t)
        step = t + (target - value) / torch.where(slope > 0, slope, 1.0)
        middle = (low + high) / 2
        ok = (slope > 0) & (step > low) & (step < high)
        new = torch.where(ok, step, middle)
        moved = (new - t).abs() > 4 * torch.finfo(t.dtype).eps * t.abs()
        t = new
        if not bool((wanted & moved & (middle > low) & (middle < high)).any()):
            break
    below = torch.maximum(low, t * (1 - 16 * torch.finfo(t.dtype).eps))  # Newton may come from above
    return torch.where(wanted, torch.where(f(t)[0] <= target, t, below), 0.0)


def worst_chi2(z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], radius: float) -> Worst:
    """Laws with ``sum (q - p)^2 / p <= radius``: ``q ~ p max(a - z, 0)``, a in closed form."""
    z, p = torch.broadcast_tensors(z, p)
    tiny = torch.finfo(z.dtype).tiny
    z_min, at_min = lowest(z, p)
    mass = (p * at_min).sum(-1)
    reaches = radius >= 1 / mass - 1
    d = torch.where(p > 0, z - z_min, 0.0)
    x, own, P, m, V = moments(d, p)
    a = m + (V / ((1 + radius) * P - 1)).sqrt()
    following = torch.cat([x[..., 1:], torch.full_like(x[..., :1], torch.inf)], -1)
    ratio = torch.where(following.isinf(), 1 / P, ((following - m) ** 2 + V) / (P * (following - m) ** 2))
    k = ((ratio <= 1 + radius) & (own > 0)).int().argmax(-1, keepdim=True)
    cap = a.gather(-1, k)
    centre = (d * p).sum(-1, keepdim=True)
    flat = ((p * (d - centre) ** 2).sum(-1) == 0) | (radius == 0)
    cap = torch.where((reaches | flat)[..., None] | ~cap.isfinite(), 1.0, cap)
    weight = p * (cap - d).clamp(min=0)
    law = weight / weight.sum(-1, keepdim=True).clamp(min=tiny)
    law = torch.where(flat[..., None], p, torch.where(reaches[..., None], p * at_min / mass[..., None], law))
    cut = torch.minimum(d, cap)
    mean = (p * cut).sum(-1)
    dual = mean - (radius * (p * (cut - mean[..., None]) ** 2).sum(-1)).sqrt()
    value = z_min[..., 0] + torch.where(flat, (p * d).sum(-1), torch.where(reaches, 0.0, dual))
    return Worst(value, law, ((law * torch.where(p > 0, z, 0.0)).sum(-1) - value).abs())


def moments(d: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"]) -> tuple[torch.Tensor, ...]:
    """Outcomes worst first (infinite outside the support) and their mass; mass, mean and variance of the first k of them."""
    x, order = d.masked_fill(p <= 0, torch.inf).sort(dim=-1, stable=True)
    own = p.gather(-1, order)
    y = d.gather(-1, order)
    P = own.cumsum(-1)
    m = (own * y).cumsum(-1) / P
    nothing = torch.zeros_like(m[..., :1])
    P_before, m_before = (torch.cat([nothing, w[..., :-1]], -1) for w in (P, m))
    return x, own, P, m, (own * P_before / P * (y - m_before) ** 2).cumsum(-1) / P


def worst_reverse_kl(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], radius: float, *, support: str = "full"
) -> Worst:
    """Laws with ``sum p log(p / q) <= radius``: ``q_i ~ p_i / (z_i - min z + c)``; what is left goes to the worst outcome."""
    z, p = torch.broadcast_tensors(z, p)
    tiny = torch.finfo(z.dtype).tiny
    allowed = z if support == "full" else z.masked_fill(p <= 0, torch.inf)
    z_min, worst = allowed.min(-1, keepdim=True)
    d = torch.where(p > 0, z - z_min, 0.0)
    scale = d.amax(-1).clamp(min=tiny)
    flat = ((d == 0) | (p == 0)).all(-1) | (radius == 0)

    def distance(u: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:  # u = scale / c, so that it increases
        y = d * (u / scale)[..., None]  # log(d + c) - log c = log1p(y): nothing cancels for a small radius
        share = y / (1 + y)
        away = (p * share).sum(-1)
        rest = (p / (1 + y)).sum(-1)
        slope = (away - (p * share / (1 + y)).sum(-1) / rest) / u.clamp(min=1e-300)
        return (p * y.log1p()).sum(-1) + torch.where(away < 0.5, torch.log1p(-away.clamp(max=0.5)), rest.log()), slope

    touches = (p * (d <= 0)).sum(-1) > 0
    clear = torch.where((p > 0) & (d > 0), d, 1.0)
    at_zero = (p * clear.log()).sum(-1) + (p / clear).sum(-1).log()
    left_over = ~touches & (at_zero <= radius)
    closed = left_over | flat
    u = increasing_root(distance, radius, torch.ones_like(scale), ~closed)
    c = torch.where(closed, 0.0, scale / u.clamp(min=1e-300))
    rise = (p * (d * (u / scale)[..., None]).log1p()).sum(-1) - radius  # log of level / c
    level = torch.where(left_over, ((p * clear.log()).sum(-1) - radius).exp(), c * rise.exp())
    x = torch.where((p > 0) & (d + c[..., None] > 0), d + c[..., None], 1.0)
    law = level[..., None] * p / x
    spare = torch.where(left_over[..., None], (1 - law.sum(-1, keepdim=True)).clamp(min=0), 0.0)
    law = torch.where(left_over[..., None], law, law / law.sum(-1, keepdim=True).clamp(min=tiny))
    law = law.scatter_add(-1, worst, spare)
    law = torch.where(flat[..., None], p, law)
    above = torch.where(left_over, level, c * rise.expm1())
    value = torch.where(flat, (p * z).sum(-1), z_min[..., 0] + above)
    return Worst(value, law, ((law * z).sum(-1) - value).abs())


def penalised_tv(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], strength: float | torch.Tensor
) -> Worst:
    """``min_q q . z + strength TV(q, p) = E min(z, min z + strength)``, over all states."""
    z, p = torch.broadcast_tensors(z, p)
    z_min, worst = z.min(-1, keepdim=True)
    top = z_min + _wide(strength)
    moves = z > top
    law = torch.where(moves, 0.0, p)
    law = law.scatter_add(-1, worst, (p * moves).sum(-1, keepdim=True))
    value = (p * torch.minimum(z, top)).sum(-1)
    paid = (law * z).sum(-1) + strength * (law - p).abs().sum(-1) / 2
    return Worst(value, law, (paid - value).abs())


def penalised_kl(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], strength: float | torch.Tensor
) -> Worst:
    """``min_q q . z + strength KL(q, p) = -strength log E exp(-z / strength)``."""
    z, p = torch.broadcast_tensors(z, p)
    z_min, _ = lowest(z, p)
    d = torch.where(p > 0, z - z_min, 0.0)
    t = torch.ones_like(d[..., 0]) / strength
    law = tilted(d, p, t)
    value = z_min[..., 0] + free_energy(d, p, t)
    paid = z_min[..., 0] + (law * d).sum(-1) + strength * tilt_divergence(d, p, t)
    return Worst(value, law, (paid - value).abs())


def penalised_chi2(
    z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"], strength: float | torch.Tensor
) -> Worst:
    """``min_q q . z + strength chi2(q, p)``: ``q = p max(a - z, 0) / (2 strength)`` with ``E max(a - z, 0) = 2 strength``."""
    z, p = torch.broadcast_tensors(z, p)
    z_min, _ = lowest(z, p)
    d = torch.where(p > 0, z - z_min, 0.0)
    _, own, P, m, _ = moments(d, p)
    a = torch.where(own > 0, m + 2 * _wide(strength) / P, torch.inf).amin(-1)
    law = p * (a[..., None] - d).clamp(min=0) / (2 * _wide(strength))
    cut = torch.minimum(d, a[..., None])
    mean = (p * cut).sum(-1)
    value = z_min[..., 0] + mean - (p * (cut - mean[..., None]) ** 2).sum(-1) / (4 * strength)
    away = torch.where(p > 0, (law - p) ** 2 / torch.where(p > 0, p, 1.0), 0.0).sum(-1)
    paid = z_min[..., 0] + (law * d).sum(-1) + strength * away
    return Worst(value, law, (paid - value).abs())


def _wide(strength: float | torch.Tensor) -> float | torch.Tensor:
    return strength[..., None] if isinstance(strength, torch.Tensor) else strength
