"""Backward induction over replicas or many models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import DiscountError
from polytheory.models._check import ROW_SUM_TOL
from polytheory.scaled.planning.bellman import q_values, sweep_rounding
from polytheory.scaled.planning.certificate import DTYPES, GreedyPolicies, certified, check_settings, info
from polytheory.scaled.planning.tensors import Tensors, tensors
from polytheory.trajectories import discounts


@dataclass(eq=False)
class StagedState:
    """The reference's state with a leading replica axis: ``v`` [n, H+1, S], ``q`` [n, H, S, A], ``bound`` and ``rounding``
    [n] (float64), ``sweeps``, ``stage``.
    """

    v: Float[torch.Tensor, "n H1 S"]
    q: Float[torch.Tensor, "n H S A"]
    bound: Float[torch.Tensor, " n"]
    rounding: Float[torch.Tensor, " n"]
    sweeps: int
    stage: int


@dataclass(frozen=True)
class BackwardInduction:
    """Sweep the stages backward; see the reference for the theorem. Fields: ``tol`` and ``dtype`` as in `ValueIteration`."""

    tol: float = 1e-6
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, dtype=self.dtype)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> StagedState:
        """Zero values. Raises `DiscountError` for a model without horizon."""
        spec, n = access.spec, access.replicas
        if spec.horizon is None:
            raise DiscountError(
                f"BackwardInduction needs a finite horizon; {spec.name} has none: "
                "use ValueIteration or PolicyIteration, or make the model with horizon=H"
            )
        place = {"dtype": DTYPES[self.dtype], "device": access.device}
        zero = torch.zeros(n, dtype=torch.float64, device=access.device)
        v = torch.zeros(n, spec.horizon + 1, spec.S, **place)
        q = torch.zeros(n, spec.horizon, spec.S, spec.A, **place)
        return StagedState(v, q, zero + largest_value(spec), zero, 0, spec.horizon)

    def step(self, state: StagedState, access: Any) -> tuple[StagedState, Info]:
        """Sweep one stage; nothing is left to do once stage 0 is swept."""
        if state.stage == 0:
            return state, info(state)
        known, h = tensors(access, DTYPES[self.dtype]), state.stage - 1
        v, q = state.v.clone(), state.q.clone()
        q[:, h] = stage_values(known, h, v)
        v[:, h] = q[:, h].amax(-1)
        size = v[:, h + 1].abs().amax(-1).double()
        rounding = torch.maximum(state.rounding, stage_error(state.rounding, size, known))
        bound = torch.clamp(rounding, min=largest_value(access.spec)) if h else rounding
        access.meter.add("backups", access.spec.S * access.spec.A)
        after = StagedState(v, q, bound, rounding, state.sweeps + 1, h)
        return after, info(after)

    def policy(self, state: StagedState) -> GreedyPolicies:
        """Greedy at every stage: loses at most ``2 * state.bound``."""
        return GreedyPolicies(state.q)

    def done(self, state: StagedState) -> bool:
        """True when all stages are swept and certified; `NotSolvedError` when rounding exceeds ``tol``."""
        return state.stage == 0 and certified(state.bound, state.rounding, self.tol)


def stage_values(known: Tensors, h: int, v: Float[torch.Tensor, "n H1 S"]) -> Float[torch.Tensor, "n S A"]:
    """State-action values of stage h, from the values of stage h + 1."""
    P, r = known.stage(h)
    return q_values(P, r.expand(v.shape[0], *r.shape[-2:]), v[:, h + 1], gamma=known.gamma)


def stage_error(next_error: torch.Tensor, value: torch.Tensor, known: Tensors) -> torch.Tensor:
    """Certified error of one backward stage: its own rounding, and the next stage's error carried through it."""
    gamma, reward = (x.double() if isinstance(x, torch.Tensor) else x for x in (known.gamma, known.reward))
    local = sweep_rounding(value, reward, gamma=gamma, terms=known.terms, unit=known.unit)
    return local + gamma * (1 + known.row_gap) * next_error


def largest_value(spec: Any) -> float:
    """An upper bound on ``|V*|`` of a finite-horizon model: the largest reward at every step."""
    reward = max(abs(x) for x in spec.reward_range)
    return float(reward * discounts(spec.gamma * (1 + ROW_SUM_TOL), spec.horizon).sum()) * (1 + 4 * 2.0**-53)
