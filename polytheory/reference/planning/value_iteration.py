"""Value iteration with a certified error."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.policies import TabularPolicy
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
class ValueIteration:
    """Sweep ``v <- T v`` until the value is certified.

    Setting: finite discounted MDP.
    Guarantee: after n sweeps ``|v - V*| <= gamma^n |v_0 - V*|``; ``bound`` certifies it at every sweep, and the greedy
    policy of the last sweep loses at most ``2 * bound``: the classical rule that an eps/2-accurate value buys an
    eps-optimal policy [puterman2005, Thm. 6.3.1; span stop: Thm. 6.6.3 and Prop. 6.6.5].

    Fields:
        tol: wanted ``max |v - V*|``, >= 0, in units of the value.
        stop: "span" moves the value to the middle of MacQueen's interval after every sweep and certifies half the
            interval's width; "sup" keeps ``T v`` and certifies by contraction. The span stop never needs more sweeps,
            and far fewer where the chain mixes fast.
    """

    tol: float = 1e-6
    stop: str = "span"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PlanningState:
        """Zero values."""
        return start(access, "ValueIteration")

    def step(self, state: PlanningState, access: Any) -> tuple[PlanningState, Info]:
        """One sweep over all states."""
        model = access.model
        after = swept(model, state.v, state.sweeps + 1, self.stop)
        access.meter.add("backups", model.S * model.A)
        return after, info(after)

    def policy(self, state: PlanningState) -> TabularPolicy:
        """Greedy in the last sweep: loses at most ``2 * state.bound``."""
        return greedy_policy(state.q)

    def done(self, state: PlanningState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)
