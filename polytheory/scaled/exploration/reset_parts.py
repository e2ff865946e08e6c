"""The formulas of PSDP and CPI in torch, with a leading replica axis where samples are; as in the reference."""

from __future__ import annotations

import torch

from polytheory._typing import Float, Int
from polytheory.scaled.exploration.coverage import q_values


def cell_means(
    s: Int[torch.Tensor, "*n m"],
    a: Int[torch.Tensor, "*n m"],
    returns: Float[torch.Tensor, "*n m"],
    n: int,
    n_actions: int,
) -> Float[torch.Tensor, "*n x A"]:
    """``(A / m) sum 1{x, a} R``: with uniform actions, unbiased for ``mu(x) Q(x, a)``."""
    cell = s * n_actions + a
    total = torch.zeros(*cell.shape[:-1], n * n_actions, dtype=returns.dtype, device=s.device)
    total.scatter_add_(-1, cell, returns)
    return (total * n_actions / cell.shape[-1]).unflatten(-1, (n, n_actions))


def restriction_gains(
    cells: Float[torch.Tensor, "*n x A"], candidates: Int[torch.Tensor, "N x"]
) -> Float[torch.Tensor, "*n N"]:
    """``sum_x cells[x, p(x)]`` of every candidate."""
    A = cells.shape[-1]
    pairs = torch.arange(candidates.shape[1], device=cells.device) * A + candidates
    return cells.flatten(-2)[..., pairs].sum(-1)


def best_restriction(cells: Float[torch.Tensor, "x A"], candidates: Int[torch.Tensor, "N x"]) -> tuple[int, float]:
    """The first candidate with the largest ``sum_x cells[x, p(x)]``, and that sum."""
    gains = restriction_gains(cells, candidates)
    k = int(torch.argmax(gains))
    return k, float(gains[k])


def population_psdp(
    P: Float[torch.Tensor, "H n A n"], r: Float[torch.Tensor, "H n A"], mu: Float[torch.Tensor, "H n"],
    actions: Int[torch.Tensor, "N H n"], errors: Float[torch.Tensor, "H n A"],
) -> tuple[Int[torch.Tensor, "H n"], Int[torch.Tensor, " H"]]:  # fmt: skip
    """PSDP with exact expectations plus ``errors`` on every cell: the actions taken, and the member of each layer."""
    H, n, _ = r.shape
    taken, chosen = torch.zeros(H, n, dtype=torch.int64), torch.zeros(H, dtype=torch.int64)
    v = torch.zeros(n, dtype=r.dtype)
    for h in reversed(range(H)):
        q = r[h] + P[h] @ v
        chosen[h], _ = best_restriction(mu[h][:, None] * q + errors[h], actions[:, h])
        taken[h] = actions[chosen[h], h]
        v = q.gather(1, taken[h][:, None])[:, 0]
    return taken, chosen


def reset_value(
    P: Float[torch.Tensor, "H n A n"], r: Float[torch.Tensor, "H n A"], mu: Float[torch.Tensor, "H n"],
    probs: Float[torch.Tensor, "H n A"],
) -> float:  # fmt: skip
    """``J_mu(pi) = (1/H) sum_h E_{x ~ mu_h} V^pi_h(x)``: what CPI climbs."""
    v = (probs * q_values(P, r, probs)).sum(2)
    return float((mu * v).sum() / len(r))


def reset_occupancy(
    P: Float[torch.Tensor, "H n A n"], mu: Float[torch.Tensor, "H n"], probs: Float[torch.Tensor, "H n A"]
) -> Float[torch.Tensor, "H n"]:
    """``d_mu,h(x) = (1/H) sum_{j <= h} P(x_h = x | x_j ~ mu_j, pi)``."""
    H = len(mu)
    d = [mu[0] / H]
    for h in range(H - 1):
        d.append(mu[h + 1] / H + torch.einsum("x,xa,xay->y", d[h], probs[h], P[h]))
    return torch.stack(d)


def class_gains(
    cells: Float[torch.Tensor, "*n H x A"], probs: Float[torch.Tensor, "*n H x A"], actions: Int[torch.Tensor, "N H x"]
) -> Float[torch.Tensor, "*n N"]:
    """``G(p) = sum_h E_{d_mu,h}[A_h(x, p(x))]`` of every member, from ``cells`` of ``d_mu,h(x) Q_h(x, a)``."""
    own = restriction_gains(cells.flatten(-3, -2), actions.flatten(1))
    return own - (probs * cells).sum((-3, -2, -1))[..., None]


def step_length(gain: float, horizon: int, advantage_bound: float) -> float:
    """``min(1, G / (2 H (H - 1) max|A|))``: the length that maximises the guaranteed rise."""
    curvature = 2 * horizon * (horizon - 1) * advantage_bound
    return 1.0 if gain >= curvature else gain / curvature


def mixed(
    probs: Float[torch.Tensor, "*n H x A"], other: Float[torch.Tensor, "*n H x A"], alpha: float | torch.Tensor
) -> Float[torch.Tensor, "*n H x A"]:
    """``(1 - alpha) pi + alpha p``, action probabilities state by state: Markov again."""
    return (1 - alpha) * probs + alpha * other


def population_cpi_step(
    P: Float[torch.Tensor, "H n A n"], r: Float[torch.Tensor, "H n A"], mu: Float[torch.Tensor, "H n"],
    probs: Float[torch.Tensor, "H n A"], actions: Int[torch.Tensor, "N H n"],
) -> tuple[Float[torch.Tensor, "H n A"], float, float]:  # fmt: skip
    """One step of CPI with exact expectations: the new mixture, the gain G and the step length alpha."""
    q = q_values(P, r, probs)
    cells = reset_occupancy(P, mu, probs)[..., None] * q
    gains = class_gains(cells, probs, actions)
    k = int(torch.argmax(gains))
    target = torch.nn.functional.one_hot(actions[k], r.shape[2]).to(r)
    advantage = (target * q).sum(2) - (probs * q).sum(2)
    gain = float(gains[k])
    alpha = step_length(gain, len(r), float(advantage.abs().max())) if gain > 0 else 0.0
    return mixed(probs, target, alpha), gain, alpha
