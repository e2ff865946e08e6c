"""Robust backward induction over replicas."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import DiscountError
from polytheory.models._check import ROW_SUM_TOL
from polytheory.models.ambiguity import Ambiguity, TotalVariation, ambiguity
from polytheory.scaled.planning.certificate import DTYPES, certified, check_settings
from polytheory.scaled.robust.bellman import robust_sweep
from polytheory.scaled.robust.certificate import RobustPolicies, info, inner_rounding
from polytheory.scaled.robust.problem import problems
from polytheory.trajectories import discounts


@dataclass(eq=False)
class RobustStagedState:
    """The reference's state with a leading replica axis: ``v`` [n, H+1, S], ``pi`` [n, H, S, A], ``bound``,
    ``rounding``, ``gap`` [n], ``sweeps``, ``stage``."""

    v: Float[torch.Tensor, "n H1 S"]
    pi: Float[torch.Tensor, "n H S A"]
    bound: Float[torch.Tensor, " n"]
    rounding: Float[torch.Tensor, " n"]
    gap: Float[torch.Tensor, " n"]
    sweeps: int
    stage: int


@dataclass(frozen=True)
class RobustBackwardInduction:
    """Sweep the stages backward: ``v_h = L_h v_{h+1}``, ``v_H = 0``; see the reference.

    Fields: ``ambiguity``, ``tol``, ``dtype`` as in `RobustValueIteration`.
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    tol: float = 1e-6
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, dtype=self.dtype)
        ambiguity(self.ambiguity)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> RobustStagedState:
        """Zero values. Raises `DiscountError` for a model without horizon."""
        spec, n = access.spec, access.replicas
        if spec.horizon is None:
            raise DiscountError(
                f"RobustBackwardInduction needs a finite horizon; {spec.name} has none: use RobustValueIteration, or make the "
                "model with horizon=H"
            )
        H, S, A, dtype, place = spec.horizon, spec.S, spec.A, DTYPES[self.dtype], {"device": access.device}
        none = torch.zeros(n, dtype=torch.float64, **place)
        return RobustStagedState(
            torch.zeros(n, H + 1, S, dtype=dtype, **place), torch.full((n, H, S, A), 1 / A, dtype=dtype, **place),
            none + largest_value(spec), none, none.clone(), 0, H,
        )  # fmt: skip

    def step(self, state: RobustStagedState, access: Any) -> tuple[RobustStagedState, Info]:
        """Sweep one stage; nothing is left to do once stage 0 is swept."""
        if state.stage == 0:
            return state, info(state)
        h, stages = state.stage - 1, problems(access, state.v.dtype)
        problem = stages[h if len(stages) > 1 else 0]
        sweep = robust_sweep(ambiguity(self.ambiguity), problem, state.v[:, h + 1])
        v, pi = state.v.clone(), state.pi.clone()
        v[:, h], pi[:, h] = sweep.v, sweep.policy
        gap = sweep.gap.double()
        own = gap + inner_rounding(access.model, problem, v[:, h], v[:, h + 1])
        rounding = torch.maximum(state.rounding, own + problem.gamma * state.rounding)
        bound = rounding.clamp(min=largest_value(access.spec)) if h else rounding
        access.meter.add("backups", access.spec.S * access.spec.A)
        after = RobustStagedState(v, pi, bound, rounding, torch.maximum(state.gap, gap), state.sweeps + 1, h)
        return after, info(after)

    def policy(self, state: RobustStagedState) -> RobustPolicies:
        """The policies of every stage."""
        return RobustPolicies(state.pi)

    def done(self, state: RobustStagedState) -> bool:
        """True when all stages are swept and ``bound <= tol``."""
        return state.stage == 0 and certified(state.bound, state.rounding, self.tol)


def largest_value(spec: Any) -> float:
    """An upper bound on the values of a finite-horizon model: the largest reward at every step."""
    reward = max(abs(x) for x in spec.reward_range)
    return float(reward * discounts(spec.gamma * (1 + ROW_SUM_TOL), spec.horizon).sum() * (1 + 4 * 2.0**-53))
