"""Unbiased estimates of ``grad J(theta_t) - grad J(theta_{t-1})`` from trajectories."""

from __future__ import annotations

from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.reference.policy_gradient.estimators import hvp_estimate, importance_ratio
from polytheory.reference.policy_gradient.steps import interpolate
from polytheory.streams import row_ids, uniforms
from polytheory.trajectories import Trajectories


def hessian_aided_difference(method: Any, state: Any, access: Any) -> tuple[Float[np.ndarray, " d"], Trajectories]:
    """Mean of ``B(tau^, theta^) (theta_t - theta_{t-1})`` with theta^ uniform on the segment, tau^ ~ p(.; theta^).

    One q for the whole batch and the whole vector. Its mean over q and tau^ is the gradient difference exactly. Also
    returns the trajectories.
    """
    q = segment_position(method, state)
    between = interpolate(state.theta, state.theta_prev, q)
    traj = method.sample(between, state, access, "tau_hat")
    u = state.theta - state.theta_prev
    return hvp_estimate(method.policy.with_theta(between), traj, u, gamma=access.spec.gamma).mean(axis=0), traj


def segment_position(method: Any, state: Any) -> float:
    """The uniform q of this step."""
    return float(uniforms(state.seed, f"{method.name}/q", state.t, row_ids(state.replica, 0), 1)[0, 0])


def weighted_difference(method: Any, state: Any, access: Any, traj: Trajectories) -> Float[np.ndarray, " d"]:
    """Mean of ``g(tau, theta_t) - w g(tau, theta_{t-1})``, tau ~ p(.; theta_t), w the importance ratio."""
    old, new = method.policy.with_theta(state.theta_prev), method.policy.with_theta(state.theta)
    w = importance_ratio(old, new, traj)
    g = method.gradients(state.theta, traj, access)
    return (g - w[:, None] * method.gradients(state.theta_prev, traj, access)).mean(axis=0)
