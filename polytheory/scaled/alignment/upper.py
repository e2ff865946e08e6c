"""The upper level in torch: value, weights ``dU / dlog pi`` and direct gradient, for ``*n`` policies at once.

Names and formulas are the reference's.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.scaled.alignment.soft import advantages, values, visits
from polytheory.trajectories import discounts


@dataclass(frozen=True, eq=False)
class Upper:
    """Fields: ``value`` [*n]; ``weights`` [*n, S, A]; ``direct`` [*n, m]."""

    value: Float[torch.Tensor, "*n"]
    weights: Float[torch.Tensor, "*n S A"]
    direct: Float[torch.Tensor, "*n m"]


def utility_upper(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], pi: Float[torch.Tensor, "*n S A"],
    r: Float[torch.Tensor, "S A"], m: int, *, gamma: float,
) -> Upper:  # fmt: skip
    """``U = E[sum gamma^h r(s_h, a_h)]``, with weights ``x pi A_u``."""
    r = r.expand_as(pi)
    A_u = advantages(P, pi, r, gamma=gamma)
    weights = visits(P, pi, mu, gamma=gamma)[..., None] * pi * A_u
    return Upper(values(P, pi, r, gamma=gamma) @ mu, weights, pi.new_zeros(*pi.shape[:-2], m))


def sigmoid(x: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """``1 / (1 + exp(-x))``."""
    return torch.sigmoid(x)


def log_sigmoid(x: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """``log sigmoid(x)``."""
    return torch.nn.functional.logsigmoid(x)


def label_likelihood(p: Float[torch.Tensor, "*n"], D: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """``p log sigma(D) + (1 - p) log sigma(-D)``."""
    return p * log_sigmoid(D) + (1 - p) * log_sigmoid(-D)


def label_residual(p: Float[torch.Tensor, "*n"], D: Float[torch.Tensor, "*n"]) -> Float[torch.Tensor, "*n"]:
    """Derivative of `label_likelihood` in D: ``p - sigma(D)``."""
    return p - sigmoid(D)


def teacher(R: Float[torch.Tensor, "*n"], other: Float[torch.Tensor, "*n"], scale: float) -> Float[torch.Tensor, "*n"]:
    """Probability that the scripted teacher prefers the segment of true return R to the other; a tie is 1/2."""
    return sigmoid(scale * (R - other))


def pair_utilities(p: Float[torch.Tensor, "*n K"], ell: Float[torch.Tensor, "*n K K"]) -> Float[torch.Tensor, "*n K"]:
    """``u_i = E_j[ell_ij + ell_ji]``."""
    return torch.einsum("...ij,...j->...i", ell + ell.mT, p)


def preference_upper(
    states: Int[torch.Tensor, "K t"], actions: Int[torch.Tensor, "K t"], mask: Bool[torch.Tensor, "K t"],
    dynamics: Float[torch.Tensor, " K"], log_pi: Float[torch.Tensor, "*n S A"], r: Float[torch.Tensor, "S A"],
    features: Float[torch.Tensor, "S A m"], nu: Float[torch.Tensor, "*n m"], *, gamma: float, scale: float,
) -> Upper:  # fmt: skip
    """Expected log-likelihood of a teacher's choices between two independent segments of the policy."""
    powers = torch.as_tensor(discounts(gamma, states.shape[1])).to(log_pi)
    powers = torch.where(mask, powers, torch.zeros_like(powers))
    log_p = torch.where(mask, log_pi[..., states, actions], torch.zeros_like(powers)).sum(-1)
    p = dynamics * log_p.exp()
    true = (powers * r[states, actions]).sum(-1)
    phi = torch.einsum("kt,ktm->km", powers, features[states, actions])
    R = torch.einsum("km,...m->...k", phi, nu)
    D = R[..., :, None] - R[..., None, :]
    first = true[:, None].expand(-1, len(true))
    p_star = teacher(first, first.mT, scale).expand_as(D)
    ell = label_likelihood(p_star, D)
    slope = p[..., :, None] * label_residual(p_star, D) * p[..., None, :]
    direct = torch.einsum("...k,km->...m", slope.sum(-1) - slope.sum(-2), phi)
    each = (p * pair_utilities(p, ell))[..., None] * mask
    cells = (states * log_pi.shape[-1] + actions).flatten().expand(*log_pi.shape[:-2], -1)
    weights = torch.zeros_like(log_pi).flatten(-2).scatter_add(-1, cells, each.flatten(-2)).view_as(log_pi)
    return Upper(torch.einsum("...i,...ij,...j->...", p, ell, p), weights, direct)
