"""Reward design for language models: a bandit over completions, held near a reference model.

For a reward ``r_nu(x, y)`` the lower level maximises ``E[r_nu] - beta KL(pi || pi_ref)``, whose optimum is
``pi*(y | x)`` proportional to ``pi_ref(y | x) exp(r_nu(x, y) / beta)``. Then ``d log pi* / d nu`` is the centred gradient
of the reward over beta, and the distribution term is a covariance::

    T1 = (1 / beta) E_x Cov_{pi*}(u, grad_nu r_nu)                            u a utility of completions
    T1 = (1 / beta) E_x E_{y, y'}[ell (g(y) + g(y') - 2 E g)]                 ell a likelihood of pairs, g = grad_nu r_nu

Groups of N completions of a prompt estimate it without bias, with no Hessian and no gradient of the policy. Away from the
optimum, or with shared parameters, one solve with the Fisher matrix takes its place (`fisher_coefficients`).
"""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float
from polytheory.errors import SettingError
from polytheory.reference.alignment.conjugate import conjugate_gradients
from polytheory.reference.alignment.upper import label_likelihood, label_residual


def tilted_law(log_ref: Float[np.ndarray, "X K"], r: Float[np.ndarray, "X K"], beta: float) -> Float[np.ndarray, "X K"]:
    """The optimum of ``E[r] - beta KL(pi || pi_ref)`` for every prompt."""
    weight = log_ref + r / beta
    weight = np.exp(weight - weight.max(axis=-1, keepdims=True))
    return weight / weight.sum(axis=-1, keepdims=True)


def centred(pi: Float[np.ndarray, "X K"], g: Float[np.ndarray, "X K m"]) -> Float[np.ndarray, "X K m"]:
    """``g`` less its mean under the policy: beta times ``d log pi* / d nu``."""
    return g - np.einsum("xk,xkm->xm", pi, g)[:, None]


def utility_gradient(
    rho: Float[np.ndarray, " X"], pi: Float[np.ndarray, "X K"], u: Float[np.ndarray, "X K"], g: Float[np.ndarray, "X K m"],
    beta: float,
) -> Float[np.ndarray, " m"]:  # fmt: skip
    """Exact T1 of ``E_x E_pi u``: the covariance over beta; ``rho`` [X] prompt probabilities."""
    return np.einsum("x,xk,xk,xkm->m", rho, pi, u, centred(pi, g)) / beta


def preference_gradient(
    rho: Float[np.ndarray, " X"], pi: Float[np.ndarray, "X K"], p_star: Float[np.ndarray, "X K K"],
    r: Float[np.ndarray, "X K"], g: Float[np.ndarray, "X K m"], beta: float,
) -> tuple[float, Float[np.ndarray, " m"], Float[np.ndarray, " m"]]:  # fmt: skip
    """Value, T1 and T2 of the likelihood of choices between two independent completions of a prompt (equal ones included).

    ``p_star[x, i, j]`` is the probability that i is preferred to j.
    """
    D = r[:, :, None] - r[:, None, :]
    ell = label_likelihood(p_star, D)
    pairs = rho[:, None, None] * pi[:, :, None] * pi[:, None, :]
    c = centred(pi, g)
    T1 = np.einsum("xij,xijm->m", pairs * ell, c[:, :, None] + c[:, None]) / beta
    T2 = np.einsum("xij,xijm->m", pairs * label_residual(p_star, D), g[:, :, None] - g[:, None])
    return float(np.sum(pairs * ell)), T1, T2


def group_covariance(
    u: Float[np.ndarray, "B N"], g: Float[np.ndarray, "B N m"], beta: float
) -> Float[np.ndarray, "B m"]:
    """Unbiased T1 of every group of N independent completions: ``sum_i (u_i - mean u) g_i / ((N - 1) beta)``.

    Raises `SettingError` for groups of one.
    """
    N = u.shape[1]
    check_group(N, 2)
    return np.einsum("bn,bnm->bm", u - u.mean(axis=1, keepdims=True), g) / ((N - 1) * beta)


def pair_covariance(
    ell: Float[np.ndarray, "B N N"], g: Float[np.ndarray, "B N m"], beta: float
) -> Float[np.ndarray, "B m"]:
    """Unbiased T1 of every group from all its pairs i != j.

    ``mean_{i != j} ell_ij (g_i + g_j - 2 mean_{k != i, j} g_k) / beta``: a mean that includes i or j would bias it by O(1 / N).
    Raises `SettingError` for groups of less than three.
    """
    N = g.shape[1]
    check_group(N, 3)
    off = ell * (1 - np.eye(N))
    both = g[:, :, None] + g[:, None, :]
    others = (g.sum(axis=1)[:, None, None] - both) / (N - 2)
    return np.einsum("bij,bijm->bm", off, both - 2 * others) / (N * (N - 1) * beta)


def pair_direct(
    p: Float[np.ndarray, "B N N"], r: Float[np.ndarray, "B N"], g: Float[np.ndarray, "B N m"]
) -> Float[np.ndarray, "B m"]:
    """T2 of every group from all its pairs i != j: the Bradley-Terry gradient; ``p`` the labels."""
    N = g.shape[1]
    check_group(N, 2)
    residual = label_residual(p, r[:, :, None] - r[:, None, :]) * (1 - np.eye(N))
    return np.einsum("bij,bijm->bm", residual, g[:, :, None] - g[:, None, :]) / (N * (N - 1))


def fisher_coefficients(
    weights: Float[np.ndarray, " n"], scores: Float[np.ndarray, "n d"], u: Float[np.ndarray, " n"], *, damping: float,
    steps: int,
) -> Float[np.ndarray, " n"]:  # fmt: skip
    """``c_i = score_i . w`` with ``(F + damping) w = E[u score]``: then ``T1 = (1 / beta) E[c grad_nu r_nu]``.

    Args:
        weights: probability of every completion, or 1 / n for samples.
        scores: gradient of every log-probability.
        u: utilities, less a baseline.
        damping: >= 0; steps: of conjugate gradients, each one product with F.
    """

    def apply(p: Float[np.ndarray, " d"]) -> Float[np.ndarray, " d"]:
        return (weights * (scores @ p)) @ scores + damping * p

    return scores @ conjugate_gradients(apply, (weights * u) @ scores, steps=steps)


def check_group(N: int, least: int) -> None:
    """Raise `SettingError` for groups that are too small to estimate their own mean."""
    if N < least:
        raise SettingError(f"groups of {N} completions; the estimate needs at least {least} of the same prompt")
