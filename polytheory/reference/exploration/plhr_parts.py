"""The formulas of the policy emulator: decoding by fingerprints, and values in the emulated model."""

from __future__ import annotations

import numpy as np

from polytheory._typing import Float, Int


def nearest(fingerprint: Float[np.ndarray, " F"], representatives: Float[np.ndarray, "C F"], tolerance: float) -> int:
    """The cluster whose representative is nearest in sup norm; -1 when none is within the tolerance."""
    if not len(representatives):
        return -1
    distance = np.max(np.abs(representatives - fingerprint), axis=1)
    c = int(np.argmin(distance))
    return c if distance[c] <= tolerance else -1


def fingerprint_means(
    returns: Float[np.ndarray, " m"], states: int, tests: int, n_actions: int
) -> Float[np.ndarray, "k F"]:
    """``Q_hat(x, a)`` of every test policy from rollouts ordered by (state, test, action, repetition): [k, tests * A]."""
    return returns.reshape(states, tests * n_actions, -1).mean(axis=2)


def emulated_values(
    pool: Float[np.ndarray, "H C n"],
    tried: Float[np.ndarray, "H C A"],
    moves: Float[np.ndarray, "H C A C2"],
    rewards: Float[np.ndarray, "H C A"],
    actions: Int[np.ndarray, "N H n"],
) -> Float[np.ndarray, " N"]:
    """Value of every policy in the emulator.

    ``V_h(c) = mean over the observations x pooled in (h, c) of Q_h(c, pi_h(x))`` and
    ``Q_h(c, a) = R(h, c, a) + sum_c' P(c' | h, c, a) V_{h+1}(c')``; the value is the mean over the pool of layer 0.

    Args:
        pool: counts of observations by (layer, cluster). tried: counts of transitions. moves: of those between clusters.
        rewards: summed rewards of the transitions.
    """
    H, C, _ = pool.shape
    N = len(actions)
    V = np.zeros((N, C))
    mass = pool.sum(axis=2)
    for h in reversed(range(H)):
        count = np.where(tried[h] > 0, tried[h], 1.0)
        Q = rewards[h] / count + np.einsum("cad,kd->kca", moves[h] / count[..., None], V)
        own = np.eye(rewards.shape[2])[actions[:, h]]  # [N, n, A]
        V = np.einsum("cx,kxa,kca->kc", pool[h], own, Q) / np.where(mass[h] > 0, mass[h], 1.0)
    return V @ mass[0] / mass[0].sum() if mass[0].sum() else np.zeros(N)
