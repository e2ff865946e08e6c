"""One budget for all actions of a state (s-rectangular sets) in torch; the theorems stand in the reference.

Values ``z [..., A, n]``, nominal laws ``p [..., A, n]``; every leading entry is a state of some replica.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from polytheory._typing import Float
from polytheory.models.ambiguity import KL, L1
from polytheory.scaled.robust.divergences import (
    STEPS,
    increasing_root,
    lowest,
    moments,
    penalised_chi2,
    penalised_kl,
    penalised_tv,
    tilt_divergence,
    tilted,
)


class Game(NamedTuple):
    """``value`` [...]; ``policy`` [..., A]; nature's ``law`` [..., A, n]; ``gap`` [...] of the saddle point, >= 0."""

    value: Float[torch.Tensor, "*k"]
    policy: Float[torch.Tensor, "*k A"]
    law: Float[torch.Tensor, "*k A n"]
    gap: Float[torch.Tensor, "*k"]


class Hold(NamedTuple):
    """The cheapest way to hold an action at a level: ``cost`` and ``slope`` [..., A], ``law`` [..., A, n]."""

    cost: Float[torch.Tensor, "*k A"]
    law: Float[torch.Tensor, "*k A n"]
    slope: Float[torch.Tensor, "*k A"]


def shared_budget(ball: type, z: Float[torch.Tensor, "*k A n"], p: Float[torch.Tensor, "*k A n"], kappa: float) -> Game:
    """Solve the game of every state: the least level that nature can afford.

    What a level costs is convex and falls with it, so that Newton's steps end below the root: every third step is one, every
    third goes twice as far to land above it, and every third halves the bracket.
    """
    z, p = torch.broadcast_tensors(z, p)
    z_min, nominal = floor_of(ball, z, p), (p * z).sum(-1)
    low, high = z_min.amax(-1), nominal.amax(-1)
    at_floor = hold_at(ball, z, p, low).cost.sum(-1) <= kappa
    high = torch.where(at_floor, low, high)
    level, jump = low, torch.full_like(low, torch.nan)
    for i in range(STEPS):
        middle = (low + high) / 2
        done = (middle <= low) | (middle >= high)
        if bool(done.all()):
            break
        guess = jump if i % 3 == 1 else 2 * jump - level
        level = torch.where((guess > low) & (guess < high) & (i % 3 > 0), guess, middle)
        held = hold_at(ball, z, p, level)
        cost = held.cost.sum(-1)
        steep = torch.where(held.cost > 0, 1 / held.slope, 0.0).sum(-1)
        jump = level + (cost - kappa) / steep
        affordable = cost <= kappa
        low, high = torch.where(affordable | done, low, level), torch.where(affordable & ~done, level, high)
    held = hold_at(ball, z, p, high)
    binding = (held.cost > 0) & ~at_floor[..., None]
    weight = torch.where(binding, 1 / held.slope, 0.0)
    total = weight.sum(-1, keepdim=True)
    lone = torch.where(at_floor, z_min.argmax(-1), nominal.argmax(-1))
    alone = torch.nn.functional.one_hot(lone, z.shape[-2]).to(z.dtype)
    policy = torch.where(total > 0, weight / torch.where(total > 0, total, 1.0), alone)
    price = torch.where(total > 0, 1 / torch.where(total > 0, total, 1.0), 0.0)[..., 0]
    guaranteed = (policy * nominal).sum(-1) if kappa == 0 else guarantee(ball, policy, z, p, price, kappa)
    allowed = (held.law * z).sum(-1).amax(-1)
    return Game(high, policy, held.law, torch.maximum((allowed - guaranteed).abs(), (high - guaranteed).abs()))


def floor_of(
    ball: type, z: Float[torch.Tensor, "*k A n"], p: Float[torch.Tensor, "*k A n"]
) -> Float[torch.Tensor, "*k A"]:
    """The smallest level that nature can reach with any budget."""
    return z.amin(-1) if ball is L1 else lowest(z, p)[0][..., 0]


def penalised(ball: type, z: torch.Tensor, p: torch.Tensor, price: torch.Tensor) -> Float[torch.Tensor, "*k A"]:
    """The penalised problem whose strength is the price of a unit of the budget, > 0."""
    wide = price[..., None].expand(z.shape[:-1])
    if ball is L1:
        return penalised_tv(z, p, 2 * wide).value
    return (penalised_kl if ball is KL else penalised_chi2)(z, p, wide).value


