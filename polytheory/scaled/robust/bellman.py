"""The robust Bellman operator in torch, over replicas and all (s, a) at once; the theorems stand in the reference.

Sets that stay within the nominal support, and those that add only the globally worst state, work on padded successors;
the others need every state as an outcome.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

from polytheory._typing import Float, Int
from polytheory.errors import SettingError, ShapeError
from polytheory.models import ambiguity as sets
from polytheory.scaled.robust import divergences, polyhedral
from polytheory.scaled.robust.polyhedral import Worst
from polytheory.scaled.robust.problem import Problem, dense
from polytheory.scaled.robust.shared_budget import shared_budget


class Sweep(NamedTuple):
    """One application: ``v`` [n, S]; ``policy`` [n, S, A]; ``q`` [n, S, A] under nature's ``law`` [n, S, A, K] over the
    outcomes ``index`` [n, S, A, K] (None: outcome k is state k); ``gap`` [n] largest primal-dual gap."""

    v: Float[torch.Tensor, "n S"]
    policy: Float[torch.Tensor, "n S A"]
    q: Float[torch.Tensor, "n S A"]
    law: Float[torch.Tensor, "n S A K"]
    index: Int[torch.Tensor, "n S A K"] | None
    gap: Float[torch.Tensor, " n"]


def worst_case(ball: sets.Ambiguity, z: Float[torch.Tensor, "*k n"], p: Float[torch.Tensor, "*k n"]) -> Worst:
    """The worst law around every nominal law ``p`` for outcomes ``z``; raises `SettingError` as in the reference."""
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
            cost = torch.tensor(ball.ground_cost(p.shape[-1]), dtype=p.dtype, device=p.device)
            return polyhedral.worst_transport(z, p, cost, ball.radius)
        case sets.Interval():
            low, high = (torch.tensor(x, dtype=p.dtype, device=p.device) for x in (ball.low, ball.high))
            return polyhedral.worst_interval(z, low, high)
        case sets.Scenarios():
            return polyhedral.worst_scenario(z, torch.tensor(ball.kernels, dtype=p.dtype, device=p.device))
        case sets.KL():
            return divergences.worst_kl(z, p, ball.radius)
        case sets.ReverseKL():
            return divergences.worst_reverse_kl(z, p, ball.radius, support=ball.support)
        case sets.ChiSquare():
            return divergences.worst_chi2(z, p, ball.radius)
        case sets.Penalised():
            return getattr(divergences, f"penalised_{ball.divergence}")(z, p, ball.strength)
    raise SettingError(f"{type(ball).__name__} has no worst case for one (s, a) alone; use robust_sweep")


def robust_sweep(ball: sets.Ambiguity, problem: Problem, v: Float[torch.Tensor, "n S"]) -> Sweep:
    """``L v`` with the policy and nature's law that attain it. Raises `ShapeError`, `SettingError` as the reference."""
    ends = problem.terminal[:, None]
    if isinstance(ball, sets.SharedBudget):
        problem, index, z, p = _rows(ball, problem, v)
        game = shared_budget(ball.ball, problem.fixed[..., None] + z, p, ball.radius)
        law = torch.where(ends[..., None], p, game.law)
        q = problem.fixed + (law * z).sum(-1)
        value = torch.where(problem.terminal, q.amax(-1), game.value)
        return Sweep(value, game.policy, q, law, index, torch.where(problem.terminal, 0.0, game.gap).amax(-1))
    q, law, index, gap = _action_values(ball, problem, v)
    best, action = q.max(-1)
    policy = torch.nn.functional.one_hot(action, q.shape[-1]).to(q.dtype)
    return Sweep(best, policy, q, law, index, gap)


def robust_policy_sweep(
    ball: sets.Ambiguity, problem: Problem, policy: Float[torch.Tensor, "n S A"], v: Float[torch.Tensor, "n S"]
) -> Sweep:
    """``L_pi v`` for sets by (s, a). Raises `SettingError` for a shared budget, whose replies the reference computes."""
    if isinstance(ball, sets.SharedBudget):
        raise SettingError(
            "nature's reply to a given policy under a shared budget is in the reference only; set order = 1 here"
        )
    q, law, index, gap = _action_values(ball, problem, v)
    return Sweep((policy * q).sum(-1), policy, q, law, index, gap)


