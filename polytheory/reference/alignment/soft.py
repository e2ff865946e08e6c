"""The lower level: control with an entropy bonus, its values and its best policy.

Setting: transitions ``P`` [S, A, S] whose rows may sum to less than 1 (what is missing ends the episode), rewards ``r``
[S, A], starts ``mu`` [S], ``0 <= gamma < 1``, entropy weight ``tau > 0``. The objective is
``V(mu) = E[sum_h gamma^h (r(s_h, a_h) - tau log pi(a_h | s_h))]``.
"""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float


def smooth_max(q: Float[np.ndarray, "S A"], tau: float) -> Float[np.ndarray, " S"]:
    """``tau log sum_a exp(q(s, a) / tau)``: the largest expected q plus entropy."""
    top = q.max(axis=-1)
    return top + tau * np.log(np.exp((q - top[..., None]) / tau).sum(axis=-1))


def soft_policy(q: Float[np.ndarray, "S A"], tau: float) -> Float[np.ndarray, "S A"]:
    """The policy that attains `smooth_max`: proportional to ``exp(q / tau)``."""
    weights = np.exp((q - q.max(axis=-1, keepdims=True)) / tau)
    return weights / weights.sum(axis=-1, keepdims=True)


def one_step(
    P: Float[np.ndarray, "S A S"], r: Float[np.ndarray, "S A *m"], v: Float[np.ndarray, "S *m"], *, gamma: float
) -> Float[np.ndarray, "S A *m"]:
    """Action values ``r + gamma P v``; rewards may be vectors [m]."""
    return r + gamma * np.tensordot(P, v, axes=1)


def kernel_of(P: Float[np.ndarray, "S A S"], pi: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S S"]:
    """Transitions of the states under a policy."""
    return np.einsum("sa,sat->st", pi, P)


def values(
    P: Float[np.ndarray, "S A S"], pi: Float[np.ndarray, "S A"], r: Float[np.ndarray, "S A *m"], *, gamma: float
) -> Float[np.ndarray, "S *m"]:
    """Discounted return of a policy from every state, by one linear solve; rewards may be vectors [m]."""
    r_pi = np.einsum("sa,sa...->s...", pi, r)
    return np.linalg.solve(np.eye(len(P)) - gamma * kernel_of(P, pi), r_pi)


def advantages(
    P: Float[np.ndarray, "S A S"], pi: Float[np.ndarray, "S A"], r: Float[np.ndarray, "S A"], *, gamma: float
) -> Float[np.ndarray, "S A"]:
    """``Q - V`` of a policy for the rewards ``r``."""
    v = values(P, pi, r, gamma=gamma)
    return one_step(P, r, v, gamma=gamma) - v[:, None]


def feature_advantages(
    P: Float[np.ndarray, "S A S"], pi: Float[np.ndarray, "S A"], features: Float[np.ndarray, "S A m"], *, gamma: float
) -> Float[np.ndarray, "S A m"]:
    """``A_f``: the advantages of a policy for each feature as reward."""
    v = values(P, pi, features, gamma=gamma)
    return one_step(P, features, v, gamma=gamma) - v[:, None]


def visits(
    P: Float[np.ndarray, "S A S"], pi: Float[np.ndarray, "S A"], mu: Float[np.ndarray, " S"], *, gamma: float
) -> Float[np.ndarray, " S"]:
    """``x(s) = sum_h gamma^h Pr(s_h = s)``: sums to ``1 / (1 - gamma)`` where episodes do not end."""
    return np.linalg.solve(np.eye(len(P)) - gamma * kernel_of(P, pi).T, mu)


def log_policy(theta: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """Log-probabilities of the softmax of logits."""
    shifted = theta - theta.max(axis=-1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))


def with_entropy(r: Float[np.ndarray, "S A"], log_pi: Float[np.ndarray, "S A"], tau: float) -> Float[np.ndarray, "S A"]:
    """``r - tau log pi``: the reward whose return is the regularised objective."""
    return r - tau * log_pi


def soft_sweep(
    P: Float[np.ndarray, "S A S"],
    r: Float[np.ndarray, "S A"],
    theta: Float[np.ndarray, "S A"],
    *,
    gamma: float,
    tau: float,
) -> tuple[Float[np.ndarray, "S A"], float, float]:
    """One step of soft policy iteration on logits.

    Update: evaluate the policy, ``theta <- (r + gamma P V) / tau``: Newton's method for the regularised Bellman equation
    [geist2019, section 4].

    Returns:
        The new logits; a bound on how much the *old* policy loses in any state, ``max (T V - V) / (1 - gamma)``; and the
        largest ``|V|``.
    """
    log_pi = log_policy(theta)
    v = values(P, np.exp(log_pi), with_entropy(r, log_pi, tau), gamma=gamma)
    q = one_step(P, r, v, gamma=gamma)
    gap = np.max(np.abs(smooth_max(q, tau) - v)) / (1 - gamma)
    return q / tau, float(gap), float(np.max(np.abs(v)))
