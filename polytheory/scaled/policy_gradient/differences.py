"""Unbiased estimates of ``grad J(theta_t) - grad J(theta_{t-1})`` from trajectories, one per replica."""

from __future__ import annotations

from typing import Any

import torch

from polytheory._typing import Float
from polytheory.scaled.policy_gradient.estimators import importance_ratio
from polytheory.scaled.policy_gradient.means import mean_hvp
from polytheory.scaled.policy_gradient.steps import interpolate
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


def hessian_aided_difference(method: Any, state: Any, access: Any) -> tuple[Float[torch.Tensor, "n d"], Trajectories]:
    """Mean of ``B(tau^, theta^) (theta_t - theta_{t-1})`` with theta^ uniform on the segment, tau^ ~ p(.; theta^).

    One q for the whole batch and the whole vector of a replica. Its mean over q and tau^ is the gradient difference
    exactly. Also returns the trajectories.
    """
    q = segment_position(method, state)
    between = interpolate(state.theta, state.theta_prev, q)
    traj = method.sample(between, state, access, "tau_hat")
    u = state.theta - state.theta_prev
    return mean_hvp(method.policy.with_theta(between), traj, u, gamma=access.spec.gamma), traj


def segment_position(method: Any, state: Any) -> Float[torch.Tensor, "n 1"]:
    """The uniform q of this step, one per replica."""
    ids = row_ids(state.replica.numpy(force=True), 0)
    return torch.from_numpy(uniforms(state.seed, f"{method.name}/q", state.t, ids, 1)).to(state.theta)


def weighted_difference(method: Any, state: Any, access: Any, traj: Trajectories) -> Float[torch.Tensor, "n d"]:
    """Mean of ``g(tau, theta_t) - w g(tau, theta_{t-1})``, tau ~ p(.; theta_t), w the importance ratio."""
    old, new = method.policy.with_theta(state.theta_prev), method.policy.with_theta(state.theta)
    w = importance_ratio(old, new, traj)
    g = method.gradient(state.theta, traj, access)
    return g - method.gradient(state.theta_prev, traj, access, row_weights=w)
