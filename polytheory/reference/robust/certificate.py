"""What a robust planner knows after a sweep, and how it is certified: the nominal bounds hold, since the robust operator
is monotone and moves with constants; the gap of the inner problems is added to them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from polytheory._typing import Float
from polytheory.access import Spec
from polytheory.models.ambiguity import Ambiguity
from polytheory.models.tabular import TabularMDP
from polytheory.reference.planning.bellman import UNIT, midpoint_correction, span_bound, sup_norm_bound
from polytheory.reference.planning.certificate import check_discounted, facts
from polytheory.reference.robust.bellman import Sweep, robust_sweep


@dataclass(frozen=True, eq=False)
class RobustState:
    """State of the discounted robust planners.

    Fields:
        v: [S] value, within ``bound`` of the optimal robust value.
        pi: [S, A] policy of the last sweep (uniform before the first); its robust value is at least the optimal one minus
            ``2 * bound``.
        bound: certified ``max |v - V*|``, rounding and the gaps of the inner problems included.
        rounding: the part of ``bound`` owed to floating point.
        gap: largest primal-dual gap of an inner problem in the last sweep.
        sweeps: sweeps of the optimal operator so far.
    """

    v: Float[np.ndarray, " S"]
    pi: Float[np.ndarray, "S A"]
    bound: float
    rounding: float
    gap: float
    sweeps: int


def start(access: Any, who: str) -> RobustState:
    """Zero values: the robust value is at most ``max |r| / (1 - gamma)`` in size, for whatever law nature takes."""
    spec: Spec = access.spec
    check_discounted(spec, who)
    S, A = int(spec.S or 0), int(spec.A or 0)
    scale = max(abs(x) for x in spec.reward_range) / (1 - spec.gamma) * (1 + 4 * UNIT)
    return RobustState(np.zeros(S), np.full((S, A), 1 / A), scale, 0.0, 0.0, 0)


def swept(
    ball: Ambiguity, model: TabularMDP, v: Float[np.ndarray, " S"], sweeps: int, stop: str
) -> tuple[RobustState, Sweep]:
    """One robust sweep from ``v``, and what it certifies."""
    sweep = robust_sweep(ball, model, v)
    value, bound, rounding = certify(v, sweep, model, stop=stop)
    return RobustState(value, sweep.policy, bound, rounding, sweep.gap, sweeps), sweep


def certify(
    v: Float[np.ndarray, " S"], sweep: Sweep, model: TabularMDP, *, stop: str
) -> tuple[Float[np.ndarray, " S"], float, float]:
    """Value, certified error and its rounding part after ``sweep = L v`` (or ``L_pi v``).

    Derivation: the computed sweep is within ``gap`` and ``inner_rounding`` of the true one, which a fixed point amplifies by
    ``1 / (1 - gamma)``. MacQueen's interval and the contraction bound [puterman2005, Thm. 6.6.3 and 6.3.1] use only that the
    operator is monotone and that ``L(v + c) = L v + gamma c``, which the robust operators share.
    """
    gamma = model.gamma
    if stop == "span":
        value, analytic = midpoint_correction(v, sweep.v, gamma), span_bound(v, sweep.v, gamma)
    else:
        value, analytic = sweep.v, sup_norm_bound(v, sweep.v, gamma)
    rounding = (sweep.gap + inner_rounding(model, v, value)) / (1 - gamma)
    return value, analytic + rounding, rounding


def inner_rounding(model: TabularMDP, *values: Float[np.ndarray, " S"]) -> float:
    """What rounding may add to an entry of a sweep beside the gap: dot products of S terms against a law whose entries
    carry a few roundings each and sum to 1 within as many, and rows of the model that sum to 1 within their own gap."""
    known = facts(model)
    size = max(float(np.max(np.abs(v), initial=0.0)) for v in values)
    reward = max(abs(x) for x in model.reward_range)
    return (8 * (model.S + 4) * UNIT + known.row_gap) * (reward + model.gamma * size)


def info(state: Any) -> dict[str, float]:
    """What a step logs: ``bound``, ``rounding``, ``gap``, ``sweeps``."""
    return {"bound": state.bound, "rounding": state.rounding, "gap": state.gap, "sweeps": state.sweeps}
