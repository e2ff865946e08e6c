"""Robust backward induction: finite horizon, nature chooses a law for every stage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import DiscountError
from polytheory.models.ambiguity import Ambiguity, TotalVariation, ambiguity
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.backward_induction import largest_value
from polytheory.reference.planning.certificate import certified, check_settings
from polytheory.reference.robust.bellman import robust_sweep
from polytheory.reference.robust.certificate import info, inner_rounding


@dataclass(frozen=True, eq=False)
class RobustStagedState:
    """State of robust backward induction.

    Fields: ``v`` [H+1, S] robust values, zeros where ``stage`` has not come yet; ``pi`` [H, S, A]; ``bound``, ``rounding``,
    ``gap``, ``sweeps`` as in `RobustState`; ``stage`` first stage swept, H at the start, 0 when done.
    """

    v: Float[np.ndarray, "H1 S"]
    pi: Float[np.ndarray, "H S A"]
    bound: float
    rounding: float
    gap: float
    sweeps: int
    stage: int


@dataclass(frozen=True)
class RobustBackwardInduction:
    """Sweep the stages backward: ``v_h = L_h v_{h+1}``, ``v_H = 0`` [iyengar2005; nilim2005].

    Setting: finite horizon, sets rectangular by stage too.

    Fields: ``ambiguity`` as in `RobustValueIteration`; ``tol`` wanted ``max |v - V*|``.

    Raises `SettingError`, `UnknownNameError`.
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol)
        ambiguity(self.ambiguity)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> RobustStagedState:
        """Zero values. Raises `DiscountError` for a model without horizon."""
        spec = access.spec
        if spec.horizon is None:
            raise DiscountError(
                f"RobustBackwardInduction needs a finite horizon; {spec.name} has none: use RobustValueIteration, or make the "
                "model with horizon=H"
            )
        H, S, A = spec.horizon, spec.S, spec.A
        return RobustStagedState(np.zeros((H + 1, S)), np.full((H, S, A), 1 / A), largest_value(spec), 0.0, 0.0, 0, H)

    def step(self, state: RobustStagedState, access: Any) -> tuple[RobustStagedState, Info]:
        """Sweep one stage; nothing is left to do once stage 0 is swept."""
        if state.stage == 0:
            return state, info(state)
        model, h = access.model, state.stage - 1
        v, pi = state.v.copy(), state.pi.copy()
        sweep = robust_sweep(ambiguity(self.ambiguity), model, v[h + 1], h)
        v[h], pi[h] = sweep.v, sweep.policy
        own = sweep.gap + inner_rounding(model, v[h], v[h + 1])
        rounding = max(state.rounding, own + model.gamma * state.rounding)
        bound = max(rounding, largest_value(access.spec)) if h else rounding
        access.meter.add("backups", model.S * model.A)
        after = RobustStagedState(v, pi, bound, rounding, max(state.gap, sweep.gap), state.sweeps + 1, h)
        return after, info(after)

    def policy(self, state: RobustStagedState) -> TabularPolicy:
        """The policy of every stage."""
        return TabularPolicy(state.pi)

    def done(self, state: RobustStagedState) -> bool:
        """True when all stages are swept and ``bound <= tol``; `NotSolvedError` when rounding exceeds ``tol``."""
        return state.stage == 0 and certified(state.bound, state.rounding, self.tol, final=True)
