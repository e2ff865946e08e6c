"""How the lower level's optimum moves with the reward, and what that does to the upper level.

With logits theta [S, A], scores z(s, a) in all logits, visits x and ``U`` the upper level's value of a policy::

    U' = sum_{s,a} W(s, a) z(s, a)                      W = dU / dlog pi (the upper level's weights)
    d theta* / d nu = -(hess V)^+ M,                    M = d^2 V / dtheta dnu = sum x pi z A_f^T
    T1 = M^T (-hess V)^+ U'                             the distribution term of the hypergradient

At the optimum ``hess V = -tau F_x`` with ``F_x = sum x pi z z^T``, and then ``d log pi* / d nu = A_f / tau``, so that
``T1 = sum W A_f / tau`` needs no solve at all. ``A_f`` [S, A, m] are the advantages for the features as rewards. Full softmax
logits have a null direction in every state: inverses are pseudo-inverses.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Float
from polytheory.reference.alignment.soft import (
    advantages,
    feature_advantages,
    log_policy,
    one_step,
    values,
    visits,
    with_entropy,
)

RANK_TOL = 1e-12  # eigenvalues below this part of the largest are the null directions of a softmax


@dataclass(frozen=True, eq=False)
class Lower:
    """The lower objective at some logits. Fields: ``value``; ``gradient`` [S, A]; ``hessian`` [S A, S A]."""

    value: float
    gradient: Float[np.ndarray, "S A"]
    hessian: Float[np.ndarray, "d d"]


def scores_of(pi: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A d"]:
    """``grad log pi(a | s)`` in all logits, d = S A with the action fastest."""
    S, A = pi.shape
    own = np.eye(A)[None] - pi[:, None, :]
    return np.einsum("sab,st->satb", own, np.eye(S)).reshape(S, A, S * A)


def lower_derivatives(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], r: Float[np.ndarray, "S A"], theta: Float[np.ndarray, "S A"],
    *, gamma: float, tau: float,
) -> Lower:  # fmt: skip
    """Value, gradient and Hessian of the regularised return at any logits.

    ``hess V = sum x pi ((z z^T + hess log pi) q - tau z z^T + z g^T + g z^T)`` with ``q = r - tau log pi + gamma P V`` and
    ``g = gamma P grad V`` [furmston2016, Thm. 3, with the entropy's own term].
    """
    log_pi = log_policy(theta)
    pi = np.exp(log_pi)
    z, rho = scores_of(pi), with_entropy(r, log_pi, tau)
    v = values(P, pi, rho, gamma=gamma)
    q = one_step(P, rho, v, gamma=gamma)
    dv = values(P, pi, z * q[..., None], gamma=gamma)
    g = one_step(P, np.zeros_like(z), dv, gamma=gamma)
    w = visits(P, pi, mu, gamma=gamma)[:, None] * pi
    bent = np.einsum("sa,sad,sae->de", w * (q - tau), z, z)
    curvature = -np.einsum("sa,sad,sae->sde", pi, z, z)  # hess log pi, the same for every action
    curved = np.einsum("sa,sde->de", w * q, curvature)
    cross = np.einsum("sa,sad,sae->de", w, z, g)
    return Lower(float(mu @ v), (mu @ dv).reshape(theta.shape), bent + curved + cross + cross.T)


def lower_slope(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], r: Float[np.ndarray, "S A"], theta: Float[np.ndarray, "S A"],
    *, gamma: float, tau: float,
) -> Float[np.ndarray, "S A"]:  # fmt: skip
    """``grad V`` alone: ``x pi A`` with the advantages of ``r - tau log pi``."""
    log_pi = log_policy(theta)
    pi = np.exp(log_pi)
    A = advantages(P, pi, with_entropy(r, log_pi, tau), gamma=gamma)
    return visits(P, pi, mu, gamma=gamma)[:, None] * pi * A


def curvature_product(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], r: Float[np.ndarray, "S A"], theta: Float[np.ndarray, "S A"],
    u: Float[np.ndarray, "S A"], *, gamma: float, tau: float,
) -> Float[np.ndarray, "S A"]:  # fmt: skip
    """``(hess V) u``."""
    H = lower_derivatives(P, mu, r, theta, gamma=gamma, tau=tau).hessian
    return (H @ u.ravel()).reshape(u.shape)


def fisher_product(
    x: Float[np.ndarray, " S"], pi: Float[np.ndarray, "S A"], u: Float[np.ndarray, "S A"]
) -> Float[np.ndarray, "S A"]:
    """``F_x u``: in every state visits times the covariance of the actions times u."""
    return x[:, None] * pi * (u - np.sum(pi * u, axis=-1, keepdims=True))


def mixed_pullback(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], features: Float[np.ndarray, "S A m"],
    theta: Float[np.ndarray, "S A"], u: Float[np.ndarray, "S A"], *, gamma: float,
) -> Float[np.ndarray, " m"]:  # fmt: skip
    """``M^T u = sum x pi A_f (z . u)``."""
    pi = np.exp(log_policy(theta))
    along = u - np.sum(pi * u, axis=-1, keepdims=True)
    A_f, x = feature_advantages(P, pi, features, gamma=gamma), visits(P, pi, mu, gamma=gamma)
    return np.einsum("s,sa,sa,sam->m", x, pi, along, A_f)


def upper_gradient(W: Float[np.ndarray, "S A"], pi: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """``U' = sum W z``."""
    return W - pi * W.sum(axis=-1, keepdims=True)


def log_policy_sensitivity(A_f: Float[np.ndarray, "S A m"], tau: float) -> Float[np.ndarray, "S A m"]:
    """``d log pi*(a | s) / d nu = A_f(s, a) / tau``."""
    return A_f / tau


def closed_term(W: Float[np.ndarray, "S A"], A_f: Float[np.ndarray, "S A m"], tau: float) -> Float[np.ndarray, " m"]:
    """T1 at the optimum: ``sum_{s,a} W(s, a) d log pi*(a | s) / d nu``."""
    return np.einsum("sa,sam->m", W, log_policy_sensitivity(A_f, tau))


def implicit_term(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], r: Float[np.ndarray, "S A"],
    features: Float[np.ndarray, "S A m"], theta: Float[np.ndarray, "S A"], b: Float[np.ndarray, "S A"], *, gamma: float,
    tau: float,
) -> Float[np.ndarray, " m"]:  # fmt: skip
    """T1 by the implicit function theorem, ``M^T (-hess V)^+ b``, at any logits."""
    H = lower_derivatives(P, mu, r, theta, gamma=gamma, tau=tau).hessian
    z = -(pseudo_inverse(H) @ b.ravel()).reshape(b.shape)
    return mixed_pullback(P, mu, features, theta, z, gamma=gamma)


def fisher_term(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], features: Float[np.ndarray, "S A m"],
    theta: Float[np.ndarray, "S A"], b: Float[np.ndarray, "S A"], *, gamma: float, tau: float,
) -> Float[np.ndarray, " m"]:  # fmt: skip
    """T1 at the optimum by one solve: ``M^T w / tau`` with ``F_x w = b``."""
    pi = np.exp(log_policy(theta))
    z, x = scores_of(pi), visits(P, pi, mu, gamma=gamma)
    F = np.einsum("s,sa,sad,sae->de", x, pi, z, z)
    w = (pseudo_inverse(F) @ b.ravel()).reshape(b.shape)
    return mixed_pullback(P, mu, features, theta, w, gamma=gamma) / tau


def pseudo_inverse(K: Float[np.ndarray, "d d"]) -> Float[np.ndarray, "d d"]:
    """Inverse of a symmetric matrix on its range."""
    w, E = np.linalg.eigh((K + K.T) / 2)
    keep = np.abs(w) > RANK_TOL * np.abs(w).max(initial=0.0)
    return (E[:, keep] / w[keep]) @ E[:, keep].T
