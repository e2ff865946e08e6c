"""Partial policy iteration: improve the policy, then evaluate it against nature to a tolerance that shrinks fast enough."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.models.ambiguity import Ambiguity, TotalVariation, ambiguity
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.certificate import certified, check_settings
from polytheory.reference.robust.certificate import RobustState, info, start, swept
from polytheory.reference.robust.evaluation import nature_iteration


@dataclass(frozen=True)
class RobustPolicyIteration:
    """Partial policy iteration [ho2021]: each step finds the greedy policy and solves nature's own decision problem against it.

    The evaluation is stopped at a tolerance ``eps_k <= gamma^speed eps_{k-1}``, which keeps the geometric rate. Improving both
    players at once (Hoffman and Karp's step for games) can cycle and is not offered.

    Fields:
        ambiguity, tol, stop: as in `RobustValueIteration`.
        speed: exponent > 1 of the shrinking tolerance.

    Raises `SettingError`, `UnknownNameError`.
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    speed: float = 2.0
    tol: float = 1e-6
    stop: str = "span"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop)
        ambiguity(self.ambiguity)
        if not self.speed > 1:
            raise SettingError(
                f"speed = {self.speed}; the evaluation must get better faster than gamma: take more than 1, try 2"
            )

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> RobustState:
        """Zero values."""
        return start(access, "RobustPolicyIteration")

    def step(self, state: RobustState, access: Any) -> tuple[RobustState, Info]:
        """Evaluate the policy of the last sweep, then one sweep, which improves and certifies."""
        ball, model, v = ambiguity(self.ambiguity), access.model, state.v
        if state.sweeps:
            tolerance = state.bound * (1 - model.gamma) * model.gamma ** (self.speed * state.sweeps)
            v, sweeps = nature_iteration(ball, model, state.pi, v, tolerance)
            access.meter.add("backups", sweeps * model.S * model.A)
        after, _ = swept(ball, model, v, state.sweeps + 1, self.stop)
        access.meter.add("backups", model.S * model.A)
        return after, info(after)

    def policy(self, state: RobustState) -> TabularPolicy:
        """The policy of the last sweep; with a shared budget it may randomise."""
        return TabularPolicy(state.pi)

    def done(self, state: RobustState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)
