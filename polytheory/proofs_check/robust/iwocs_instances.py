"""Models with a list of kernels on which the claims about incremental worst-case search are checked, and their answers by
enumeration."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from polytheory._typing import Float
from polytheory.access import KnownModel
from polytheory.models.tabular import TabularMDP
from polytheory.proofs_check.planning.oracles import policies


@dataclass(frozen=True, eq=False)
class Listed:
    """A model whose kernel is the first of ``kernels`` [N, S, A, S]."""

    kernels: Float[np.ndarray, "N S A S"]
    r: Float[np.ndarray, "S A"]

    @property
    def access(self) -> KnownModel:
        """The nominal model, starting in state 0."""
        S = self.r.shape[0]
        return KnownModel(TabularMDP(self.kernels[0], self.r, np.eye(S)[0], gamma=0.9, name="listed"))


def stuck() -> Listed:
    """Three states on which the paper's search stops at 8.18 while the robust value is 13.824451."""
    first = [[[0.5, 0, 0.5], [1, 0, 0]], [[0, 0.5, 0.5], [0, 0.5, 0.5]], [[0.5, 0.5, 0], [0, 0.5, 0.5]]]
    second = [[[0, 1, 0], [1, 0, 0]], [[0, 1, 0], [0, 1, 0]], [[0, 0, 1], [0, 0, 1]]]
    return Listed(np.array([first, second], dtype=float), np.array([[0.0, 1.0], [3.0, 2.0], [2.0, 1.0]]))


@lru_cache(maxsize=1)
def instances() -> tuple[Listed, ...]:
    """The stuck one, and random ones with sparse and dense rows."""
    rng, found = np.random.default_rng(0), [stuck()]
    for concentration in (0.3, 0.5, 2.0):
        for _ in range(2):
            found.append(Listed(rng.dirichlet(np.full(3, concentration), (3, 3, 2)), rng.uniform(size=(3, 2))))
    return tuple(found)


def exact_robust_value(listed: Listed) -> Float[np.ndarray, " S"]:
    """The robust value of the rectangular hull: the best deterministic policy against all choices of rows for what it plays."""
    N, S, _, _ = listed.kernels.shape
    best = np.full(S, -np.inf)
    for actions in policies(listed.access.model):
        rows = listed.kernels[:, np.arange(S), actions]  # [N, S, S]
        r = listed.r[np.arange(S), actions]
        worst = np.full(S, np.inf)
        for choice in np.ndindex(*[N] * S):
            P = rows[list(choice), np.arange(S)]
            worst = np.minimum(worst, np.linalg.solve(np.eye(S) - 0.9 * P, r))
        best = np.maximum(best, worst)
    return best


def optimal_action_values(listed: Listed, i: int) -> Float[np.ndarray, "S A"]:
    """``Q*`` under one kernel, by trying every deterministic policy."""
    S = listed.r.shape[0]
    values = []
    for actions in policies(listed.access.model):
        P, r = listed.kernels[i][np.arange(S), actions], listed.r[np.arange(S), actions]
        values.append(np.linalg.solve(np.eye(S) - 0.9 * P, r))
    return listed.r + 0.9 * listed.kernels[i] @ np.max(values, axis=0)
