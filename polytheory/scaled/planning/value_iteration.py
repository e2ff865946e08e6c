"""Value iteration over replicas or many models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.scaled.planning.certificate import (
    DTYPES,
    GreedyPolicies,
    PlanningState,
    certified,
    check_settings,
    info,
    start,
    swept,
)
from polytheory.scaled.planning.tensors import tensors


@dataclass(frozen=True)
class ValueIteration:
    """Sweep ``v <- T v`` until every replica is certified; see the reference for the theorem.

    Fields: ``tol`` wanted ``max |v - V*|`` >= 0; ``stop`` "span" or "sup"; ``dtype`` "float64" or "float32", whose rounding
    is part of the certificate.
    """

    tol: float = 1e-6
    stop: str = "span"
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop, self.dtype)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PlanningState:
        """Zero values."""
        return start(access, "ValueIteration", self.dtype)

    def step(self, state: PlanningState, access: Any) -> tuple[PlanningState, Info]:
        """One sweep over all states of all replicas."""
        known = tensors(access, DTYPES[self.dtype])
        after = swept(known, state.v, state.sweeps + 1, self.stop)
        access.meter.add("backups", access.spec.S * access.spec.A)
        return after, info(after)

    def policy(self, state: PlanningState) -> GreedyPolicies:
        """Greedy in the last sweep: loses at most ``2 * state.bound``."""
        return GreedyPolicies(state.q)

    def done(self, state: PlanningState) -> bool:
        """True when every ``bound <= tol``; `NotSolvedError` when this precision can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)
