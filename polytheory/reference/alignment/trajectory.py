"""Unbiased estimators of the bilevel problem's derivatives from trajectories, one result per trajectory.

With ``rho_h = r_nu - tau log pi`` along a trajectory, ``z_h`` its scores and ``S_h = z_0 + ... + z_h``::

    grad V         = E[sum_h gamma^h rho_h S_h]
    hess V         = E[sum_h gamma^h (rho_h (S_h S_h^T + sum_{j <= h} hess log pi_j) - tau z_h z_h^T)]
    d2V/dtheta dnu = E[sum_h gamma^h S_h phi(s_h, a_h)^T]
    U'             = E[u(tau) sum_h z_h]

The outer product ``S_h S_h^T`` is how the law of the trajectory bends; without it the rest is no Hessian. Nothing of size
[d, d] or [d, m] is formed.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.trajectories import Trajectories, discounts


def regularised_rewards(
    policy: Any, traj: Trajectories, r: Float[np.ndarray, "S A"], tau: float
) -> Float[np.ndarray, "n t"]:
    """``rho_h = r(s_h, a_h) - tau log pi(a_h | s_h)``, 0 where masked."""
    rho = r[traj.states, traj.actions] - tau * policy.log_probs(traj.states, traj.actions)
    return np.where(traj.mask, rho, 0.0)


def present_value(x: Float[np.ndarray, "n t"], gamma: float) -> Float[np.ndarray, "n t"]:
    """``gamma^h x_h``."""
    return x * discounts(gamma, x.shape[1])


def later(x: Float[np.ndarray, "n t"]) -> Float[np.ndarray, "n t"]:
    """``sum_{h >= j} x_h``: turns ``sum_h x_h S_h`` into weights of single scores."""
    return np.cumsum(x[:, ::-1], axis=1)[:, ::-1]


def steps_along(policy: Any, traj: Trajectories, u: Float[np.ndarray, " d"]) -> Float[np.ndarray, "n t"]:
    """``z_h . u``, 0 where masked."""
    return np.where(traj.mask, policy.directional(traj.states, traj.actions, u), 0.0)


def lower_gradient(
    policy: Any, traj: Trajectories, rho: Float[np.ndarray, "n t"], *, gamma: float
) -> Float[np.ndarray, "n d"]:
    """Estimates of ``grad V``."""
    return policy.score_sum(traj.states, traj.actions, later(present_value(rho, gamma)))


def outer_part(
    policy: Any, traj: Trajectories, rho: Float[np.ndarray, "n t"], u: Float[np.ndarray, " d"], *, gamma: float
) -> Float[np.ndarray, "n d"]:
    """``sum_h gamma^h rho_h S_h (S_h . u)``."""
    along = np.cumsum(steps_along(policy, traj, u), axis=1)
    return policy.score_sum(traj.states, traj.actions, later(present_value(rho, gamma) * along))


def curved_part(
    policy: Any, traj: Trajectories, rho: Float[np.ndarray, "n t"], u: Float[np.ndarray, " d"], *, gamma: float
) -> Float[np.ndarray, "n d"]:
    """``sum_h gamma^h rho_h sum_{j <= h} (hess log pi_j) u``."""
    return policy.hvp_sum(traj.states, traj.actions, later(present_value(rho, gamma)), u)


def entropy_part(
    policy: Any, traj: Trajectories, u: Float[np.ndarray, " d"], *, gamma: float, tau: float
) -> Float[np.ndarray, "n d"]:
    """``-tau sum_h gamma^h z_h (z_h . u)``."""
    return -tau * policy.score_sum(traj.states, traj.actions, present_value(steps_along(policy, traj, u), gamma))


def lower_hvp(
    policy: Any,
    traj: Trajectories,
    rho: Float[np.ndarray, "n t"],
    u: Float[np.ndarray, " d"],
    *,
    gamma: float,
    tau: float,
) -> Float[np.ndarray, "n d"]:
    """Estimates of ``(hess V) u``."""
    bent = outer_part(policy, traj, rho, u, gamma=gamma) + curved_part(policy, traj, rho, u, gamma=gamma)
    return bent + entropy_part(policy, traj, u, gamma=gamma, tau=tau)


def mixed_product(
    policy: Any, traj: Trajectories, features: Float[np.ndarray, "S A m"], u: Float[np.ndarray, " d"], *, gamma: float
) -> Float[np.ndarray, "n m"]:
    """Estimates of ``u . d2V/dtheta dnu``: ``sum_h gamma^h (S_h . u) phi(s_h, a_h)``."""
    along = np.cumsum(steps_along(policy, traj, u), axis=1) * traj.mask
    return np.einsum("nt,ntm->nm", present_value(along, gamma), features[traj.states, traj.actions])


def sampled_upper_gradient(policy: Any, traj: Trajectories, u: Float[np.ndarray, " n"]) -> Float[np.ndarray, "n d"]:
    """Estimates of ``U'``: ``u(tau) sum_h z_h``."""
    return policy.score_sum(traj.states, traj.actions, u[:, None] * traj.mask)


def returns_along(traj: Trajectories, x: Float[np.ndarray, "n t *m"], *, gamma: float) -> Float[np.ndarray, "n *m"]:
    """``sum_h gamma^h x_h`` of every trajectory."""
    powers = np.where(traj.mask, discounts(gamma, traj.mask.shape[1]), 0.0)
    return np.einsum("nt,nt...->n...", powers, x)


def without_own(u: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """``u_i`` less the mean of the others: the mean of ``u_i z_i`` stays, since the others know nothing of ``z_i``."""
    n = len(u)
    return (u - u.mean()) * (n / (n - 1))
