"""Batch means of the estimators, one per replica; for modules by automatic differentiation without per-sample work.

For a batch of m trajectories ``mean_i s_i g_i`` is not ``mean(s) mean(g)``: the scalars ``s_i = grad log p(tau_i) . u``
stay with their trajectory. All of ``mean_i B_i u`` is one gradient of

    ``(1 / m) sum_it Psi_it (D_it + stop(s_i) log pi_it)``  with  ``D_it = score_it . u``,

in which D comes from forward mode (or from a second backward pass, see ``TorchPolicy.forward_mode``).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from polytheory._typing import Float
from polytheory.scaled.policy_gradient.estimators import hvp_estimate, pg_estimate, rewards_to_go, score_weights
from polytheory.trajectories import Trajectories


def batch_mean(x: Float[torch.Tensor, "n d"], replicas: int) -> Float[torch.Tensor, "R d"]:
    """Mean over the rows of each replica."""
    return x.view(replicas, -1, x.shape[1]).mean(1)


def mean_pg(
    policy: Any,
    traj: Trajectories,
    *,
    gamma: float,
    kind: str = "gpomdp",
    baseline: Float[torch.Tensor, "n t"] | None = None,
    row_weights: Float[torch.Tensor, " n"] | None = None,
) -> Float[torch.Tensor, "R d"]:
    """Mean over the batch of ``row_weights_i g(tau_i, theta)``; row weights (importance ratios) default to 1."""
    if policy.closed_form:
        g = pg_estimate(policy, traj, gamma=gamma, kind=kind, baseline=baseline)
        return batch_mean(g if row_weights is None else row_weights[:, None] * g, policy.replicas)
    weights = score_weights(traj, gamma=gamma, kind=kind, baseline=baseline)
    return mean_score(policy, traj, weights if row_weights is None else row_weights[:, None] * weights)


def mean_hvp(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"], *, gamma: float
) -> Float[torch.Tensor, "R d"]:
    """Mean over the batch of ``B(tau_i, theta) u``."""
    if policy.closed_form:
        return batch_mean(hvp_estimate(policy, traj, u, gamma=gamma), policy.replicas)
    if policy.forward_mode:
        return mean_hvp_forward(policy, traj, u, gamma=gamma)
    return mean_hvp_backward(policy, traj, u, gamma=gamma)


def mean_score(policy: Any, traj: Trajectories, weights: Float[torch.Tensor, "n t"]) -> Float[torch.Tensor, "R d"]:
    """Mean over the batch of ``sum_t weights_it score_it``: one backward pass."""
    theta = policy.theta.detach().requires_grad_()
    log_p = policy.with_theta(theta).log_probs(traj.states, traj.actions)
    return torch.autograd.grad(_mean(policy, weights.to(log_p) * log_p), theta)[0]


def mean_hvp_forward(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"], *, gamma: float
) -> Float[torch.Tensor, "R d"]:
    """`mean_hvp` by one forward-mode pass and one backward pass through it."""
    theta = policy.theta.detach().requires_grad_()

    def log_probs(x: torch.Tensor) -> torch.Tensor:
        return policy.with_theta(x).log_probs(traj.states, traj.actions)

    log_p, along = torch.func.jvp(log_probs, (theta,), (u.to(theta.dtype),))[:2]
    psi = rewards_to_go(traj.rewards, traj.mask, gamma=gamma).to(log_p)
    s = torch.where(traj.mask.to(along.device), along.detach(), torch.zeros_like(along)).sum(1, keepdim=True)
    return torch.autograd.grad(_mean(policy, psi * (along + s * log_p)), theta)[0]


def mean_hvp_backward(
    policy: Any, traj: Trajectories, u: Float[torch.Tensor, "R d"], *, gamma: float
) -> Float[torch.Tensor, "R d"]:
    """`mean_hvp` by double back-propagation only, for layers without a forward-mode rule."""
    theta = policy.theta.detach().requires_grad_()
    log_p = policy.with_theta(theta).log_probs(traj.states, traj.actions)
    log_p = torch.where(traj.mask.to(log_p.device), log_p, torch.zeros_like(log_p))
    psi = rewards_to_go(traj.rewards, traj.mask, gamma=gamma)
    return sum_hvp(log_p, psi, [theta], [u])[0] / (len(psi) // policy.replicas)


def sum_hvp(
    log_p: Float[torch.Tensor, "n t"],
    psi: Float[torch.Tensor, "n t"],
    params: Sequence[torch.Tensor],
    u: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """``sum_i B(tau_i) u`` in the shapes of ``params``, from log-probabilities that are 0 where masked.

    With ``G(c) = sum_it c_it score_it``, linear in c: ``grad_c <G, u> = D`` gives every s_i at once, and
    ``grad_theta <G(Psi), u>`` is the curvature part.
    """
    psi = psi.to(log_p).detach().requires_grad_()
    g = torch.autograd.grad((psi * log_p).sum(), list(params), create_graph=True)
    along_u = torch.stack([(x * y.to(x.dtype)).sum() for x, y in zip(g, u, strict=True)]).sum()
    *curvature, along = torch.autograd.grad(along_u, [*params, psi], retain_graph=True)
    weights = psi.detach() * along.sum(1, keepdim=True)  # s_i stays with its trajectory
    outer = torch.autograd.grad((weights * log_p).sum(), list(params))
    return [a + b for a, b in zip(curvature, outer, strict=True)]


def _mean(policy: Any, x: torch.Tensor) -> torch.Tensor:
    """Sum over everything, divided by the batch size of one replica (replicas do not share parameters)."""
    return x.sum() / (len(x) // policy.replicas)
