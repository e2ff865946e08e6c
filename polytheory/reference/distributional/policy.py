"""A policy that remembers its stock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._show import compact
from polytheory._typing import Float, Int
from polytheory.models.return_law import return_law
from polytheory.models.tabular import TabularMDP
from polytheory.reference.distributional.representations import nearest_node, next_stock


@dataclass(frozen=True, eq=False)
class StockPolicy:
    """Acts by a table of (stage, state, nearest stock); the memory is the true stock, from ``initial`` on.

    Fields: ``actions`` [L, S, C], L = 1 when it does not depend on the stage; ``stocks`` [C] even nodes, or vectors [C, m] of
    a product grid; ``initial``, a number or [m]; ``gamma``; ``n_actions``; ``rewards`` [S, A, S, m] by which vector stocks
    move where an access pays numbers.
    """

    actions: Int[np.ndarray, "L S C"]
    stocks: Float[np.ndarray, "C ..."]
    initial: float | Float[np.ndarray, " m"]
    gamma: float
    n_actions: int
    rewards: Any = None

    __repr__ = compact

    def start(self, n: int) -> Float[np.ndarray, "n ..."]:
        """The initial stock."""
        return np.repeat(np.asarray(self.initial, dtype=float)[None], n, axis=0)

    def probs(self, m: Float[np.ndarray, "n ..."], h: int, s: Int[np.ndarray, " n"]) -> Float[np.ndarray, "n A"]:
        """Probability 1 on the action of the table."""
        stage = min(h, len(self.actions) - 1)
        return np.eye(self.n_actions)[self.actions[stage, s, nearest_node(m, self.stocks)]]

    def update(
        self, m: Any, h: int, s: Any, a: Any, r: Float[np.ndarray, "n ..."], s2: Any
    ) -> Float[np.ndarray, "n ..."]:
        """The stock moves with the reward."""
        paid = r if np.ndim(r) == np.ndim(m) else self.rewards[s, a, s2]
        return next_stock(m, paid, self.gamma)

    def mean_returns(self, model: TabularMDP) -> list[float]:
        """Expected return from the start distribution, exactly; one number."""
        return [float(return_law(model, self).mean)]
