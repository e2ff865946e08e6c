"""Models that the planning tests share."""

from __future__ import annotations

import numpy as np
import scipy.sparse as sp

from polytheory.models.tabular import TabularMDP

DISCOUNTED = (
    "value-iteration",
    "modified-policy-iteration",
    "policy-iteration",
    "inexact-policy-iteration",
    "linear-program",
)


def garnet(S: int, A: int, k: int, gamma: float, *, seed: int = 0, sparse: bool = False) -> TabularMDP:
    """A random model with k successors per state and action."""
    rng = np.random.default_rng(seed)
    P = np.zeros((S, A, S))
    for s in range(S):
        for a in range(A):
            P[s, a, rng.choice(S, k, replace=False)] = rng.dirichlet(np.ones(k))
    r = rng.normal(size=(S, A))
    return TabularMDP(sp.csr_matrix(P.reshape(S * A, S)) if sparse else P, r, np.full(S, 1 / S), gamma=gamma)


def ring(S: int, gamma: float) -> TabularMDP:
    """A slowly mixing sparse ring: stay, or drift to the next state; one state pays."""
    states = np.arange(S)
    rows, columns, p = [], [], []
    for a, drift in enumerate((0.1, 0.9)):
        rows += [states * 2 + a] * 2
        columns += [states, (states + 1) % S]
        p += [np.full(S, 1 - drift), np.full(S, drift)]
    P = sp.csr_matrix((np.concatenate(p), (np.concatenate(rows), np.concatenate(columns))), shape=(2 * S, S))
    r = np.zeros((S, 2))
    r[0] = 1.0
    return TabularMDP(P, r, np.full(S, 1 / S), gamma=gamma, name="ring")


def dense(model: TabularMDP) -> TabularMDP:
    """The same discounted model with a dense table."""
    return TabularMDP(model.P_at().toarray().reshape(model.S, model.A, model.S), model.r, model.mu, gamma=model.gamma)
