"""The formulas of PSDP and CPI, one function each, and both methods with exact expectations.

Arrays by layer as in `coverage`; ``cells`` hold ``mu_h(x) Q_h(x, a)`` or an estimate of it.
"""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float, Int
from polytheory.reference.exploration.coverage import q_values


def cell_means(
    s: Int[np.ndarray, " m"], a: Int[np.ndarray, " m"], returns: Float[np.ndarray, " m"], n: int, n_actions: int
) -> Float[np.ndarray, "n A"]:
    """``(A / m) sum 1{x, a} R``: with uniform actions, unbiased for ``mu(x) Q(x, a)``."""
    total = np.bincount(s * n_actions + a, weights=returns, minlength=n * n_actions)
    return (total * n_actions / len(s)).reshape(n, n_actions)


def best_restriction(cells: Float[np.ndarray, "n A"], candidates: Int[np.ndarray, "N n"]) -> tuple[int, float]:
    """The first candidate with the largest ``sum_x cells[x, p(x)]``, and that sum."""
    gains = cells[np.arange(len(cells)), candidates].sum(axis=1)
    k = int(np.argmax(gains))
    return k, float(gains[k])


def population_psdp(
    P: Float[np.ndarray, "H n A n"],
    r: Float[np.ndarray, "H n A"],
    mu: Float[np.ndarray, "H n"],
    actions: Int[np.ndarray, "N H n"],
    errors: Float[np.ndarray, "H n A"],
) -> tuple[Int[np.ndarray, "H n"], Int[np.ndarray, " H"]]:
    """PSDP with exact expectations plus ``errors`` on every cell: the actions taken, and the member of each layer."""
    H, n, _ = r.shape
    taken, chosen, v = np.zeros((H, n), dtype=np.int64), np.zeros(H, dtype=np.int64), np.zeros(n)
    for h in reversed(range(H)):
        q = r[h] + P[h] @ v
        chosen[h], _ = best_restriction(mu[h][:, None] * q + errors[h], actions[:, h])
        taken[h] = actions[chosen[h], h]
        v = q[np.arange(n), taken[h]]
    return taken, chosen


def reset_value(
    P: Float[np.ndarray, "H n A n"], r: Float[np.ndarray, "H n A"], mu: Float[np.ndarray, "H n"],
    probs: Float[np.ndarray, "H n A"],
) -> float:  # fmt: skip
    """``J_mu(pi) = (1/H) sum_h E_{x ~ mu_h} V^pi_h(x)``: what CPI climbs."""
    v = (probs * q_values(P, r, probs)).sum(axis=2)
    return float((mu * v).sum() / len(r))


def reset_occupancy(
    P: Float[np.ndarray, "H n A n"], mu: Float[np.ndarray, "H n"], probs: Float[np.ndarray, "H n A"]
) -> Float[np.ndarray, "H n"]:
    """``d_mu,h(x) = (1/H) sum_{j <= h} P(x_h = x | x_j ~ mu_j, pi)``: mass h / H at the h-th layer (fewer if episodes end)."""
    H = len(mu)
    d = np.zeros_like(mu)
    d[0] = mu[0] / H
    for h in range(H - 1):
        d[h + 1] = mu[h + 1] / H + np.einsum("x,xa,xay->y", d[h], probs[h], P[h])
    return d


def class_gains(
    cells: Float[np.ndarray, "H n A"], probs: Float[np.ndarray, "H n A"], actions: Int[np.ndarray, "N H n"]
) -> Float[np.ndarray, " N"]:
    """``G(p) = sum_h E_{d_mu,h}[A_h(x, p(x))]`` of every member, from ``cells`` [H, n, A] of ``d_mu,h(x) Q_h(x, a)``."""
    H, n, _ = cells.shape
    own = cells[np.arange(H)[:, None], np.arange(n), actions].sum(axis=(1, 2))
    return own - (probs * cells).sum()


def step_length(gain: float, horizon: int, advantage_bound: float) -> float:
    """``min(1, G / (2 H (H - 1) max|A|))``: the length that maximises the guaranteed rise."""
    curvature = 2 * horizon * (horizon - 1) * advantage_bound
    return 1.0 if gain >= curvature else gain / curvature


def mixed(
    probs: Float[np.ndarray, "H n A"], other: Float[np.ndarray, "H n A"], alpha: float
) -> Float[np.ndarray, "H n A"]:
    """``(1 - alpha) pi + alpha p``, action probabilities state by state: Markov again."""
    return (1 - alpha) * probs + alpha * other


def population_cpi_step(
    P: Float[np.ndarray, "H n A n"], r: Float[np.ndarray, "H n A"], mu: Float[np.ndarray, "H n"],
    probs: Float[np.ndarray, "H n A"], actions: Int[np.ndarray, "N H n"],
) -> tuple[Float[np.ndarray, "H n A"], float, float]:  # fmt: skip
    """One step of CPI with exact expectations: the new mixture, the gain G and the step length alpha."""
    q = q_values(P, r, probs)
    cells = reset_occupancy(P, mu, probs)[..., None] * q
    gains = class_gains(cells, probs, actions)
    k = int(np.argmax(gains))
    target = np.eye(r.shape[2])[actions[k]]
    advantage = (target * q).sum(axis=2) - (probs * q).sum(axis=2)
    bound = float(np.max(np.abs(advantage)))
    gain = float(gains[k])
    alpha = step_length(gain, len(r), bound) if gain > 0 else 0.0
    return mixed(probs, target, alpha), gain, alpha
