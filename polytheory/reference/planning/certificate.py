"""What a planner knows after a sweep, and how it is certified in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float, Int
from polytheory.errors import DiscountError, NotSolvedError, SettingError, UnknownNameError
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import (
    UNIT,
    greedy_actions,
    half_width,
    midpoint_correction,
    residual_bound,
    rounding_bound,
    span_bound,
    sup_norm_bound,
)

STOPS = ("span", "sup")


@dataclass(frozen=True)
class Facts:
    """What the rounding analysis needs of a model: ``terms`` successors in the longest row, ``row_gap`` how far a row
    may be from summing to 1 (its own computation included), ``reward`` the largest ``|r|``."""

    terms: int
    row_gap: float
    reward: float


@dataclass(frozen=True, eq=False)
class PlanningState:
    """State of every discounted planner.

    Fields:
        v: [S] value, within ``bound`` of the optimal value V*.
        q: [S, A] state-action values of the last sweep (zeros before the first); its greedy policy is the result.
        bound: certified ``max |v - V*|``, rounding included.
        rounding: the part of ``bound`` that is owed to floating point.
        sweeps: full Bellman sweeps so far.
    """

    v: Float[np.ndarray, " S"]
    q: Float[np.ndarray, "S A"]
    bound: float
    rounding: float
    sweeps: int