def guarantee(
    ball: type, policy: torch.Tensor, z: torch.Tensor, p: torch.Tensor, price: Float[torch.Tensor, "*k"], kappa: float
) -> Float[torch.Tensor, "*k"]:
    """A lower bound on nature's best reply for any price of the budget, by Lagrangian duality; price 0 is without budget."""
    own = policy[..., None] * z
    paid = penalised(ball, own, p, torch.where(price > 0, price, 1.0)).sum(-1) - price * kappa
    return torch.where(price > 0, paid, (policy * floor_of(ball, z, p)).sum(-1))


def hold_at(
    ball: type, z: Float[torch.Tensor, "*k A n"], p: Float[torch.Tensor, "*k A n"], level: Float[torch.Tensor, "*k"]
) -> Hold:
    """How nature holds every action at or below ``level`` at the least cost."""
    u = level[..., None].expand(z.shape[:-1])
    held = (_hold_l1 if ball is L1 else _hold_kl if ball is KL else _hold_chi2)(z, p, u)
    free = (p * z).sum(-1) <= u
    cost = torch.where(free, 0.0, torch.where(u < floor_of(ball, z, p), torch.inf, held.cost))
    return Hold(cost, torch.where(free[..., None], p, held.law), held.slope)


def _hold_l1(z: torch.Tensor, p: torch.Tensor, u: torch.Tensor) -> Hold:
    z_min, worst = z.min(-1, keepdim=True)
    donors = p.scatter(-1, worst, 0.0)
    sorted_z, best_first = z.sort(dim=-1, descending=True, stable=True)
    stock, gain = donors.gather(-1, best_first), sorted_z - z_min
    excess = ((p * z).sum(-1) - u)[..., None]
    before = (stock * gain).cumsum(-1) - stock * gain
    share = (excess - before) / torch.where(gain > 0, gain, 1.0)
    taken = torch.where(gain > 0, torch.minimum(share.clamp(min=0), stock), 0.0)
    law = p.scatter(-1, best_first, p.gather(-1, best_first) - taken)
    law = law.scatter(-1, worst, p.gather(-1, worst) + taken.sum(-1, keepdim=True))
    last = z.shape[-1] - 1 - (taken.flip(-1) > 0).int().argmax(-1, keepdim=True)
    slope = gain.gather(-1, last)[..., 0] / 2
    return Hold(2 * taken.sum(-1), law, torch.where(slope > 0, slope, 1.0))


def _hold_kl(z: torch.Tensor, p: torch.Tensor, u: torch.Tensor) -> Hold:
    z_min, at_min = lowest(z, p)
    d = torch.where(p > 0, z - z_min, 0.0)
    v = u - z_min[..., 0]
    wanted = (v > 0) & ((p * d).sum(-1) > v)

    def falling(t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        q = tilted(d, p, t)
        mean = (q * d).sum(-1)
        return -mean, (q * (d - mean[..., None]) ** 2).sum(-1)

    t = increasing_root(falling, -v, 1 / d.amax(-1).clamp(min=torch.finfo(z.dtype).tiny), wanted)
    mass = (p * at_min).sum(-1)
    law = torch.where(wanted[..., None], tilted(d, p, t), p * at_min / mass[..., None])
    cost = torch.where(wanted, tilt_divergence(d, p, t), -mass.log())
    return Hold(cost, law, torch.where(t > 0, 1 / torch.where(t > 0, t, 1.0), 1.0))


def _hold_chi2(z: torch.Tensor, p: torch.Tensor, u: torch.Tensor) -> Hold:
    z_min, at_min = lowest(z, p)
    d, v = torch.where(p > 0, z - z_min, 0.0), u - z_min[..., 0]
    x, own, _, m, V = moments(d, p)
    a = m + V / (m - v[..., None])
    following = torch.cat([x[..., 1:], torch.full_like(x[..., :1], torch.inf)], -1)
    fits = (m > v[..., None]) & (a > x) & (a <= following) & (own > 0)
    found = fits.any(-1)
    cap = torch.where(found[..., None], a.gather(-1, fits.int().argmax(-1, keepdim=True)), 1.0)
    mass = (p * at_min).sum(-1)
    weight = p * (cap - d).clamp(min=0)
    total = weight.sum(-1)
    tilt = weight / total[..., None].clamp(min=torch.finfo(z.dtype).tiny)
    law = torch.where(found[..., None], tilt, p * at_min / mass[..., None])
    cost = torch.where(p > 0, (law - p) ** 2 / torch.where(p > 0, p, 1.0), 0.0).sum(-1)
    return Hold(cost, law, torch.where(found & (total > 0), total / 2, 1.0))
