"""A model with three states on which reward design can be followed by hand."""

from __future__ import annotations

import numpy as np

from polytheory.models.tabular import TabularMDP


def three_state(*, gamma: float = 0.9, horizon: int | None = None) -> TabularMDP:
    """Three states, two actions; state 2 pays, action 0 keeps some of the way there.

    Known answer at gamma = 0.9: the best policy is (1, 1, 0), found by trying all eight.
    """
    P = [[[0.8, 0.2, 0.0], [0.1, 0.6, 0.3]], [[0.5, 0.5, 0.0], [0.0, 0.3, 0.7]], [[0.2, 0.3, 0.5], [0.6, 0.0, 0.4]]]
    r = [[0.0, 0.2], [0.1, 0.0], [1.0, 0.5]]
    return TabularMDP(np.array(P), np.array(r), np.array([0.5, 0.3, 0.2]), horizon, gamma, name="three-state")
