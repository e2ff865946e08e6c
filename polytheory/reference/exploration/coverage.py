"""Exact values, occupancies and coverage coefficients of finite policy classes on layered models.

Arrays by layer: ``P`` [H, n, A, n] (rows may sum to less than 1: the episode ends), ``r`` [H, n, A], ``start`` [n], classes
``actions`` [N, H, n], reset laws ``mu`` [H, n].
"""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float, Int

Transitions = Float[np.ndarray, "H n A n"]


def occupancies(
    P: Transitions, start: Float[np.ndarray, " n"], actions: Int[np.ndarray, "N H n"]
) -> Float[np.ndarray, "N H n"]:
    """``d[k, h, x]``: probability that policy k is in state x at layer h."""
    N, H, n = actions.shape
    d = np.zeros((N, H, n))
    d[:, 0] = start
    states = np.arange(n)
    for h in range(H - 1):
        d[:, h + 1] = np.einsum("kx,kxy->ky", d[:, h], P[h][states, actions[:, h]])
    return d


def class_values(
    P: Transitions, r: Float[np.ndarray, "H n A"], start: Float[np.ndarray, " n"], actions: Int[np.ndarray, "N H n"]
) -> Float[np.ndarray, " N"]:
    """Expected return of every policy, by backward recursion."""
    N, H, n = actions.shape
    states, v = np.arange(n), np.zeros((N, n))
    for h in reversed(range(H)):
        own = actions[:, h]
        v = r[h][states, own] + np.einsum("kxy,ky->kx", P[h][states, own], v)
    return v @ start


def q_values(
    P: Transitions, r: Float[np.ndarray, "H n A"], probs: Float[np.ndarray, "H n A"]
) -> Float[np.ndarray, "H n A"]:
    """``Q^pi_h(x, a)`` of a stochastic Markov policy ``probs`` [H, n, A]."""
    q, v = np.zeros_like(r), np.zeros(r.shape[1])
    for h in reversed(range(len(r))):
        q[h] = r[h] + P[h] @ v
        v = (probs[h] * q[h]).sum(axis=1)
    return q


def largest_occupancy(d: Float[np.ndarray, "N H n"]) -> Float[np.ndarray, "H n"]:
    """``max_pi d^pi_h(x)`` over the class."""
    return d.max(axis=0)


def largest_pair_occupancy(
    d: Float[np.ndarray, "N H n"], actions: Int[np.ndarray, "N H n"], n_actions: int
) -> Float[np.ndarray, "H n A"]:
    """``max_pi d^pi_h(x, a)``: a policy is at (x, a) only if it takes a."""
    taken = actions[..., None] == np.arange(n_actions)
    return np.where(taken, d[..., None], 0.0).max(axis=0)


def largest_occupancy_of_all(P: Transitions, start: Float[np.ndarray, " n"]) -> Float[np.ndarray, "H n"]:
    """``max_pi d^pi_h(x)`` over all policies whatever: for each x, be there at layer h as surely as possible."""
    H, n = P.shape[:2]
    out = np.zeros((H, n))
    for h in range(H):
        reach = np.eye(n)  # [from, target]
        for k in reversed(range(h)):
            reach = (P[k] @ reach).max(axis=1)
        out[h] = start @ reach
    return out


def coverability(largest: Float[np.ndarray, "H *x"]) -> float:
    """``max_h sum_x max_pi d^pi_h(x)`` for states, or for pairs (x, a) [xie2022, Definition 1 and Lemma 3].

    It is the smallest concentrability that any reset law can have; ``best_reset`` is the law that has it.
    """
    return float(largest.reshape(len(largest), -1).sum(axis=1).max())


def best_reset(largest: Float[np.ndarray, "H n"]) -> Float[np.ndarray, "H n"]:
    """The reset law of least concentrability: ``mu_h`` proportional to ``max_pi d^pi_h``; uniform on unreachable layers."""
    total = largest.sum(axis=1, keepdims=True)
    return np.where(total > 0, largest / np.where(total > 0, total, 1.0), 1.0 / largest.shape[1])


def concentrability(largest: Float[np.ndarray, "H *x"], mu: Float[np.ndarray, "H *x"]) -> float:
    """``max_h max_x max_pi d^pi_h(x) / mu_h(x)``, with 0/0 = 0; infinite when mu misses a state that a policy reaches."""
    return float(_ratio(largest, mu).max())


def pushforward_concentrability(P: Transitions, start: Float[np.ndarray, " n"], mu: Float[np.ndarray, "H n"]) -> float:
    """``max P_h(x' | x, a) / mu_{h+1}(x')`` over all of h, x, a, x', and ``start / mu_0``; whatever the policy class."""
    first = _ratio(start, mu[0]).max()
    later = [_ratio(P[h].max(axis=(0, 1)), mu[h + 1]).max() for h in range(len(mu) - 1)]
    return float(max([first, *later]))


def pushforward_coverability(P: Transitions) -> float:
    """``max_h sum_x' max_{x, a} P_h(x' | x, a)``, at least 1 (the start law): at most L in a block MDP with L latent states."""
    return float(max([1.0, *P[:-1].max(axis=(1, 2)).sum(axis=-1)]))


def completeness_error(
    P: Transitions, r: Float[np.ndarray, "H n A"], actions: Int[np.ndarray, "N H n"]
) -> Float[np.ndarray, " N"]:
    """How far each policy is from having a greedy improvement in the class, layer by layer.

    ``max_h min_{p in class} max_x (max_a Q^k_h(x, a) - Q^k_h(x, p_h(x)))``: the class is policy complete when all of it is 0
    [krishnamurthy2025].
    """
    N, H, n = actions.shape
    states, worst = np.arange(n), np.zeros(N)
    for k in range(N):
        q = q_values(P, r, np.eye(r.shape[2])[actions[k]])
        for h in range(H):
            loss = q[h].max(axis=1) - q[h][states, actions[:, h]]  # [N, n]
            worst[k] = max(worst[k], loss.max(axis=1).min())
    return worst


def _ratio(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(a > 0, a / b, 0.0)
