"""One budget for all actions of a state (s-rectangular sets): nature and the policy play a matrix game in every state.

``max_d min_q sum_a d_a q_a . z_a`` over ``sum_a D(q_a, p_a) <= kappa``. Nature can hold every action at or below a level
u for the price ``sum_a c_a(u)``, ``c_a(u) = min {D(q, p_a) : q . z_a <= u}``, so that the value is the least level it
can afford [ho2018; wiesemann2013]. The policy that holds nature there weighs each action by what an extra unit of budget
buys least on.

Values ``z [S, A, n]``, nominal laws ``p [S, A, n]``.

References: [ho2018] Ho, Petrik and Wiesemann, Fast Bellman updates for robust MDPs, ICML 2018.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from polytheory._typing import Float
from polytheory.models.ambiguity import KL, L1
from polytheory.reference.robust.divergences import (
    HALVINGS,
    increasing_root,
    lowest,
    moments,
    penalised_chi2,
    penalised_kl,
    penalised_tv,
    tilt_divergence,
    tilted,
)
from polytheory.reference.robust.polyhedral import Worst


class Game(NamedTuple):
    """Solution of the game in every state: ``value`` [S]; ``policy`` [S, A]; nature's ``law`` [S, A, n]; ``gap`` [S]
    between what nature's law allows any policy and what the policy guarantees against any law, >= 0: the saddle-point
    certificate."""

    value: Float[np.ndarray, " S"]
    policy: Float[np.ndarray, "S A"]
    law: Float[np.ndarray, "S A n"]
    gap: Float[np.ndarray, " S"]


class Hold(NamedTuple):
    """The cheapest way to hold an action at a level: ``cost``, the ``law``, and the ``slope`` by which the level falls
    per unit of budget there, all [S, A] (law [S, A, n]); cost is infinite below the smallest outcome."""

    cost: Float[np.ndarray, "S A"]
    law: Float[np.ndarray, "S A n"]
    slope: Float[np.ndarray, "S A"]


def shared_budget(ball: type, z: Float[np.ndarray, "S A n"], p: Float[np.ndarray, "S A n"], kappa: float) -> Game:
    """Solve the game of every state by halving the level.

    Where nature reaches the largest of the actions' minima with budget to spare, the policy takes that action.
    """
    z, p = np.broadcast_arrays(z, p)
    z_min = floor_of(ball, z, p)
    low, high = z_min.max(-1), (p * z).sum(-1).max(-1)
    at_floor = hold_at(ball, z, p, low).cost.sum(-1) <= kappa
    low, high = low.copy(), np.where(at_floor, low, high)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        affordable = hold_at(ball, z, p, middle).cost.sum(-1) <= kappa
        done = (middle <= low) | (middle >= high)
        low, high = np.where(affordable | done, low, middle), np.where(affordable & ~done, middle, high)
        if done.all():
            break
    held = hold_at(ball, z, p, high)
    binding = (held.cost > 0) & ~at_floor[:, None]
    weight = np.where(binding, 1 / np.where(binding, held.slope, 1.0), 0.0)
    lone = np.where(at_floor, z_min.argmax(-1), (p * z).sum(-1).argmax(-1))
    alone = np.eye(z.shape[1])[lone]
    some = weight.sum(-1, keepdims=True) > 0
    policy = np.where(some, weight / np.where(some, weight.sum(-1, keepdims=True), 1.0), alone)
    price = np.where(some[:, 0], 1 / np.where(some, weight.sum(-1, keepdims=True), 1.0)[:, 0], 0.0)
    nominal = (policy * (p * z).sum(-1)).sum(-1)
    guaranteed = nominal if kappa == 0 else guarantee(ball, policy, z, p, price, kappa)
    allowed = (held.law * z).sum(-1).max(-1)
    return Game(high, policy, held.law, np.maximum(np.abs(allowed - guaranteed), np.abs(high - guaranteed)))


def floor_of(ball: type, z: Float[np.ndarray, "S A n"], p: Float[np.ndarray, "S A n"]) -> Float[np.ndarray, "S A"]:
    """The smallest level that nature can reach with any budget."""
    return z.min(-1) if ball is L1 else lowest(z, p)[0][..., 0]


def guarantee(
    ball: type,
    policy: Float[np.ndarray, "S A"],
    z: Float[np.ndarray, "S A n"],
    p: Float[np.ndarray, "S A n"],
    price: Float[np.ndarray, " S"],
    kappa: float,
) -> Float[np.ndarray, " S"]:
    """A lower bound on ``min_q sum_a policy_a q_a . z_a`` for any price >= 0 of the budget, by Lagrangian duality."""
    own = policy[..., None] * z
    free = (policy * floor_of(ball, z, p)).sum(-1)
    out = free.copy()
    for s in np.flatnonzero(price > 0):
        out[s] = penalised(ball, own[s], p[s], float(price[s])).value.sum() - price[s] * kappa
    return out


def penalised(ball: type, z: Float[np.ndarray, "A n"], p: Float[np.ndarray, "A n"], price: float) -> Worst:
    """The penalised problem of every action whose strength is the price of a unit of the budget, > 0."""
    if ball is L1:
        return penalised_tv(z, p, 2 * price)
    return (penalised_kl if ball is KL else penalised_chi2)(z, p, price)


def hold_at(
    ball: type, z: Float[np.ndarray, "S A n"], p: Float[np.ndarray, "S A n"], level: Float[np.ndarray, " S"]
) -> Hold:
    """How nature holds every action at or below ``level`` at the least cost."""
    u = np.broadcast_to(level[:, None], z.shape[:-1])
    held = (_hold_l1 if ball is L1 else _hold_kl if ball is KL else _hold_chi2)(z, p, u)
    free = (p * z).sum(-1) <= u
    return Hold(
        np.where(free, 0.0, np.where(u < floor_of(ball, z, p), np.inf, held.cost)),
        np.where(free[..., None], p, held.law),
        held.slope,
    )


def _hold_l1(z: np.ndarray, p: np.ndarray, u: np.ndarray) -> Hold:
    worst = np.argmin(z, -1)[..., None]
    z_min = np.take_along_axis(z, worst, -1)
    donors = p.copy()
    np.put_along_axis(donors, worst, 0.0, -1)
    best_first = np.argsort(-z, axis=-1, kind="stable")
    stock, gain = np.take_along_axis(donors, best_first, -1), np.take_along_axis(z - z_min, best_first, -1)
    excess = ((p * z).sum(-1) - u)[..., None]  # what has to be taken off the level
    before = np.cumsum(stock * gain, -1) - stock * gain
    taken = np.where(gain > 0, np.clip((excess - before) / np.where(gain > 0, gain, 1.0), 0, stock), 0.0)
    law = p.copy()
    np.put_along_axis(law, best_first, np.take_along_axis(p, best_first, -1) - taken, -1)
    np.put_along_axis(law, worst, np.take_along_axis(p, worst, -1) + taken.sum(-1, keepdims=True), -1)
    last = z.shape[-1] - 1 - np.argmax(taken[..., ::-1] > 0, axis=-1)[..., None]
    slope = np.take_along_axis(gain, last, -1)[..., 0] / 2
    return Hold(2 * taken.sum(-1), law, np.where(slope > 0, slope, 1.0))


def _hold_kl(z: np.ndarray, p: np.ndarray, u: np.ndarray) -> Hold:
    z_min, at_min = lowest(z, p)
    d = np.where(p > 0, z - z_min, 0.0)
    wanted = (u > z_min[..., 0]) & ((p * d).sum(-1) > u - z_min[..., 0])
    start = 1 / np.maximum(d.max(-1), np.finfo(float).tiny)
    t = increasing_root(lambda t: -(tilted(d, p, t) * d).sum(-1), z_min[..., 0] - u, start, wanted)
    mass = (p * at_min).sum(-1)
    law = np.where(wanted[..., None], tilted(d, p, t), p * at_min / mass[..., None])
    cost = np.where(wanted, tilt_divergence(d, p, t), -np.log(mass))
    return Hold(cost, law, np.where(t > 0, 1 / np.where(t > 0, t, 1.0), 1.0))


def _hold_chi2(z: np.ndarray, p: np.ndarray, u: np.ndarray) -> Hold:
    z_min, at_min = lowest(z, p)
    d, v = np.where(p > 0, z - z_min, 0.0), u - z_min[..., 0]
    order, own, _, m, V = moments(d, p)
    # with k outcomes in play the tilted mean is m - V / (a - m): it equals v for a = m + V / (m - v)
    with np.errstate(divide="ignore", invalid="ignore"):
        a = m + V / (m - v[..., None])
    x = np.take_along_axis(np.where(p > 0, d, np.inf), order, -1)
    following = np.concatenate([x[..., 1:], np.full((*d.shape[:-1], 1), np.inf)], -1)
    fits = np.asarray((m > v[..., None]) & (a > x) & (a <= following) & (own > 0))
    k = np.argmax(fits, -1)[..., None]
    mass = (p * at_min).sum(-1)
    found = np.asarray(fits.any(-1))
    cap = np.where(found, np.take_along_axis(a, k, -1)[..., 0], 1.0)[..., None]
    weight = p * np.maximum(cap - d, 0)
    law = np.where(
        found[..., None],
        weight / np.maximum(weight.sum(-1, keepdims=True), np.finfo(float).tiny),
        p * at_min / mass[..., None],
    )
    cost = np.where(p > 0, (law - p) ** 2 / np.where(p > 0, p, 1.0), 0.0).sum(-1)
    # the multiplier of the level: 2 E (cap - d)_+ is what a unit of chi-square costs in level
    slope = weight.sum(-1) / 2
    return Hold(cost, law, np.where(found & (slope > 0), slope, 1.0))


def worst_reply(
    ball: type,
    policy: Float[np.ndarray, "S A"],
    z: Float[np.ndarray, "S A n"],
    p: Float[np.ndarray, "S A n"],
    kappa: float,
) -> Game:
    """Nature's best reply to a given policy under a shared budget: ``min_q sum_a policy_a q_a . z_a``.

    The price of the budget is halved until the budget is spent; two laws around it are mixed, which is exact for `L1`,
    whose reply jumps there.
    """
    z, p = np.broadcast_arrays(z, p)
    own = policy[..., None] * z
    rows = [_reply(ball, own[s], p[s], kappa) for s in range(len(z))]
    law, bound = np.array([row[0] for row in rows]), np.array([row[1] for row in rows])
    paid = (law * own).sum((-1, -2))
    return Game(paid, policy, law, np.abs(paid - bound))


def _reply(ball: type, own: np.ndarray, p: np.ndarray, kappa: float) -> tuple[np.ndarray, float]:
    floor = floor_of(ball, own[None], p[None])[0]
    at_floor = own <= floor[:, None]
    if ball is L1:
        sure = np.eye(own.shape[1])[own.argmin(-1)]
    else:
        sure = p * at_floor / (p * at_floor).sum(-1, keepdims=True)
    sure = np.where((np.ptp(own, axis=-1) == 0)[:, None], p, sure)
    if _spent(ball, sure, p) <= kappa:
        return sure, float(floor.sum())
    if kappa == 0:
        return p, float((p * own).sum())
    high = float(np.ptp(own)) or 1.0
    low = 0.0
    for _ in range(HALVINGS):  # a price at which nature spends no more than it has
        if _spent(ball, penalised(ball, own, p, high).law, p) <= kappa:
            break
        low, high = high, 2 * high
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in (low, high):
            break
        affordable = _spent(ball, penalised(ball, own, p, middle).law, p) <= kappa
        low, high = (low, middle) if affordable else (middle, high)
    dear, cheap = (penalised(ball, own, p, x) for x in (high, max(low, high / 2**60)))
    a, b = _spent(ball, dear.law, p), _spent(ball, cheap.law, p)
    share = 0.0 if b <= a or ball is not L1 else (kappa - a) / (b - a)
    law = (1 - share) * dear.law + share * cheap.law
    return law, max(float(x.value.sum()) - w * kappa for x, w in ((dear, high), (cheap, max(low, high / 2**60))))


def _spent(ball: type, law: np.ndarray, p: np.ndarray) -> float:
    if ball is L1:
        return float(np.abs(law - p).sum())
    if ball is KL:
        inside = law > 0
        return float((law[inside] * np.log(law[inside] / p[inside])).sum())
    return float(np.where(p > 0, (law - p) ** 2 / np.where(p > 0, p, 1.0), 0.0).sum())
