"""Derivatives by complex steps of the return itself: no score, no reward to go, no policy gradient theorem.

``Im f(theta + i h e) / h`` with ``h = 1e-30`` has no cancellation: the error is float64 rounding alone. Second
derivatives are central differences of it at two spacings, extrapolated: truncation ``O(eps^4)`` and rounding
``1e-16 / eps``, with ``eps = 1e-3`` both below 1e-11 times the size of the derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.proofs_check.policy_gradient.instances import Case
from polytheory.trajectories import Trajectories

STEP = 1e-30
SPACING = 1e-3
ROUNDING = 1e-13  # relative: a thousand operations of unit roundoff 1e-16
SECOND = 1e-10  # relative, of second derivatives


def log_pi(features: Float[np.ndarray, "S A d"], theta: Any) -> np.ndarray:
    """Log-probabilities [S, A] of the softmax at real or complex theta."""
    logits = features @ theta
    shifted = logits - logits.real.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def truncated_return(case: Case) -> Callable[[Any], Any]:
    """``theta -> J_H``: propagate the start distribution forward and add up discounted rewards."""
    model = case.model
    P, r = np.asarray(model.P), model.r_at()

    def value(theta: Any) -> Any:
        pi, x, total = np.exp(log_pi(case.features, theta)), model.mu.astype(complex), 0.0
        for h in range(case.truncation):
            total = total + model.gamma**h * (x[:, None] * pi * r).sum()
            x = np.einsum("s,sa,sat->t", x, pi, P)
        return total

    return value


def infinite_return(case: Case) -> Callable[[Any], Any]:
    """``theta -> J`` by one linear solve."""
    model = case.model
    P, r = np.asarray(model.P), model.r_at()

    def value(theta: Any) -> Any:
        pi = np.exp(log_pi(case.features, theta))
        M = np.eye(model.S) - model.gamma * np.einsum("sa,sat->st", pi, P)
        return model.mu @ np.linalg.solve(M, (pi * r).sum(axis=1))

    return value


def weighted_log_likelihood(case: Case, traj: Trajectories, i: int) -> Callable[[Any], Any]:
    """``theta -> Phi = sum_t Psi_t log pi(a_t | s_t)`` of row i, Psi by explicit double sum."""
    states, steps = np.asarray(traj.states)[i], [t for t in range(traj.actions.shape[1]) if traj.mask[i, t]]
    psi = [sum(case.model.gamma**h * traj.rewards[i, h] for h in steps if h >= t) for t in steps]

    def value(theta: Any) -> Any:
        table = log_pi(case.features, theta)
        return sum(w * table[states[t], traj.actions[i, t]] for w, t in zip(psi, steps, strict=True))

    return value


def log_likelihood(case: Case, traj: Trajectories, i: int) -> Callable[[Any], Any]:
    """``theta -> log p(tau; theta)`` of row i, without the terms that do not depend on theta."""
    states, steps = np.asarray(traj.states)[i], [t for t in range(traj.actions.shape[1]) if traj.mask[i, t]]

    def value(theta: Any) -> Any:
        table = log_pi(case.features, theta)
        return sum(table[states[t], traj.actions[i, t]] for t in steps)

    return value


def gradient(f: Callable[[Any], Any], theta: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
    """Gradient of a real-analytic f."""
    return np.array([np.imag(f(theta + 1j * STEP * e)) / STEP for e in np.eye(theta.size)])


def along(f: Callable[[Any], Any], theta: Float[np.ndarray, " d"], u: Float[np.ndarray, " d"]) -> np.ndarray:
    """``(hess f) u``."""

    def central(eps: float) -> np.ndarray:
        return (gradient(f, theta + eps * u) - gradient(f, theta - eps * u)) / (2 * eps)

    return (4 * central(SPACING) - central(2 * SPACING)) / 3


def hessian(f: Callable[[Any], Any], theta: Float[np.ndarray, " d"]) -> Float[np.ndarray, "d d"]:
    """Hessian of a real-analytic f."""
    return np.stack([along(f, theta, e) for e in np.eye(theta.size)], axis=1)


def size_of(case: Case) -> float:
    """A bound on the return and on how features scale its derivatives, for relative tolerances."""
    spread = 1 + float(np.abs(case.features).max()) + float(np.abs(case.theta).max())
    return (1 + float(np.abs(case.model.r_at()).max())) * case.truncation**2 * spread**4
