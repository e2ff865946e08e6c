"""Reward design for language models in torch: losses for a reward network, from groups of completions.

The hypergradient's distribution term is a covariance at the optimum of ``E[r_nu] - beta KL(pi || pi_ref)`` (see the reference).
Here it is the gradient of a loss in the reward scores, so that any reward network will do: no Hessian, no gradient of the
policy. `group_covariance`, `pair_covariance` and `pair_direct` are those losses differentiated for a linear reward.
Losses are to be *descended*: they are minus what the upper level gains.
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.scaled.alignment.conjugate import conjugate_gradients
from polytheory.scaled.alignment.upper import label_likelihood, label_residual


def tilted_law(
    log_ref: Float[torch.Tensor, "X K"], r: Float[torch.Tensor, "X K"], beta: float
) -> Float[torch.Tensor, "X K"]:
    """The optimum of ``E[r] - beta KL(pi || pi_ref)`` for every prompt."""
    return torch.softmax(log_ref + r / beta, dim=-1)


def centred(pi: Float[torch.Tensor, "X K"], g: Float[torch.Tensor, "X K m"]) -> Float[torch.Tensor, "X K m"]:
    """``g`` less its mean under the policy: beta times ``d log pi* / d nu``."""
    return g - torch.einsum("xk,xkm->xm", pi, g)[:, None]


def utility_gradient(
    rho: Float[torch.Tensor, " X"], pi: Float[torch.Tensor, "X K"], u: Float[torch.Tensor, "X K"],
    g: Float[torch.Tensor, "X K m"], beta: float,
) -> Float[torch.Tensor, " m"]:  # fmt: skip
    """Exact T1 of ``E_x E_pi u``: the covariance over beta."""
    return torch.einsum("x,xk,xk,xkm->m", rho, pi, u, centred(pi, g)) / beta


def preference_gradient(
    rho: Float[torch.Tensor, " X"], pi: Float[torch.Tensor, "X K"], p_star: Float[torch.Tensor, "X K K"],
    r: Float[torch.Tensor, "X K"], g: Float[torch.Tensor, "X K m"], beta: float,
) -> tuple[Float[torch.Tensor, ""], Float[torch.Tensor, " m"], Float[torch.Tensor, " m"]]:  # fmt: skip
    """Value, T1 and T2 of the likelihood of choices between two independent completions of a prompt."""
    D = r[:, :, None] - r[:, None, :]
    ell = label_likelihood(p_star, D)
    pairs = rho[:, None, None] * pi[:, :, None] * pi[:, None, :]
    c = centred(pi, g)
    T1 = torch.einsum("xij,xijm->m", pairs * ell, c[:, :, None] + c[:, None]) / beta
    T2 = torch.einsum("xij,xijm->m", pairs * label_residual(p_star, D), g[:, :, None] - g[:, None])
    return (pairs * ell).sum(), T1, T2


def utility_loss(
    scores: Float[torch.Tensor, "B N"], u: Float[torch.Tensor, "B N"], beta: float
) -> Float[torch.Tensor, " B"]:
    """A loss for each group whose gradient is minus its unbiased T1.

    Args:
        scores: ``r_nu`` of N independent completions of each of B prompts, with gradient.
        u: their utilities (true reward, a judge), in any unit; no gradient goes through them.
        beta: weight of the KL term in the lower level, > 0.

    Raises `SettingError` for groups of one.
    """
    N = scores.shape[1]
    check_group(N, 2)
    u = u.detach()
    return -((u - u.mean(1, keepdim=True)) * scores).sum(1) / ((N - 1) * beta)


def pair_response_loss(
    scores: Float[torch.Tensor, "B N"], ell: Float[torch.Tensor, "B N N"], beta: float
) -> Float[torch.Tensor, " B"]:
    """A loss for each group whose gradient is minus the T1 of all its pairs i != j, with utilities ``ell`` of pairs.

    A constant may be subtracted from ``ell``. Raises `SettingError` for groups of less than three.
    """
    N = scores.shape[1]
    check_group(N, 3)
    off = ell.detach() * (1 - torch.eye(N).to(ell))
    both = scores[:, :, None] + scores[:, None, :]
    others = (scores.sum(1)[:, None, None] - both) / (N - 2)
    return -(off * (both - 2 * others)).sum((1, 2)) / (N * (N - 1) * beta)


def bradley_terry_loss(
    scores: Float[torch.Tensor, "B N"], p: Float[torch.Tensor, "B N N"]
) -> Float[torch.Tensor, " B"]:
    """Mean negative log-likelihood of labels ``p`` over all pairs i != j of each group: its gradient is minus T2."""
    N = scores.shape[1]
    check_group(N, 2)
    off = 1 - torch.eye(N).to(scores)
    return -(off * label_likelihood(p, scores[:, :, None] - scores[:, None, :])).sum((1, 2)) / (N * (N - 1))


def preference_loss(
    scores: Float[torch.Tensor, "B N"], p: Float[torch.Tensor, "B N N"], beta: float, *, response: bool = True
) -> Float[torch.Tensor, ""]:
    """What a reward network descends on labelled groups: Bradley-Terry, and with ``response`` how the data answer."""
    loss = bradley_terry_loss(scores, p)
    if response:
        ell = label_likelihood(p, (scores[:, :, None] - scores[:, None, :]).detach())
        # a tie is log 1/2: a constant baseline
        loss = loss + pair_response_loss(scores, ell + torch.log(torch.tensor(2.0)).to(ell), beta)
    return loss.mean()


def group_covariance(
    u: Float[torch.Tensor, "B N"], g: Float[torch.Tensor, "B N m"], beta: float
) -> Float[torch.Tensor, "B m"]:
    """T1 of every group for a linear reward with features ``g``, from `utility_loss`."""
    return -_slope(lambda scores: utility_loss(scores, u, beta), g)


def pair_covariance(
    ell: Float[torch.Tensor, "B N N"], g: Float[torch.Tensor, "B N m"], beta: float
) -> Float[torch.Tensor, "B m"]:
    """T1 of every group from its pairs, for a linear reward with features ``g``, from `pair_response_loss`."""
    return -_slope(lambda scores: pair_response_loss(scores, ell, beta), g)


def pair_direct(
    p: Float[torch.Tensor, "B N N"], r: Float[torch.Tensor, "B N"], g: Float[torch.Tensor, "B N m"]
) -> Float[torch.Tensor, "B m"]:
    """T2 of every group at scores ``r``, for a linear reward with features ``g``, from `bradley_terry_loss`."""
    return -_slope(lambda scores: bradley_terry_loss(scores + r, p), g)


def _slope(loss: Callable[[torch.Tensor], torch.Tensor], g: Float[torch.Tensor, "B N m"]) -> Float[torch.Tensor, "B m"]:
    nu = g.new_zeros(len(g), g.shape[2]).requires_grad_()  # one copy for each group keeps their gradients apart
    return torch.autograd.grad(loss(torch.einsum("bnm,bm->bn", g, nu)).sum(), nu)[0]


def fisher_coefficients(
    weights: Float[torch.Tensor, " n"], scores: Float[torch.Tensor, "n d"], u: Float[torch.Tensor, " n"], *, damping: float,
    steps: int,
) -> Float[torch.Tensor, " n"]:  # fmt: skip
    """``c_i = score_i . w`` with ``(F + damping) w = E[u score]``; see the reference. Scores as a matrix: small models."""
    d = scores.shape[1]
    return response_coefficients(
        lambda theta: scores @ theta, scores.new_zeros(d), weights, u, damping=damping, steps=steps
    )


def response_coefficients(
    log_probs: Callable[[Float[torch.Tensor, " d"]], Float[torch.Tensor, " n"]], theta: Float[torch.Tensor, " d"],
    weights: Float[torch.Tensor, " n"], u: Float[torch.Tensor, " n"], *, damping: float, steps: int,
) -> Float[torch.Tensor, " n"]:  # fmt: skip
    """`fisher_coefficients` from log-probabilities alone: for policies with shared parameters or short of their optimum.

    The graph of the log-probabilities is built once; each product with the Fisher matrix then takes two backward passes through
    it, one of them through a backward pass. ``mean_i c_i r_nu(y_i) / beta`` is what the reward network ascends.

    Args:
        log_probs: log-probabilities of the n completions as a function of flat parameters.
        weights: 1 / n for samples. u: utilities, less a baseline. damping: >= 0; 1e-3 to 1e-2 for samples.
    """
    theta = theta.detach().requires_grad_()
    log_p = log_probs(theta)
    dual = torch.zeros_like(log_p).requires_grad_()
    slope = torch.autograd.grad(log_p, theta, dual, create_graph=True)[
        0
    ]  # linear in the dual: its derivative is a score

    def along(p: Float[torch.Tensor, " d"]) -> Float[torch.Tensor, " n"]:
        return torch.autograd.grad(slope, dual, p, retain_graph=True)[0]

    def pull(x: Float[torch.Tensor, " n"]) -> Float[torch.Tensor, " d"]:
        return torch.autograd.grad(log_p, theta, x, retain_graph=True)[0]

    def apply(p: Float[torch.Tensor, " d"]) -> Float[torch.Tensor, " d"]:
        return pull(weights * along(p)) + damping * p

    return along(conjugate_gradients(apply, pull(weights * u), steps=steps)).detach()


def check_group(N: int, least: int) -> None:
    """Raise `SettingError` for groups that are too small to estimate their own mean."""
    if N < least:
        raise SettingError(f"groups of {N} completions; the estimate needs at least {least} of the same prompt")
