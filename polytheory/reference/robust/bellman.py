"""The robust Bellman operator: the best action against the worst law, for every kind of ambiguity set.

``(L v)(s) = max_d min_q sum_a d_a q_a . (r(s, a, .) + gamma v)``. With sets by (s, a) the best d is one action. Rewards
that depend on the next state are part of what nature minimises. Terminal states are the nominal model's: nature cannot
leave them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float
from polytheory.errors import SettingError, ShapeError
from polytheory.models import ambiguity as sets
from polytheory.models.tabular import TabularMDP
from polytheory.reference.robust import divergences, polyhedral
from polytheory.reference.robust.polyhedral import Worst
from polytheory.reference.robust.shared_budget import shared_budget, worst_reply

LARGEST = 2**24  # entries of [S, A, S] that are handled dense here


class Sweep(NamedTuple):
    """One application of the operator: ``v`` [S]; the ``policy`` [S, A]; ``q`` [S, A] action values under the worst ``kernel``
    [S, A, S]; ``gap`` the largest primal-dual gap of an inner problem, >= 0."""

    v: Float[np.ndarray, " S"]
    policy: Float[np.ndarray, "S A"]
    q: Float[np.ndarray, "S A"]
    kernel: Float[np.ndarray, "S A S"]
    gap: float


def worst_case(ball: sets.Ambiguity, z: Float[np.ndarray, "*k n"], p: Float[np.ndarray, "*k n"]) -> Worst:
    """The worst law around every nominal law ``p`` for outcomes ``z``.

    Raises `SettingError` for a set that has no worst case row by row.
    """
    match ball:
        case sets.TotalVariation():
            return polyhedral.worst_l1(z, p, 2 * ball.radius, support=ball.support)
        case sets.L1():
            return polyhedral.worst_l1(z, p, ball.radius, support=ball.support)
        case sets.LInfinity():
            return polyhedral.worst_linf(z, p, ball.radius)
        case sets.Contamination():
            return polyhedral.worst_contamination(z, p, ball.radius, support=ball.support)
        case sets.Wasserstein():
            return polyhedral.worst_transport(z, p, ball.ground_cost(p.shape[-1]), ball.radius)
        case sets.Interval():
            return polyhedral.worst_interval(z, ball.low, ball.high)
        case sets.Scenarios():
            return polyhedral.worst_scenario(z, ball.kernels)
        case sets.KL():
            return divergences.worst_kl(z, p, ball.radius)
        case sets.ReverseKL():
            return divergences.worst_reverse_kl(z, p, ball.radius, support=ball.support)
        case sets.ChiSquare():
            return divergences.worst_chi2(z, p, ball.radius)
        case sets.Penalised():
            return getattr(divergences, f"penalised_{ball.divergence}")(z, p, ball.strength)
    raise SettingError(f"{type(ball).__name__} has no worst case for one (s, a) alone; use robust_sweep")


def outcomes(
    model: TabularMDP, v: Float[np.ndarray, " S"], h: int = 0
) -> tuple[Float[np.ndarray, "S A"], Float[np.ndarray, "S A S"], Float[np.ndarray, "S A S"]]:
    """What nature cannot touch [S, A], what it minimises [S, A, S], and the nominal laws [S, A, S]."""
    S, A = model.S, model.A
    P = model.P_at(h)
    if S * A * S > LARGEST:
        raise SettingError(f"S = {S}, A = {A}: the reference is dense, for S*A*S up to {LARGEST}; use the scaled room")
    p = np.asarray(P.toarray()).reshape(S, A, S) if sp.issparse(P) else np.asarray(P)
    r = model.r[h] if model._r_staged else model.r
    r = np.asarray(r.toarray()).reshape(S, A, S) if sp.issparse(r) else np.asarray(r)
    ahead = discounted_values(v, model.gamma)
    if r.ndim == 2:
        return r, np.broadcast_to(ahead, p.shape), p
    return np.zeros((S, A)), r + ahead, p


def discounted_values(v: Float[np.ndarray, " S"], gamma: float) -> Float[np.ndarray, " S"]:
    """``gamma v``: the discount of the family stands here."""
    return gamma * v


def robust_sweep(ball: sets.Ambiguity, model: TabularMDP, v: Float[np.ndarray, " S"], h: int = 0) -> Sweep:
    """``L v`` of stage h with the policy and the kernel that attain it.

    Guarantee: monotone, ``L(v + c) = L v + gamma c``, ``|L u - L v| <= gamma |u - v|`` [iyengar2005; nilim2005; wiesemann2013].

    Raises `ShapeError`, `SettingError` for a set that does not fit the model.
    """
    fixed, z, p = outcomes(model, v, h)
    ends = np.asarray(model.terminal)[:, None]
    if isinstance(ball, sets.SharedBudget):
        game = shared_budget(ball.ball, fixed[..., None] + z, p, ball.radius)
        kernel = np.where(ends[..., None], p, game.law)
        q = fixed + (kernel * z).sum(-1)
        value = np.where(ends[:, 0], q.max(-1), game.value)
        gap = np.where(ends[:, 0], 0.0, game.gap)
        return Sweep(value, game.policy, q, kernel, float(gap.max()))
    worst = _rows(ball, z, p, v, model)
    kernel = np.where(ends[..., None], p, worst.law)
    q = np.where(ends, fixed + (p * z).sum(-1), fixed + worst.value)
    policy = np.eye(model.A)[q.argmax(-1)]
    return Sweep(q.max(-1), policy, q, kernel, float(np.where(ends, 0.0, worst.gap).max()))


def robust_policy_sweep(
    ball: sets.Ambiguity, model: TabularMDP, policy: Float[np.ndarray, "S A"], v: Float[np.ndarray, " S"], h: int = 0
) -> Sweep:
    """``L_pi v``: nature's best reply to a given policy, one step ahead."""
    fixed, z, p = outcomes(model, v, h)
    ends = np.asarray(model.terminal)[:, None]
    if isinstance(ball, sets.SharedBudget):
        game = worst_reply(ball.ball, policy, fixed[..., None] + z, p, ball.radius)
        kernel = np.where(ends[..., None], p, game.law)
        q = fixed + (kernel * z).sum(-1)
        return Sweep((policy * q).sum(-1), policy, q, kernel, float(np.where(ends[:, 0], 0.0, game.gap).max()))
    worst = _rows(ball, z, p, v, model)
    kernel = np.where(ends[..., None], p, worst.law)
    q = np.where(ends, fixed + (p * z).sum(-1), fixed + worst.value)
    return Sweep((policy * q).sum(-1), policy, q, kernel, float(np.where(ends, 0.0, worst.gap).max()))


