"""Policies that remember their stock, one for each replica."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from polytheory._show import compact
from polytheory._typing import Float, Int
from polytheory.models.return_law import return_law
from polytheory.models.tabular import TabularMDP
from polytheory.policies import Policy
from polytheory.scaled.distributional.representations import nearest_node, next_stock


@dataclass(frozen=True, eq=False)
class StockPolicy:
    """Acts by a table of (stage, state, nearest stock); the memory is the true stock of every row.

    Fields: ``actions`` [n, L, S, C]; ``stocks`` [n, C] (vectors [n, C, m]) even nodes, alike in all replicas; ``initial`` [n]
    (or [n, m]); ``gamma``; ``n_actions``; ``rewards`` [S, A, S, m] by which vector stocks move where an access pays numbers.
    Rows are replica-major.
    """

    actions: Int[torch.Tensor, "n L S C"]
    stocks: Float[torch.Tensor, "n C ..."]
    initial: Float[torch.Tensor, "n ..."]
    gamma: float
    n_actions: int
    rewards: Any = None

    __repr__ = compact

    def start(self, n: int) -> Float[torch.Tensor, "rows ..."]:
        """The initial stocks."""
        return self.initial.repeat_interleave(n // len(self.initial), 0)

    def probs(
        self, m: Float[torch.Tensor, "rows ..."], h: int, s: Int[torch.Tensor, " rows"]
    ) -> Float[torch.Tensor, "rows A"]:
        """Probability 1 on the action of the table."""
        replicas, stages = self.actions.shape[:2]
        row = torch.arange(replicas, device=s.device).repeat_interleave(len(s) // replicas)
        action = self.actions[row, min(h, stages - 1), s, nearest_node(m, self.stocks[0])]
        return torch.nn.functional.one_hot(action, self.n_actions).double()

    def update(
        self, m: Any, h: int, s: Any, a: Any, r: Float[torch.Tensor, "rows ..."], s2: Any
    ) -> Float[torch.Tensor, "rows ..."]:
        """The stock moves with the reward."""
        paid = r if r.ndim == m.ndim else torch.tensor(self.rewards, device=m.device)[s, a, s2]
        return next_stock(m, paid, self.gamma)

    def mean_returns(self, model: TabularMDP) -> list[float]:
        """Expected return of every replica from the start distribution, exactly."""
        return [float(return_law(model, self.replica(i)).mean) for i in range(len(self.initial))]

    def replica(self, i: int) -> Policy:
        """The policy of one replica, on NumPy arrays."""
        actions, stocks, initial = (x[i : i + 1].cpu() for x in (self.actions, self.stocks, self.initial))
        return OnArrays(StockPolicy(actions, stocks, initial, self.gamma, self.n_actions, self.rewards))


class OnArrays:
    """A torch policy whose memory is one tensor, on NumPy arrays."""

    def __init__(self, policy: Any):
        self.policy = policy

    def start(self, n: int) -> np.ndarray:
        """Memory of n rows."""
        return self.policy.start(n).numpy()

    def probs(self, m: np.ndarray, h: int, s: np.ndarray) -> np.ndarray:
        """Action probabilities."""
        return self.policy.probs(torch.from_numpy(m), h, torch.from_numpy(s)).numpy()

    def update(self, m: np.ndarray, h: int, s: Any, a: Any, r: np.ndarray, s2: Any) -> np.ndarray:
        """Memory after a step."""
        given = (torch.from_numpy(np.ascontiguousarray(x)) for x in (s, a, r, s2))
        return self.policy.update(torch.from_numpy(m), h, *given).numpy()
