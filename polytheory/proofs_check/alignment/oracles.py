"""Derivatives by complex steps through the whole bilevel problem: no advantage, no score, no implicit function theorem.

``Im f(nu + i h e) / h`` with ``h = 1e-30`` has no cancellation. The lower level is solved by iterating the regularised Bellman
operator on complex numbers (the methods use Newton's method on real ones).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.proofs_check.alignment.instances import Bandit, Case
from polytheory.reward_design import World

STEP = 1e-30
ROUNDING = 1e-12  # of the size of the derivatives: solves of condition 1e3 at unit roundoff 1e-16, with a margin of ten


def complex_step(f: Callable[[Any], Any], x: Float[np.ndarray, "*n"]) -> np.ndarray:
    """Derivatives of f (a number or an array) in every entry of x, first axes those of x."""
    out = []
    for i in range(x.size):
        moved = x.astype(complex).ravel()
        moved[i] += 1j * STEP
        out.append(np.imag(f(moved.reshape(x.shape))) / STEP)
    return np.stack(out).reshape(*x.shape, *np.shape(out[0]))


def smooth(q: Any, tau: float) -> Any:
    """``tau log sum exp(q / tau)`` over actions, real or complex."""
    top = q.real.max(axis=-1, keepdims=True)
    return (top + tau * np.log(np.exp((q - top) / tau).sum(axis=-1, keepdims=True)))[..., 0]


def log_optimum(world: World, r: Any, tau: float) -> Any:
    """``log pi*`` of the regularised problem, by iterating the operator until gamma^k is below rounding."""
    v = np.zeros(len(world.mu), dtype=complex)
    sweeps = 2 if world.gamma == 0 else int(np.ceil(np.log(1e-17) / np.log(world.gamma))) + 1
    for _ in range(sweeps):
        v = smooth(r + world.gamma * (world.P @ v), tau)
    q = r + world.gamma * (world.P @ v)
    return (q - smooth(q, tau)[:, None]) / tau


def log_softmax(theta: Any) -> Any:
    """Log-probabilities, real or complex."""
    return theta - smooth(theta, 1.0)[:, None]


def discounted_return(world: World, log_pi: Any, r: Any) -> Any:
    """``E[sum gamma^h r]`` from the start, by one solve from the left."""
    pi = np.exp(log_pi)
    kernel = np.einsum("sa,sat->st", pi, world.P)
    x = np.linalg.solve((np.eye(len(pi)) - world.gamma * kernel).T, world.mu.astype(complex))
    return x @ (pi * r).sum(axis=1)


def truncated_return(world: World, log_pi: Any, r: Any, steps: int) -> Any:
    """The same over the first ``steps`` steps."""
    pi, x, out = np.exp(log_pi), world.mu.astype(complex), 0.0
    for h in range(steps):
        out = out + world.gamma**h * (x[:, None] * pi * r).sum()
        x = np.einsum("s,sa,sat->t", x, pi, world.P)
    return out


def utility(case: Case, ridge: float) -> Callable[[Any], Any]:
    """``nu -> G`` with the true return as upper level."""

    def G(nu: Any) -> Any:
        log_pi = log_optimum(case.world, case.features @ nu, case.tau)
        return discounted_return(case.world, log_pi, case.world.r) - ridge * (nu**2).sum()

    return G


def segments(case: Case, log_pi: Any, steps: int) -> list[tuple[Any, list[tuple[int, int]]]]:
    """(probability, [(s, a), ...]) of every segment, by going through all words of states and actions."""
    world, (S, A) = case.world, case.world.r.shape
    found: list[tuple[Any, list[tuple[int, int]]]] = [(p, []) for p in [1 - world.mu.sum()] if p > 0]
    for length in range(1, steps + 1):
        for word in itertools.product(range(S), range(A), repeat=length):
            path = list(zip(word[0::2], word[1::2], strict=True))
            p = world.mu[path[0][0]] * np.exp(sum(log_pi[s, a] for s, a in path))
            for (s, a), (y, _) in itertools.pairwise(path):
                p = p * world.P[s, a, y]
            if length < steps:
                p = p * (1 - world.P[path[-1]].sum())
            if p.real > 1e-15:
                found.append((p, path))
    return found


def preference(case: Case, steps: int, ridge: float, scale: float = 1.0) -> Callable[[Any], Any]:
    """``nu -> G`` with a teacher's choices as upper level."""
    gamma = case.world.gamma

    def G(nu: Any) -> Any:
        r_nu = case.features @ nu
        paths = segments(case, log_optimum(case.world, r_nu, case.tau), steps)
        R, true = (
            [sum(gamma**h * r[x] for h, x in enumerate(path)) for _, path in paths] for r in (r_nu, case.world.r)
        )
        total = 0.0
        for (p, _), Ri, ti in zip(paths, R, true, strict=True):
            for (q, _), Rj, tj in zip(paths, R, true, strict=True):
                y = 1 / (1 + np.exp(-scale * (ti - tj)))
                total = total - p * q * (y * np.log(1 + np.exp(Rj - Ri)) + (1 - y) * np.log(1 + np.exp(Ri - Rj)))
        return total - ridge * (nu**2).sum()

    return G


def tilted(bandit: Bandit, nu: Any) -> Any:
    """``pi* = pi_ref exp(r_nu / beta) / Z``, complex or real."""
    weight = bandit.pi_ref * np.exp(bandit.features @ nu / bandit.beta)
    return weight / weight.sum(axis=1, keepdims=True)


def bandit_utility(bandit: Bandit) -> Callable[[Any], Any]:
    """``nu -> E_x E_pi* r``."""
    return lambda nu: bandit.rho @ (tilted(bandit, nu) * bandit.r).sum(axis=1)


def bandit_preference(bandit: Bandit) -> Callable[[Any], Any]:
    """``nu -> G``, the likelihood of choices between two completions."""

    def G(nu: Any) -> Any:
        pi, R = tilted(bandit, nu), bandit.features @ nu
        D = R[:, :, None] - R[:, None, :]
        ell = -(bandit.labels * np.log(1 + np.exp(-D)) + (1 - bandit.labels) * np.log(1 + np.exp(D)))
        return np.einsum("x,xi,xij,xj->", bandit.rho, pi, ell, pi)

    return G
