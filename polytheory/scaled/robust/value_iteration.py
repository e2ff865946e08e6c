"""Robust value iteration over replicas, and its modified form."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.models.ambiguity import Ambiguity, SharedBudget, TotalVariation, ambiguity
from polytheory.scaled.planning.certificate import certified, check_settings
from polytheory.scaled.robust.bellman import robust_policy_sweep
from polytheory.scaled.robust.certificate import RobustPolicies, RobustState, info, start, swept
from polytheory.scaled.robust.problem import problems


@dataclass(frozen=True)
class RobustValueIteration:
    """Sweep ``v <- L v`` until every replica is certified; see the reference for the theorem.

    Fields: ``ambiguity``, ``order``, ``tol``, ``stop`` as in the reference (a shared budget needs ``order = 1``);
    ``dtype`` "float64" or "float32", whose rounding is part of the certificate.
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    order: int = 1
    tol: float = 1e-6
    stop: str = "span"
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop, self.dtype)
        ball = ambiguity(self.ambiguity)
        if int(self.order) != self.order or self.order < 1:
            raise SettingError(f"order = {self.order}; it must be a whole number >= 1 (1 is value iteration)")
        if self.order > 1 and isinstance(ball, SharedBudget):
            raise SettingError(f"order = {self.order} with a shared budget; the scaled room takes order = 1 there")

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> RobustState:
        """Zero values."""
        return start(access, "RobustValueIteration", self.dtype)

    def step(self, state: RobustState, access: Any) -> tuple[RobustState, Info]:
        """Sweeps of the policy found last, then one of the optimal operator, which certifies."""
        ball, v, backups = ambiguity(self.ambiguity), state.v, access.spec.S * access.spec.A
        for _ in range(self.order - 1 if state.sweeps else 0):
            v = robust_policy_sweep(ball, problems(access, v.dtype)[0], state.pi, v).v
            access.meter.add("backups", backups)
        after = swept(ball, access, v, state.sweeps + 1, self.stop)
        access.meter.add("backups", backups)
        return after, info(after)

    def policy(self, state: RobustState) -> RobustPolicies:
        """The policies of the last sweep."""
        return RobustPolicies(state.pi)

    def done(self, state: RobustState) -> bool:
        """True when every ``bound <= tol``; `NotSolvedError` when this precision can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)
