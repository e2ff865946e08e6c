"""Derivatives of the bilevel problem in torch: Hessian-vector products by automatic differentiation, solves by conjugate
gradients. No matrix over parameters is formed; names and meanings are those of the reference, for ``*n`` policies at once.
"""

from __future__ import annotations

import torch

from polytheory._typing import Float
from polytheory.scaled.alignment.conjugate import conjugate_gradients
from polytheory.scaled.alignment.soft import log_policy, values, visits, with_entropy


def lower_value(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], r: Float[torch.Tensor, "*n S A"],
    theta: Float[torch.Tensor, "*n S A"], *, gamma: float, tau: float,
) -> Float[torch.Tensor, "*n"]:  # fmt: skip
    """The regularised return from the start, differentiable in logits and rewards."""
    log_pi = log_policy(theta)
    return values(P, log_pi.exp(), with_entropy(r, log_pi, tau), gamma=gamma) @ mu


def lower_slope(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], r: Float[torch.Tensor, "*n S A"],
    theta: Float[torch.Tensor, "*n S A"], *, gamma: float, tau: float,
) -> Float[torch.Tensor, "*n S A"]:  # fmt: skip
    """``grad V`` by back-propagation through the linear solve."""
    theta = theta.detach().requires_grad_()
    return torch.autograd.grad(lower_value(P, mu, r, theta, gamma=gamma, tau=tau).sum(), theta)[0]


def curvature_product(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], r: Float[torch.Tensor, "*n S A"],
    theta: Float[torch.Tensor, "*n S A"], u: Float[torch.Tensor, "*n S A"], *, gamma: float, tau: float,
) -> Float[torch.Tensor, "*n S A"]:  # fmt: skip
    """``(hess V) u`` by back-propagating twice."""
    theta = theta.detach().requires_grad_()
    value = lower_value(P, mu, r, theta, gamma=gamma, tau=tau).sum()
    slope = torch.autograd.grad(value, theta, create_graph=True)[0]
    return torch.autograd.grad((slope * u).sum(), theta)[0]


def fisher_product(
    x: Float[torch.Tensor, "*n S"], pi: Float[torch.Tensor, "*n S A"], u: Float[torch.Tensor, "*n S A"]
) -> Float[torch.Tensor, "*n S A"]:
    """``F_x u``: in every state visits times the covariance of the actions times u."""
    return x[..., None] * pi * (u - (pi * u).sum(-1, keepdim=True))


def mixed_pullback(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], features: Float[torch.Tensor, "S A m"],
    theta: Float[torch.Tensor, "*n S A"], u: Float[torch.Tensor, "*n S A"], *, gamma: float,
) -> Float[torch.Tensor, "*n m"]:  # fmt: skip
    """``M^T u`` as the derivative in the reward of the slope along u: V is linear in r, so that r = 0 will do."""
    theta = theta.detach().requires_grad_()
    r = torch.zeros_like(theta).requires_grad_()
    pi = torch.softmax(theta, dim=-1)
    value = (values(P, pi, r, gamma=gamma) @ mu).sum()
    slope = torch.autograd.grad(value, theta, create_graph=True)[0]
    by_reward = torch.autograd.grad((slope * u).sum(), r)[0]
    return torch.einsum("...sa,sam->...m", by_reward, features)


def upper_gradient(
    W: Float[torch.Tensor, "*n S A"], pi: Float[torch.Tensor, "*n S A"]
) -> Float[torch.Tensor, "*n S A"]:
    """``U' = sum W z``."""
    return W - pi * W.sum(-1, keepdim=True)


def log_policy_sensitivity(A_f: Float[torch.Tensor, "*n S A m"], tau: float) -> Float[torch.Tensor, "*n S A m"]:
    """``d log pi*(a | s) / d nu = A_f(s, a) / tau``."""
    return A_f / tau


def closed_term(
    W: Float[torch.Tensor, "*n S A"], A_f: Float[torch.Tensor, "*n S A m"], tau: float
) -> Float[torch.Tensor, "*n m"]:
    """T1 at the optimum: ``sum_{s,a} W(s, a) d log pi*(a | s) / d nu``."""
    return torch.einsum("...sa,...sam->...m", W, log_policy_sensitivity(A_f, tau))


def implicit_term(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], r: Float[torch.Tensor, "*n S A"],
    features: Float[torch.Tensor, "S A m"], theta: Float[torch.Tensor, "*n S A"], b: Float[torch.Tensor, "*n S A"], *,
    gamma: float, tau: float,
) -> Float[torch.Tensor, "*n m"]:  # fmt: skip
    """T1 by the implicit function theorem: conjugate gradients on ``-(hess V)``, at any logits where that is definite."""

    def apply(p: Float[torch.Tensor, "*n d"]) -> Float[torch.Tensor, "*n d"]:
        return -curvature_product(P, mu, r, theta, p.view_as(b), gamma=gamma, tau=tau).flatten(-2)

    z = conjugate_gradients(apply, b.flatten(-2), steps=2 * b.shape[-1] * b.shape[-2])
    return mixed_pullback(P, mu, features, theta, z.view_as(b), gamma=gamma)


def fisher_term(
    P: Float[torch.Tensor, "S A S"], mu: Float[torch.Tensor, " S"], features: Float[torch.Tensor, "S A m"],
    theta: Float[torch.Tensor, "*n S A"], b: Float[torch.Tensor, "*n S A"], *, gamma: float, tau: float,
) -> Float[torch.Tensor, "*n m"]:  # fmt: skip
    """T1 at the optimum by one solve with the Fisher matrix: ``M^T w / tau``, ``F_x w = b``."""
    pi = torch.softmax(theta, dim=-1)
    x = visits(P, pi, mu, gamma=gamma)

    def apply(p: Float[torch.Tensor, "*n d"]) -> Float[torch.Tensor, "*n d"]:
        return fisher_product(x, pi, p.view_as(b)).flatten(-2)

    w = conjugate_gradients(apply, b.flatten(-2), steps=2 * b.shape[-1] * b.shape[-2])
    return mixed_pullback(P, mu, features, theta, w.view_as(b), gamma=gamma) / tau
