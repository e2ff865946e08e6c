"""Estimators of the bilevel problem's derivatives from trajectories, one result per trajectory, in torch.

Formulas and names are the reference's; policies are softmax tables with one set of parameters per replica, rows
replica-major. Networks take `deep`.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Bool, Float, Shaped
from polytheory.trajectories import Trajectories, discounts


def masked(x: Float[torch.Tensor, "n t"], mask: Bool[torch.Tensor, "n t"]) -> Float[torch.Tensor, "n t"]:
    """``x`` with zeros where nothing was done."""
    return torch.where(mask, x, torch.zeros_like(x))


def regularised_rewards(
    policy: Any, traj: Trajectories, r: Float[torch.Tensor, "*R S A"], tau: float
) -> Float[torch.Tensor, "n t"]:
    """``rho_h = r(s_h, a_h) - tau log pi(a_h | s_h)``, 0 where masked; rewards may differ by replica."""
    return masked(taken(r, traj) - tau * policy.log_probs(traj.states, traj.actions), traj.mask)


def taken(r: Float[torch.Tensor, "*R S A"], traj: Trajectories) -> Float[torch.Tensor, "n t"]:
    """``r(s_h, a_h)``, of the own replica where there are several."""
    states: Any = traj.states
    if r.ndim == 2:
        return r[states, traj.actions]
    own = torch.arange(len(r), device=r.device).repeat_interleave(len(states) // len(r))
    return r[own[:, None], states, traj.actions]


def present_value(x: Float[torch.Tensor, "n t"], gamma: float) -> Float[torch.Tensor, "n t"]:
    """``gamma^h x_h``."""
    return x * torch.as_tensor(discounts(gamma, x.shape[1])).to(x)


def later(x: Float[torch.Tensor, "n t"]) -> Float[torch.Tensor, "n t"]:
    """``sum_{h >= j} x_h``: turns ``sum_h x_h S_h`` into weights of single scores."""
    return x.flip(1).cumsum(1).flip(1)


def steps_along(policy: Any, traj: Trajectories, u: Float[torch.Tensor, "*R d"]) -> Float[torch.Tensor, "n t"]:
    """``z_h . u``, 0 where masked."""
    return masked(policy.directional(traj.states, traj.actions, u.reshape(-1, u.shape[-1])), traj.mask)


def lower_gradient(
    policy: Any, traj: Trajectories, rho: Float[torch.Tensor, "n t"], *, gamma: float
) -> Float[torch.Tensor, "n d"]:
    """Estimates of ``grad V``."""
    return policy.score_sum(traj.states, traj.actions, later(present_value(rho, gamma)))


def outer_part(
    policy: Any, traj: Trajectories, rho: Float[torch.Tensor, "n t"], u: Float[torch.Tensor, "*R d"], *, gamma: float
) -> Float[torch.Tensor, "n d"]:
    """``sum_h gamma^h rho_h S_h (S_h . u)``."""
    along = steps_along(policy, traj, u).cumsum(1)
    return policy.score_sum(traj.states, traj.actions, later(present_value(rho, gamma) * along))


def curved_part(
    policy: Any, traj: Trajectories, rho: Float[torch.Tensor, "n t"], u: Float[torch.Tensor, "*R d"], *, gamma: float
) -> Float[torch.Tensor, "n d"]:
    """``sum_h gamma^h rho_h sum_{j <= h} (hess log pi_j) u``."""
    return policy.hvp_sum(traj.states, traj.actions, later(present_value(rho, gamma)), u.reshape(-1, u.shape[-1]))


def entropy_part(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "*R d"], *, gamma: float, tau: float
) -> Float[torch.Tensor, "n d"]:
    """``-tau sum_h gamma^h z_h (z_h . u)``."""
    return -tau * policy.score_sum(traj.states, traj.actions, present_value(steps_along(policy, traj, u), gamma))


def lower_hvp(
    policy: Any,
    traj: Trajectories,
    rho: Float[torch.Tensor, "n t"],
    u: Float[torch.Tensor, "*R d"],
    *,
    gamma: float,
    tau: float,
) -> Float[torch.Tensor, "n d"]:  # fmt: skip
    """Estimates of ``(hess V) u``."""
    bent = outer_part(policy, traj, rho, u, gamma=gamma) + curved_part(policy, traj, rho, u, gamma=gamma)
    return bent + entropy_part(policy, traj, u, gamma=gamma, tau=tau)


def mixed_product(
    policy: Any,
    traj: Trajectories,
    features: Float[torch.Tensor, "S A m"],
    u: Float[torch.Tensor, "*R d"],
    *,
    gamma: float,
) -> Float[torch.Tensor, "n m"]:
    """Estimates of ``u . d2V/dtheta dnu``: ``sum_h gamma^h (S_h . u) phi(s_h, a_h)``."""
    along = masked(steps_along(policy, traj, u).cumsum(1), traj.mask)
    return torch.einsum("nt,ntm->nm", present_value(along, gamma), features[traj.states, traj.actions])


def sampled_upper_gradient(policy: Any, traj: Trajectories, u: Float[torch.Tensor, " n"]) -> Float[torch.Tensor, "n d"]:
    """Estimates of ``U'``: ``u(tau) sum_h z_h``."""
    return policy.score_sum(traj.states, traj.actions, u[:, None] * traj.mask)


def returns_along(
    traj: Trajectories, x: Shaped[torch.Tensor, "n t *m"], *, gamma: float
) -> Shaped[torch.Tensor, "n *m"]:
    """``sum_h gamma^h x_h`` of every trajectory."""
    powers = torch.as_tensor(discounts(gamma, traj.mask.shape[1])).to(x)
    return torch.einsum("nt,nt...->n...", torch.where(traj.mask, powers, torch.zeros_like(powers)), x)


def without_own(u: Float[torch.Tensor, "*R n"]) -> Float[torch.Tensor, "*R n"]:
    """``u_i`` less the mean of the others of its replica."""
    n = u.shape[-1]
    return (u - u.mean(-1, keepdim=True)) * (n / (n - 1))
