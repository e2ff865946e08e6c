"""Modified policy iteration: a few cheap sweeps of the current policy between greedy sweeps."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Array, Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import greedy_actions, q_values, restrict
from polytheory.reference.planning.certificate import (
    PlanningState,
    certified,
    check_settings,
    greedy_policy,
    info,
    start,
    swept,
)


@dataclass(frozen=True)
class ModifiedPolicyIteration:
    """Alternate one greedy sweep with ``order - 1`` sweeps of the greedy policy.

    Setting: finite discounted MDP.
    Update: ``v <- T v`` (which names the policy pi), then ``v <- (T_pi)^(order - 1) v``. ``order = 1`` is value
    iteration; as the order grows the method becomes policy iteration [puterman1978; puterman2005, sec. 6.5].
    Guarantee: the certificate of `ValueIteration` at every greedy sweep, whatever the order.

    Fields:
        order: applications of the policy's operator per greedy sweep, the greedy one included; >= 1.
        tol, stop: as in `ValueIteration`.
    """

    order: int = 20
    tol: float = 1e-6
    stop: str = "span"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop)
        if int(self.order) != self.order or self.order < 1:
            raise SettingError(f"order = {self.order}; it must be a whole number >= 1 (1 is value iteration)")

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PlanningState:
        """Zero values."""
        return start(access, "ModifiedPolicyIteration")

    def step(self, state: PlanningState, access: Any) -> tuple[PlanningState, Info]:
        """Sweeps of the policy found last, then one greedy sweep, which certifies."""
        model = access.model
        v = state.v
        if state.sweeps and self.order > 1:
            P_pi, r_pi = restrict(model.P_at(), model.r_at(), greedy_actions(state.q))
            v = partial_evaluation(P_pi, r_pi, v, gamma=model.gamma, sweeps=self.order - 1)
            access.meter.add("backups", model.S * (self.order - 1))
        after = swept(model, v, state.sweeps + 1, self.stop)
        access.meter.add("backups", model.S * model.A)
        return after, info(after)

    def policy(self, state: PlanningState) -> TabularPolicy:
        """Greedy in the last sweep: loses at most ``2 * state.bound``."""
        return greedy_policy(state.q)

    def done(self, state: PlanningState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)


def partial_evaluation(
    P_pi: Array, r_pi: Float[np.ndarray, " S"], v: Float[np.ndarray, " S"], *, gamma: float, sweeps: int
) -> Float[np.ndarray, " S"]:
    """``(T_pi)^sweeps v`` for a policy's transitions ``P_pi [S, S]`` and rewards ``r_pi [S]``."""
    for _ in range(sweeps):
        v = q_values(P_pi, r_pi, v, gamma=gamma)
    return v
