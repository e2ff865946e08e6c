"""Backward induction for finite horizons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import DiscountError
from polytheory.models._check import ROW_SUM_TOL
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import UNIT, q_values
from polytheory.reference.planning.certificate import (
    certified,
    check_settings,
    facts,
    greedy_policy,
    info,
    stage_error,
)
from polytheory.trajectories import discounts


@dataclass(frozen=True, eq=False)
class StagedState:
    """State of backward induction.

    Fields:
        v: [H+1, S] optimal values; stages below ``stage`` hold zeros until they are swept; ``v[H] = 0``.
        q: [H, S, A] optimal state-action values.
        bound: certified ``max |v - V*|`` over all stages and states: the largest possible value while stages are
            missing, then rounding alone.
        rounding: certified error of the stages swept so far.
        sweeps: stages swept.
        stage: first stage that is swept; H at the start, 0 when done.
    """

    v: Float[np.ndarray, "H1 S"]
    q: Float[np.ndarray, "H S A"]
    bound: float
    rounding: float
    sweeps: int
    stage: int


@dataclass(frozen=True)
class BackwardInduction:
    """Sweep the stages backward: ``v_h = max_a r_h + gamma P_h v_{h+1}``, ``v_H = 0``.

    Setting: finite horizon H, stage-dependent or stationary, ``0 <= gamma <= 1``.
    Guarantee: after H stages v is optimal and the greedy policy optimal among all policies, also those with memory
    [puterman2005, Thm. 4.5.1]; only rounding is left, and ``bound`` certifies it. The policy loses at most
    ``2 * bound``.

    Fields:
        tol: wanted ``max |v - V*|``, >= 0, in units of the value.
    """

    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> StagedState:
        """Zero values. Raises `DiscountError` for a model without horizon."""
        spec = access.spec
        if spec.horizon is None:
            raise DiscountError(
                f"BackwardInduction needs a finite horizon; {spec.name} has none: "
                "use ValueIteration or PolicyIteration, or make the model with horizon=H"
            )
        H, S, A = spec.horizon, spec.S, spec.A
        return StagedState(np.zeros((H + 1, S)), np.zeros((H, S, A)), largest_value(spec), 0.0, 0, H)

    def step(self, state: StagedState, access: Any) -> tuple[StagedState, Info]:
        """Sweep one stage; nothing is left to do once stage 0 is swept."""
        if state.stage == 0:
            return state, info(state)
        model, h = access.model, state.stage - 1
        v, q = state.v.copy(), state.q.copy()
        q[h] = stage_values(model, h, v)
        v[h] = np.max(q[h], axis=-1)
        size = float(np.max(np.abs(v[h + 1])))
        # the error of the last stage swept is not stored by stage: the running maximum bounds it
        rounding = max(state.rounding, stage_error(state.rounding, size, facts(model), gamma=model.gamma))
        bound = max(rounding, largest_value(access.spec)) if h else rounding
        access.meter.add("backups", model.S * model.A)
        after = StagedState(v, q, bound, rounding, state.sweeps + 1, h)
        return after, info(after)

    def policy(self, state: StagedState) -> TabularPolicy:
        """Greedy at every stage: loses at most ``2 * state.bound``."""
        return greedy_policy(state.q)

    def done(self, state: StagedState) -> bool:
        """True when all stages are swept and ``bound <= tol``; `NotSolvedError` when rounding exceeds ``tol``."""
        return state.stage == 0 and certified(state.bound, state.rounding, self.tol)


def stage_values(model: Any, h: int, v: Float[np.ndarray, "H1 S"]) -> Float[np.ndarray, "S A"]:
    """State-action values of stage h, from the values of stage h + 1."""
    return q_values(model.P_at(h), model.r_at(h), v[h + 1], gamma=model.gamma)


def largest_value(spec: Any) -> float:
    """An upper bound on ``|V*|`` of a finite-horizon model: the largest reward at every step."""
    reward = max(abs(x) for x in spec.reward_range)
    # models accept rows whose sum is off by ROW_SUM_TOL: the mass may grow by that factor at every step
    return float(reward * np.sum(discounts(spec.gamma * (1 + ROW_SUM_TOL), spec.horizon)) * (1 + 4 * UNIT))
