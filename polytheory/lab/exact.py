"""Exact values of learned policies, from the model and not from samples."""

from __future__ import annotations

from typing import Any

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy

TOL = 1e-9  # accuracy of an optimum, in units of the value


def policy_tables(
    policy: Any, model: TabularMDP, replicas: int, *, torch: bool = False
) -> Float[np.ndarray, "n *H S A"]:
    """Action probabilities of each replica's memoryless policy, asked in every state (and stage, with a horizon)."""
    states: Any = np.tile(np.arange(model.S), replicas)
    if torch:
        from torch import as_tensor

        states = as_tensor(states)
    stages = [np.asarray(policy.probs(None, h, states)) for h in range(model.horizon or 1)]
    tables = np.stack(stages).reshape(len(stages), replicas, model.S, model.A).swapaxes(0, 1)
    return tables if model.horizon else tables[:, 0]


class Oracle:
    """Values of many policies of one model.

    The value of a policy does not depend on how many others are asked for with it, not even in its last bit.

    Attributes: ``v_star`` [S], or [H+1, S] with a horizon, and ``optimum`` its mean over the start states, certified to
    `TOL` where float64 can.
    """

    def __init__(self, model: TabularMDP):
        from polytheory.reference.planning.solve import solve

        self.model = model
        self.v_star = solve(model, tol=TOL).v
        self.optimum = self._mean(self.v_star if model.horizon is None else self.v_star[0])
        self._P = [sp.csr_matrix(model.P_at(h).reshape(-1, model.S)) for h in range(model.horizon or 0)]
        self._r = [model.r_at(h) for h in range(model.horizon or 0)]

    def returns(self, tables: Float[np.ndarray, "n *H S A"]) -> Float[np.ndarray, " n"]:
        """Expected discounted return of each policy from the start distribution: by stages with a horizon, else by
        solving ``(I - gamma P_pi) v = r_pi``."""
        if self.model.horizon is None:
            from polytheory.reference.planning.evaluation import return_of

            return np.array([return_of(self.model, TabularPolicy(x)) for x in tables])
        n, S, A = len(tables), self.model.S, self.model.A
        v = np.zeros((n, S))
        for h in reversed(range(self.model.horizon)):
            # CSR times columns adds up each column by itself; a dense product's rounding changes with their number
            after = (self._P[h] @ np.ascontiguousarray(v.T)).T.reshape(n, S, A)
            v = (tables[:, h] * (self._r[h] + self.model.gamma * after)).sum(-1)
        return self._mean(v)

    def _mean(self, v: np.ndarray) -> Any:
        return (v * self.model.mu).sum(-1)
