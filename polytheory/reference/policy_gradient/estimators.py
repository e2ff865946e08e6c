"""Unbiased estimators of the policy gradient and of Hessian-vector products, one result per trajectory.

For a trajectory tau of H steps, ``Psi_t = sum_{h >= t} gamma^h r_h`` (absolute discounts) and
``Phi(tau, theta) = sum_t Psi_t log pi_theta(a_t | s_t)`` with Psi constant:

* ``g = grad Phi`` (GPOMDP) has mean ``grad J_H`` [baxter2001; sutton1999];
* ``B = g (grad log p(tau))^T + hess Phi`` has mean ``hess J_H`` [shen2019].
"""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Bool, Float
from polytheory.errors import UnknownNameError
from polytheory.trajectories import Trajectories, discounts

KINDS = ("gpomdp", "reinforce")


def rewards_to_go(
    rewards: Float[np.ndarray, "n t"], mask: Bool[np.ndarray, "n t"], *, gamma: float
) -> Float[np.ndarray, "n t"]:
    """``Psi_t = sum_{h >= t} gamma^h r_h``: discounts count from the start of the episode, not from t."""
    discounted = np.where(mask, rewards, 0.0) * discounts(gamma, rewards.shape[1])
    return np.cumsum(discounted[:, ::-1], axis=1)[:, ::-1]


def score_weights(
    traj: Trajectories, *, gamma: float, kind: str = "gpomdp", baseline: Float[np.ndarray, "n t"] | None = None
) -> Float[np.ndarray, "n t"]:
    """What multiplies a score: ``Psi_t`` (gpomdp) or the whole return (reinforce), less ``gamma^t`` times the baseline.

    ``baseline`` [n, t] holds b(s_t), which may depend on the state but not on the action. Raises `UnknownNameError` for
    a kind other than "gpomdp" and "reinforce".
    """
    if kind not in KINDS:
        raise UnknownNameError("estimator", kind, KINDS)
    weights = rewards_to_go(traj.rewards, traj.mask, gamma=gamma)
    if kind == "reinforce":
        weights = np.broadcast_to(weights[:, :1], weights.shape)
    if baseline is not None:
        weights = weights - discounts(gamma, weights.shape[1]) * np.where(traj.mask, baseline, 0.0)
    return np.where(traj.mask, weights, 0.0)


def pg_estimate(
    policy: Any,
    traj: Trajectories,
    *,
    gamma: float,
    kind: str = "gpomdp",
    baseline: Float[np.ndarray, "n t"] | None = None,
) -> Float[np.ndarray, "n d"]:
    """``g(tau, theta)`` for every row, at the parameters of ``policy``."""
    weights = score_weights(traj, gamma=gamma, kind=kind, baseline=baseline)
    return policy.score_sum(traj.states, traj.actions, weights)


def hvp_estimate(
    policy: Any, traj: Trajectories, u: Float[np.ndarray, " d"], *, gamma: float
) -> Float[np.ndarray, "n d"]:
    """``B(tau, theta) u`` for every row, without forming B."""
    return outer_product_term(policy, traj, u, gamma=gamma) + curvature_term(policy, traj, u, gamma=gamma)


def outer_product_term(
    policy: Any, traj: Trajectories, u: Float[np.ndarray, " d"], *, gamma: float
) -> Float[np.ndarray, "n d"]:
    """``g(tau, theta) (grad log p(tau; theta) . u)``: how the law of the trajectory moves along u."""
    return pg_estimate(policy, traj, gamma=gamma) * score_along(policy, traj, u)[:, None]


def curvature_term(
    policy: Any, traj: Trajectories, u: Float[np.ndarray, " d"], *, gamma: float
) -> Float[np.ndarray, "n d"]:
    """``hess Phi u = sum_t Psi_t (hess log pi(a_t | s_t)) u``."""
    return policy.hvp_sum(traj.states, traj.actions, score_weights(traj, gamma=gamma), u)


def score_along(policy: Any, traj: Trajectories, u: Float[np.ndarray, " d"]) -> Float[np.ndarray, " n"]:
    """``grad log p(tau; theta) . u``, one scalar per row."""
    return np.where(traj.mask, policy.directional(traj.states, traj.actions, u), 0.0).sum(axis=1)


def importance_ratio(policy_b: Any, policy_a: Any, traj: Trajectories) -> Float[np.ndarray, " n"]:
    """``p(tau; theta_b) / p(tau; theta_a)`` for trajectories sampled from a; transition probabilities cancel."""
    gap = policy_b.log_probs(traj.states, traj.actions) - policy_a.log_probs(traj.states, traj.actions)
    return np.exp(np.where(traj.mask, gap, 0.0).sum(axis=1))
