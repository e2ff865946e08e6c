"""What the upper level wants: the true return, or that a teacher's choices between segments be likely.

An upper level is known by its value, its weights ``W = dU / dlog pi`` [S, A] (what reaches nu through the data), and its
own gradient in nu (what reaches it directly).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from polytheory._typing import Bool, Float, Int
from polytheory.reference.alignment.soft import advantages, values, visits
from polytheory.trajectories import discounts


@dataclass(frozen=True, eq=False)
class Upper:
    """Fields: ``value``; ``weights`` [S, A]; ``direct`` [m]."""

    value: float
    weights: Float[np.ndarray, "S A"]
    direct: Float[np.ndarray, " m"]


def utility_upper(
    P: Float[np.ndarray, "S A S"], mu: Float[np.ndarray, " S"], pi: Float[np.ndarray, "S A"], r: Float[np.ndarray, "S A"],
    m: int, *, gamma: float,
) -> Upper:  # fmt: skip
    """``U = E[sum gamma^h r(s_h, a_h)]``, with weights ``x pi A_u``."""
    A_u = advantages(P, pi, r, gamma=gamma)
    weights = visits(P, pi, mu, gamma=gamma)[:, None] * pi * A_u
    return Upper(float(mu @ values(P, pi, r, gamma=gamma)), weights, np.zeros(m))


def path_sums(
    states: Int[np.ndarray, "n t"], actions: Int[np.ndarray, "n t"], mask: Bool[np.ndarray, "n t"],
    x: Float[np.ndarray, "S A *m"], weights: Float[np.ndarray, " t"],
) -> Float[np.ndarray, "n *m"]:  # fmt: skip
    """``sum_h weights_h x(s_h, a_h)`` along every path."""
    return np.einsum("nt,nt...->n...", np.where(mask, weights, 0.0), x[states, actions])


def sigmoid(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """``1 / (1 + exp(-x))`` without overflow."""
    e = np.exp(-np.abs(x))
    return np.where(x >= 0, 1.0, e) / (1.0 + e)


def log_sigmoid(x: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """``log sigmoid(x)`` without overflow."""
    return np.minimum(x, 0.0) - np.log1p(np.exp(-np.abs(x)))


def label_likelihood(p: Float[np.ndarray, "*n"], D: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """``p log sigma(D) + (1 - p) log sigma(-D)``: expected log-likelihood of a choice made with probability p [bradley1952]."""
    return p * log_sigmoid(D) + (1 - p) * log_sigmoid(-D)


def label_residual(p: Float[np.ndarray, "*n"], D: Float[np.ndarray, "*n"]) -> Float[np.ndarray, "*n"]:
    """Derivative of `label_likelihood` in D: ``p - sigma(D)``."""
    return p - sigmoid(D)


def teacher(R: Float[np.ndarray, "*n"], other: Float[np.ndarray, "*m"], scale: float) -> Float[np.ndarray, "*k"]:
    """Probability that the scripted teacher prefers the segment of true return R to the other (1/2 for a tie). Broadcasts."""
    return sigmoid(scale * (R - other))


def pair_utilities(p: Float[np.ndarray, " n"], ell: Float[np.ndarray, "n n"]) -> Float[np.ndarray, " n"]:
    """``u_i = E_j[ell_ij + ell_ji]``: what a path adds to the value as one of the two."""
    return (ell + ell.T) @ p


def path_weights(
    states: Int[np.ndarray, "n t"], actions: Int[np.ndarray, "n t"], mask: Bool[np.ndarray, "n t"],
    u: Float[np.ndarray, " n"], shape: tuple[int, int],
) -> Float[np.ndarray, "S A"]:  # fmt: skip
    """Weights W of ``sum_i u_i sum_h log pi(a_h | s_h)``."""
    out = np.zeros(shape)
    np.add.at(out, (states[mask], actions[mask]), np.broadcast_to(u[:, None], mask.shape)[mask])
    return out


def preference_upper(
    states: Int[np.ndarray, "n t"], actions: Int[np.ndarray, "n t"], mask: Bool[np.ndarray, "n t"],
    dynamics: Float[np.ndarray, " n"], log_pi: Float[np.ndarray, "S A"], r: Float[np.ndarray, "S A"],
    features: Float[np.ndarray, "S A m"], nu: Float[np.ndarray, " m"], *, gamma: float, scale: float,
) -> Upper:  # fmt: skip
    """Expected log-likelihood of a teacher's choices between two independent segments of the policy.

    ``U = E[p* log sigma(D) + (1 - p*) log sigma(-D)]``, ``D = R_nu(tau_0) - R_nu(tau_1)`` discounted designed returns, pairs
    of the same segment included. ``direct`` is the usual gradient of a reward model: ``E[(p* - sigma(D)) grad D]``.
    """
    where = (states, actions, mask)
    powers = discounts(gamma, states.shape[1])
    p = dynamics * np.exp(path_sums(*where, log_pi, np.ones(states.shape[1])))
    true, phi = path_sums(*where, r, powers), path_sums(*where, features, powers)
    D = (phi @ nu)[:, None] - (phi @ nu)[None]
    p_star = teacher(true[:, None], true[None], scale)
    ell = label_likelihood(p_star, D)
    slope = p[:, None] * label_residual(p_star, D) * p[None]
    direct = (slope.sum(axis=1) - slope.sum(axis=0)) @ phi
    weights = path_weights(*where, p * pair_utilities(p, ell), (log_pi.shape[0], log_pi.shape[1]))
    return Upper(float(p @ ell @ p), weights, direct)
