"""Robust value iteration, and its modified form with a few sweeps of the policy in between."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.models.ambiguity import Ambiguity, TotalVariation, ambiguity
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.certificate import certified, check_settings
from polytheory.reference.robust.bellman import robust_policy_sweep
from polytheory.reference.robust.certificate import RobustState, info, start, swept


@dataclass(frozen=True)
class RobustValueIteration:
    """Sweep ``v <- L v`` until the robust value is certified [iyengar2005; nilim2005].

    Setting: finite discounted MDP, a rectangular ambiguity set around its transition laws.
    Guarantee: ``|v_n - V*| <= gamma^n |v_0 - V*|``; ``bound`` certifies it at every sweep, gaps of the inner problems included.

    Fields:
        ambiguity: a set of `polytheory.models.ambiguity`, or its text such as ``"kl:0.1"``.
        order: applications of an operator per step: 1 is value iteration; more are sweeps of the policy found last against its
            worst case (modified policy iteration) [kaufman2013], which certify as well as one sweep does and cost less where
            finding the best action is dear.
        tol: wanted ``max |v - V*|``, >= 0, in units of the value. stop: "span" or "sup", as in `ValueIteration`.

    Raises `SettingError`, `UnknownNameError`.
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    order: int = 1
    tol: float = 1e-6
    stop: str = "span"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop)
        ambiguity(self.ambiguity)
        if int(self.order) != self.order or self.order < 1:
            raise SettingError(f"order = {self.order}; it must be a whole number >= 1 (1 is value iteration)")

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> RobustState:
        """Zero values."""
        return start(access, "RobustValueIteration")

    def step(self, state: RobustState, access: Any) -> tuple[RobustState, Info]:
        """Sweeps of the policy found last, then one of the optimal operator, which certifies."""
        ball, model, v = ambiguity(self.ambiguity), access.model, state.v
        for _ in range(self.order - 1 if state.sweeps else 0):
            v = robust_policy_sweep(ball, model, state.pi, v).v
            access.meter.add("backups", model.S * model.A)
        after, _ = swept(ball, model, v, state.sweeps + 1, self.stop)
        access.meter.add("backups", model.S * model.A)
        return after, info(after)

    def policy(self, state: RobustState) -> TabularPolicy:
        """The policy of the last sweep; with a shared budget it may randomise."""
        return TabularPolicy(state.pi)

    def done(self, state: RobustState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)