def _action_values(
    ball: sets.Ambiguity, problem: Problem, v: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor | None, torch.Tensor]:
    ends = problem.terminal[:, None]
    problem, index, z, p = _rows(ball, problem, v)
    if isinstance(ball, sets.Factored):
        worst = _factored(ball, problem, v)
    elif isinstance(ball, sets.Penalised):
        worst = _penalised(ball, z, p, problem.gamma)
    else:
        worst = worst_case(ball, z, p)
    law = torch.where(ends[..., None], p, worst.law)
    q = problem.fixed + torch.where(ends, (p * z).sum(-1), worst.value)
    return q, law, index, torch.where(ends, 0.0, worst.gap).flatten(1).amax(-1)


def _rows(
    ball: sets.Ambiguity, problem: Problem, v: torch.Tensor
) -> tuple[Problem, torch.Tensor | None, torch.Tensor, torch.Tensor]:
    """The problem as this set needs it: outcomes with their states, their values [n, S, A, K] and nominal laws."""
    wanted = {sets.Interval: "low", sets.Scenarios: "kernels"}.get(type(ball))
    if isinstance(ball, sets.LInfinity | sets.Wasserstein | sets.Interval | sets.Scenarios):
        problem = dense(problem, type(ball).__name__)
    if wanted and getattr(ball, wanted).shape[-3:] != tuple(problem.p.shape):
        raise ShapeError(
            f"{wanted} is {list(getattr(ball, wanted).shape)}; the model has [S, A, S] = {list(problem.p.shape)}"
        )
    z, p, index = problem.outcomes(v), problem.p.expand(v.shape[0], *problem.p.shape), problem.index
    if index is None or not leaves_support(ball):
        return problem, None if index is None else index.expand(v.shape[0], *index.shape), z, p
    if problem.paid is not None:
        raise SettingError(
            f"{type(ball).__name__} may reach every state, and a sparse model pays only for its successors"
        )
    # nature puts what it moves on the worst state of all: one more outcome, of nominal probability 0
    lowest, where = v.min(-1)
    extra = (*z.shape[:-1], 1)
    z = torch.cat([z, (problem.gamma * lowest)[:, None, None, None].expand(extra)], -1)
    p = torch.cat([p, torch.zeros(extra, dtype=p.dtype, device=p.device)], -1)
    index = torch.cat([index.expand(v.shape[0], *index.shape), where[:, None, None, None].expand(extra)], -1)
    return problem, index, z, p


def leaves_support(ball: sets.Ambiguity) -> bool:
    """True when nature may put probability on states that have none."""
    if isinstance(ball, sets.SupportedBall):
        return ball.support == "full"
    if isinstance(ball, sets.SharedBudget):
        return ball.ball is sets.L1
    return isinstance(ball, sets.Penalised) and ball.divergence == "tv"


def _penalised(ball: sets.Penalised, z: torch.Tensor, p: torch.Tensor, gamma: float) -> Worst:
    """The charge belongs to the next state's value and is discounted with it."""
    strength = ball.strength * gamma
    if strength == 0:
        if bool((z.amax(-1) > z.amin(-1)).any()):
            raise SettingError("gamma = 0 leaves a penalty without weight beside rewards [S, A, S]; use a ball instead")
        return Worst((p * z).sum(-1), p, torch.zeros_like(z[..., 0]))
    return worst_case(sets.Penalised(ball.divergence, strength), z, p)


def _factored(ball: sets.Factored, problem: Problem, v: torch.Tensor) -> Worst:
    features, factors = (torch.tensor(x, dtype=v.dtype, device=v.device) for x in (ball.features, ball.factors))
    if features.shape[:2] != problem.fixed.shape or factors.shape[1] != v.shape[1]:
        raise ShapeError(f"features are {list(features.shape)}; the model has [S, A] = {list(problem.fixed.shape)}")
    if problem.paid is not None:
        raise SettingError("a factored set needs rewards [S, A]: nature acts on factors, which see the next state only")
    ahead = (problem.gamma * v)[:, None, :].expand(-1, *factors.shape)
    inner = ball.ball
    worst = (
        _penalised(inner, ahead, factors, problem.gamma)
        if isinstance(inner, sets.Penalised)
        else worst_case(inner, ahead, factors)
    )
    pooled = [torch.einsum("sai,ni...->nsa...", features, x) for x in worst]
    return Worst(*pooled)