def _rows(ball: sets.Ambiguity, z: np.ndarray, p: np.ndarray, v: np.ndarray, model: TabularMDP) -> Worst:
    if isinstance(ball, sets.Factored):
        return _factored(ball, z, v, model)
    if isinstance(ball, sets.Penalised):
        return _penalised(ball, z, p, model)
    wanted = {sets.Interval: "low", sets.Scenarios: "kernels"}.get(type(ball))
    if wanted and getattr(ball, wanted).shape[-3:] != p.shape:
        raise ShapeError(f"{wanted} is {list(getattr(ball, wanted).shape)}; the model has [S, A, S] = {list(p.shape)}")
    return worst_case(ball, z, p)


def _penalised(ball: sets.Penalised, z: np.ndarray, p: np.ndarray, model: TabularMDP) -> Worst:
    """The charge belongs to the next state's value and is discounted with it: ``r + gamma min_q (q . v + strength D)``."""
    strength = ball.strength * model.gamma
    if strength == 0:  # no future: nature has nothing to gain, unless rewards depend on the next state
        if np.ptp(z, axis=-1).any():
            raise SettingError("gamma = 0 leaves a penalty without weight beside rewards [S, A, S]; use a ball instead")
        return Worst((p * z).sum(-1), p, np.zeros(p.shape[:-1]))
    return worst_case(sets.Penalised(ball.divergence, strength), z, p)


def _factored(ball: sets.Factored, z: np.ndarray, v: np.ndarray, model: TabularMDP) -> Worst:
    if ball.features.shape[:2] != z.shape[:2] or ball.factors.shape[1] != z.shape[2]:
        raise ShapeError(f"features are {list(ball.features.shape)}; the model has [S, A] = {list(z.shape[:2])}")
    if np.ptp(z, axis=(0, 1)).any():
        raise SettingError("a factored set needs rewards [S, A]: nature acts on factors, which see the next state only")
    ahead = np.broadcast_to(discounted_values(v, model.gamma), ball.factors.shape)
    inner = ball.ball
    worst = (
        _penalised(inner, ahead, ball.factors, model)
        if isinstance(inner, sets.Penalised)
        else worst_case(inner, ahead, ball.factors)
    )
    return Worst(ball.features @ worst.value, ball.features @ worst.law, ball.features @ worst.gap)
