"""Modified policy iteration over replicas or many models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.scaled.planning.bellman import greedy_actions, q_values
from polytheory.scaled.planning.certificate import (
    DTYPES,
    GreedyPolicies,
    PlanningState,
    batched,
    certified,
    check_settings,
    info,
    start,
    swept,
)
from polytheory.scaled.planning.tensors import restrict, tensors


@dataclass(frozen=True)
class ModifiedPolicyIteration:
    """Alternate one greedy sweep with ``order - 1`` sweeps of the greedy policy; see the reference.

    Fields: ``order`` >= 1 (1 is value iteration); ``tol``, ``stop``, ``dtype`` as in `ValueIteration`.
    """

    order: int = 20
    tol: float = 1e-6
    stop: str = "span"
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop, self.dtype)
        if int(self.order) != self.order or self.order < 1:
            raise SettingError(f"order = {self.order}; it must be a whole number >= 1 (1 is value iteration)")

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PlanningState:
        """Zero values."""
        return start(access, "ModifiedPolicyIteration", self.dtype)

    def step(self, state: PlanningState, access: Any) -> tuple[PlanningState, Info]:
        """Sweeps of the policies found last, then one greedy sweep, which certifies."""
        known = tensors(access, DTYPES[self.dtype])
        S, A, v = access.spec.S, access.spec.A, state.v
        if state.sweeps and self.order > 1:
            P, r = batched(known, v)
            P_pi, r_pi = restrict(P, r, greedy_actions(state.q), known.rows)
            v = partial_evaluation(P_pi, r_pi, v, gamma=known.gamma, sweeps=self.order - 1)
            access.meter.add("backups", S * (self.order - 1))
        after = swept(known, v, state.sweeps + 1, self.stop)
        access.meter.add("backups", S * A)
        return after, info(after)

    def policy(self, state: PlanningState) -> GreedyPolicies:
        """Greedy in the last sweep: loses at most ``2 * state.bound``."""
        return GreedyPolicies(state.q)

    def done(self, state: PlanningState) -> bool:
        """True when every ``bound <= tol``; `NotSolvedError` when this precision can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)


def partial_evaluation(P_pi: Any, r_pi: Float[Any, "*n S"], v: Float[Any, "*n S"], *, gamma: Any, sweeps: int) -> Any:
    """``(T_pi)^sweeps v`` for the policies' transitions and rewards."""
    for _ in range(sweeps):
        v = q_values(P_pi, r_pi, v, gamma=gamma)
    return v
