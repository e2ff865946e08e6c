"""The lower level in torch, for any number of policies at once: leading axes ``*n`` of logits and policies.

Formulas and names are those of the reference: control with an entropy bonus, ``P`` [S, A, S] with rows that may sum to less
than 1 (what is missing ends the episode). Everything is differentiable.
"""

from __future__ import annotations

import torch

from polytheory._typing import Float


def smooth_max(q: Float[torch.Tensor, "*n S A"], tau: float) -> Float[torch.Tensor, "*n S"]:
    """``tau log sum_a exp(q(s, a) / tau)``."""
    return tau * torch.logsumexp(q / tau, dim=-1)


def soft_policy(q: Float[torch.Tensor, "*n S A"], tau: float) -> Float[torch.Tensor, "*n S A"]:
    """The policy that attains `smooth_max`."""
    return torch.softmax(q / tau, dim=-1)


def one_step(
    P: Float[torch.Tensor, "S A S"], r: Float[torch.Tensor, "*n S A"], v: Float[torch.Tensor, "*n S"], *, gamma: float
) -> Float[torch.Tensor, "*n S A"]:
    """Action values ``r + gamma P v``."""
    return r + gamma * torch.einsum("sat,...t->...sa", P, v)


def kernel_of(P: Float[torch.Tensor, "S A S"], pi: Float[torch.Tensor, "*n S A"]) -> Float[torch.Tensor, "*n S S"]:
    """Transitions of the states under a policy."""
    return torch.einsum("...sa,sat->...st", pi, P)


def system(P: Float[torch.Tensor, "S A S"], pi: Float[torch.Tensor, "*n S A"], gamma: float) -> torch.Tensor:
    """``I - gamma P_pi`` [*n, S, S]."""
    return torch.eye(len(P), dtype=P.dtype, device=P.device) - gamma * kernel_of(P, pi)


def values(
    P: Float[torch.Tensor, "S A S"],
    pi: Float[torch.Tensor, "*n S A"],
    r: Float[torch.Tensor, "*n S A"],
    *,
    gamma: float,
) -> Float[torch.Tensor, "*n S"]:
    """Discounted return of a policy from every state, by one linear solve."""
    return torch.linalg.solve(system(P, pi, gamma), (pi * r).sum(-1)[..., None])[..., 0]


def advantages(
    P: Float[torch.Tensor, "S A S"],
    pi: Float[torch.Tensor, "*n S A"],
    r: Float[torch.Tensor, "*n S A"],
    *,
    gamma: float,
) -> Float[torch.Tensor, "*n S A"]:
    """``Q - V`` of a policy for the rewards ``r``."""
    v = values(P, pi, r, gamma=gamma)
    return one_step(P, r, v, gamma=gamma) - v[..., None]


def feature_advantages(
    P: Float[torch.Tensor, "S A S"],
    pi: Float[torch.Tensor, "*n S A"],
    features: Float[torch.Tensor, "S A m"],
    *,
    gamma: float,
) -> Float[torch.Tensor, "*n S A m"]:
    """``A_f``: the advantages of a policy for each feature as reward; features are shared by all policies."""
    v = torch.linalg.solve(system(P, pi, gamma), torch.einsum("...sa,sam->...sm", pi, features))
    return features + gamma * torch.einsum("sat,...tm->...sam", P, v) - v[..., None, :]


def visits(
    P: Float[torch.Tensor, "S A S"], pi: Float[torch.Tensor, "*n S A"], mu: Float[torch.Tensor, " S"], *, gamma: float
) -> Float[torch.Tensor, "*n S"]:
    """``x(s) = sum_h gamma^h Pr(s_h = s)``."""
    transposed = system(P, pi, gamma).mT
    return torch.linalg.solve(transposed, mu.expand(transposed.shape[:-1])[..., None])[..., 0]


def log_policy(theta: Float[torch.Tensor, "*n S A"]) -> Float[torch.Tensor, "*n S A"]:
    """Log-probabilities of the softmax of logits."""
    return torch.log_softmax(theta, dim=-1)


def with_entropy(
    r: Float[torch.Tensor, "*n S A"], log_pi: Float[torch.Tensor, "*n S A"], tau: float
) -> Float[torch.Tensor, "*n S A"]:
    """``r - tau log pi``: the reward whose return is the regularised objective."""
    return r - tau * log_pi


def soft_sweep(
    P: Float[torch.Tensor, "S A S"], r: Float[torch.Tensor, "*n S A"], theta: Float[torch.Tensor, "*n S A"], *, gamma: float,
    tau: float,
) -> tuple[Float[torch.Tensor, "*n S A"], Float[torch.Tensor, "*n"], Float[torch.Tensor, "*n"]]:  # fmt: skip
    """One step of soft policy iteration on logits; new logits, bound on the old policy's loss, and the largest ``|V|``."""
    log_pi = log_policy(theta)
    v = values(P, log_pi.exp(), with_entropy(r, log_pi, tau), gamma=gamma)
    q = one_step(P, r, v, gamma=gamma)
    gap = (smooth_max(q, tau) - v).abs().amax(-1) / (1 - gamma)
    return q / tau, gap, v.abs().amax(-1)
