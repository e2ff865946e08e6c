"""Solutions of the exercises in the notebooks. `polytheory.conformance.grade` finds every function of `ANSWERS` right.

On paper: notebook 1, exercise 3, `GAMMA_TIE`; notebook 3, exercise 3, `ordinary_discount`; notebook 4, exercise 4, `cosine`.
"""

from __future__ import annotations

import itertools
from fractions import Fraction

import numpy as np

# The gap D = V(1) - V(0) under action 1 in both states obeys D = 1 + gamma (9/10 - 8/10) D. Action 0 is as good in state 0 when
# 1/10 = gamma (8/10 - 1/10) D. Together 7 gamma = 1 - gamma / 10; below that gamma, action 0 is best in state 0.
GAMMA_TIE = Fraction(10, 71)


def backup(P, r, v, gamma):
    return np.max(r + gamma * P @ v, axis=1)


def certified_error(v_old, v_new, gamma):
    return gamma / (1 - gamma) * np.max(np.abs(v_new - v_old))


def optimistic_values(r, n, N, v_next, cap, scale):
    m = np.maximum(n, 1)
    return np.where(n == 0, cap, np.minimum(r + N @ v_next / m + scale * cap / np.sqrt(m), cap))


def switch_test(now, before):
    return np.prod(1 + now) >= 2 * np.prod(1 + before)


def worst_value(z, p, radius):
    q, best_first = p.astype(float), np.argsort(-z)
    worst = np.argmin(z)
    left = min(radius, 1 - p[worst])
    q[worst] += left
    for i in best_first:
        if i != worst:
            taken = min(left, q[i])
            q[i] -= taken
            left -= taken
    return q @ z


def rewards_to_go(rewards, gamma):
    return np.array([sum(gamma**h * rewards[h] for h in range(t, len(rewards))) for t in range(len(rewards))])


def ordinary_discount(gamma, leak):
    """``gamma P`` is the same as ``gamma (1 - leak)`` times a matrix whose rows sum to 1."""
    return gamma * (1 - leak)


def group_advantage(score, group, eps):
    out = np.zeros(len(score))
    for g in np.unique(group):
        own = score[group == g]
        out[group == g] = (own - own.mean()) / (own.std(ddof=1) + eps)
    return out


def clipped_loss(ratio, advantage, eps):
    return -np.minimum(ratio * advantage, np.clip(ratio, 1 - eps, 1 + eps) * advantage)


def sequence_mean(value, mask):
    return (np.where(mask, value, 0).sum(axis=1) / mask.sum(axis=1)).mean()


def cosine(lm, reward):
    """Of the exact gradient and the mean of the group's estimator (G = 2, divided by the deviation), at uniform tokens.

    1 for rewards 0 and 1: unequal pairs all have the same deviation. Less for numbers: every such pair counts +-1.
    """
    logits = np.zeros((lm.C, lm.V))
    p, scores, exact = lm.probs(logits), lm.scores(logits), lm.gradient(logits, reward)
    mean = np.zeros_like(exact)
    for i, j in itertools.product(range(lm.N), repeat=2):
        if reward[i] != reward[j]:
            advantage = np.sign(reward[i] - reward[j]) / np.sqrt(2)
            mean += p[i] * p[j] * advantage * (scores[i] - scores[j]) / 2
    return (mean * exact).sum() / np.sqrt((mean**2).sum() * (exact**2).sum())


ANSWERS = {
    "bellman-backup": backup,
    "certified-error": certified_error,
    "optimistic-values": optimistic_values,
    "switch-test": switch_test,
    "worst-value": worst_value,
    "rewards-to-go": rewards_to_go,
    "group-advantage": group_advantage,
    "clipped-loss": clipped_loss,
    "sequence-mean": sequence_mean,
}
