"""Unbiased estimators of the policy gradient and of Hessian-vector products, one result per trajectory.

For a trajectory tau of H steps, ``Psi_t = sum_{h >= t} gamma^h r_h`` (absolute discounts) and
``Phi(tau, theta) = sum_t Psi_t log pi_theta(a_t | s_t)`` with Psi constant:

* ``g = grad Phi`` (GPOMDP) has mean ``grad J_H`` [baxter2001; sutton1999];
* ``B = g (grad log p(tau))^T + hess Phi`` has mean ``hess J_H`` [shen2019, Hessian Aided Policy Gradient, ICML].

Batch means over many trajectories are in `means`.
"""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Bool, Float
from polytheory.errors import UnknownNameError
from polytheory.trajectories import Trajectories, discounts

KINDS = ("gpomdp", "reinforce")


def rewards_to_go(
    rewards: Float[torch.Tensor, "n t"], mask: Bool[torch.Tensor, "n t"], *, gamma: float
) -> Float[torch.Tensor, "n t"]:
    """``Psi_t = sum_{h >= t} gamma^h r_h``: discounts count from the start of the episode, not from t."""
    powers = torch.from_numpy(discounts(gamma, rewards.shape[1])).to(rewards)
    discounted = torch.where(mask, rewards, torch.zeros_like(rewards)) * powers
    return discounted.flip(1).cumsum(1).flip(1)


def score_weights(
    traj: Trajectories, *, gamma: float, kind: str = "gpomdp", baseline: Float[torch.Tensor, "n t"] | None = None
) -> Float[torch.Tensor, "n t"]:
    """What multiplies each score: ``Psi_t`` (gpomdp) or the whole return (reinforce), less ``gamma^t`` baseline_t.

    ``baseline`` [n, t] holds b(s_t), which may depend on the state but not on the action. Raises `UnknownNameError` for
    a kind other than "gpomdp" and "reinforce".
    """
    if kind not in KINDS:
        raise UnknownNameError("estimator", kind, KINDS)
    weights = rewards_to_go(traj.rewards, traj.mask, gamma=gamma)
    if kind == "reinforce":
        weights = weights[:, :1].expand_as(weights)
    if baseline is not None:
        powers = torch.from_numpy(discounts(gamma, weights.shape[1])).to(weights)
        weights = weights - powers * torch.where(traj.mask, baseline, torch.zeros_like(baseline))
    return torch.where(traj.mask, weights, torch.zeros_like(weights))


def pg_estimate(
    policy: Any,
    traj: Trajectories,
    *,
    gamma: float,
    kind: str = "gpomdp",
    baseline: Float[torch.Tensor, "n t"] | None = None,
) -> Float[torch.Tensor, "n d"]:
    """``g(tau, theta)`` for every row, at the parameters of ``policy``."""
    weights = score_weights(traj, gamma=gamma, kind=kind, baseline=baseline)
    return policy.score_sum(traj.states, traj.actions, weights)


def hvp_estimate(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"], *, gamma: float
) -> Float[torch.Tensor, "n d"]:
    """``B(tau, theta) u`` for every row, without forming B."""
    return outer_product_term(policy, traj, u, gamma=gamma) + curvature_term(policy, traj, u, gamma=gamma)


def outer_product_term(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"], *, gamma: float
) -> Float[torch.Tensor, "n d"]:
    """``g(tau, theta) (grad log p(tau; theta) . u)``: how the law of the trajectory moves along u."""
    return pg_estimate(policy, traj, gamma=gamma) * score_along(policy, traj, u)[:, None]


def curvature_term(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"], *, gamma: float
) -> Float[torch.Tensor, "n d"]:
    """``hess Phi u = sum_t Psi_t (hess log pi(a_t | s_t)) u``."""
    return policy.hvp_sum(traj.states, traj.actions, rewards_to_go(traj.rewards, traj.mask, gamma=gamma), u)


def score_along(policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"]) -> Float[torch.Tensor, " n"]:
    """``s_i = grad log p(tau_i; theta) . u``, one scalar per row."""
    along = policy.directional(traj.states, traj.actions, u)
    return torch.where(traj.mask, along, torch.zeros_like(along)).sum(-1)


def importance_ratio(policy_b: Any, policy_a: Any, traj: Trajectories) -> Float[torch.Tensor, " n"]:
    """``p(tau; theta_b) / p(tau; theta_a)`` for trajectories sampled from a; transition probabilities cancel."""
    with torch.no_grad():
        gap = policy_b.log_probs(traj.states, traj.actions) - policy_a.log_probs(traj.states, traj.actions)
        return torch.where(traj.mask.to(gap.device), gap, torch.zeros_like(gap)).sum(-1).exp()
