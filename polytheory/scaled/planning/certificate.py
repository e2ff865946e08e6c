"""What the batched planners know after a sweep, and how that is certified in floating point."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from polytheory._show import compact
from polytheory._typing import Float
from polytheory.errors import DiscountError, NotSolvedError, SettingError, UnknownNameError
from polytheory.models._check import ROW_SUM_TOL
from polytheory.policies import Memoryless
from polytheory.scaled.planning.bellman import (
    greedy_actions,
    midpoint_correction,
    q_values,
    residual_bound,
    rounding_bound,
    span_bound,
    sup_norm_bound,
)
from polytheory.scaled.planning.tensors import Tensors

STOPS = ("span", "sup")
DTYPES = {"float64": torch.float64, "float32": torch.float32}


@dataclass(eq=False)
class PlanningState:
    """The reference's state with a leading replica axis: ``v`` [n, S], ``q`` [n, S, A], ``bound`` [n] (float64),
    ``rounding`` [n] (float64), ``sweeps``.
    """

    v: Float[torch.Tensor, "n S"]
    q: Float[torch.Tensor, "n S A"]
    bound: Float[torch.Tensor, " n"]
    rounding: Float[torch.Tensor, " n"]
    sweeps: int

    __repr__ = compact


@dataclass(frozen=True, eq=False)
class GreedyPolicies(Memoryless):
    """One deterministic policy per replica, greedy in ``q`` [n, S, A] or by stage [n, H, S, A]."""

    q: Float[torch.Tensor, "n *H S A"]

    @property
    def actions(self) -> torch.Tensor:
        """Actions [n, S] or [n, H, S]."""
        return greedy_actions(self.q)

    def probs(self, m: Any, h: int, s: torch.Tensor) -> torch.Tensor:
        """Action probabilities [rows, A] in states ``s`` [rows], replica-major."""
        actions = self.actions if self.q.ndim == 3 else self.actions[:, h]
        taken = torch.gather(actions, 1, s.reshape(actions.shape[0], -1)).reshape(-1)
        return torch.nn.functional.one_hot(taken, self.q.shape[-1]).to(torch.float64)


def check_settings(tol: float, stop: str = "span", dtype: str = "float64") -> None:
    """Raise unless ``tol`` is a number >= 0 (`SettingError`) and ``stop`` and ``dtype`` are known (`UnknownNameError`)."""
    if not (tol >= 0 and tol != float("inf")):
        raise SettingError(f"tol = {tol}; it must be a finite number >= 0, in units of the value")
    if stop not in STOPS:
        raise UnknownNameError("stop", stop, STOPS)
    if dtype not in DTYPES:
        raise UnknownNameError("dtype", dtype, DTYPES)


def check_discounted(spec: Any, who: str) -> None:
    """Raise `DiscountError` unless the problem has a discount below 1 and no horizon."""
    if spec.horizon is not None:
        raise DiscountError(
            f"{who} solves discounted problems without end; {spec.name} has horizon = {spec.horizon}: "
            "use BackwardInduction, or make the model with horizon=None and gamma < 1"
        )


def start(access: Any, who: str, dtype: str) -> PlanningState:
    """The state before any sweep: ``v = 0`` with ``|V*| <= max |r| / (1 - gamma)``."""
    spec, n = access.spec, access.replicas
    check_discounted(spec, who)
    unit = 2.0**-53
    gap = 1 - spec.gamma * (1 + ROW_SUM_TOL)
    reward = max(abs(x) for x in spec.reward_range)
    scale = reward * (1 + 4 * unit) / gap if gap > 0 else (float("inf") if reward else 0.0)
    place = {"device": access.device}
    return PlanningState(
        torch.zeros(n, spec.S, dtype=DTYPES[dtype], **place),
        torch.zeros(n, spec.S, spec.A, dtype=DTYPES[dtype], **place),
        torch.full((n,), scale, dtype=torch.float64, **place),
        torch.zeros(n, dtype=torch.float64, **place),
        0,
    )


def swept(known: Tensors, v: Float[torch.Tensor, "n S"], sweeps: int, stop: str) -> PlanningState:
    """One greedy sweep from ``v``, and what it certifies."""
    P, r = batched(known, v)
    q = q_values(P, r, v, gamma=known.gamma)
    raw = q.amax(-1)
    if stop == "span":
        value, analytic = midpoint_correction(v, raw, known.gamma), span_bound(v, raw, known.gamma)
    else:
        value, analytic = raw, sup_norm_bound(v, raw, known.gamma)
    rounding = _rounding(v, raw, value, known)
    return PlanningState(value, q, analytic.double() + rounding, rounding, sweeps)


def batched(known: Tensors, v: torch.Tensor) -> tuple[Any, torch.Tensor]:
    """Stationary transitions, and rewards with the replica axis of ``v``."""
    P, r = known.stage(0)
    return P, r.expand(v.shape[0], *r.shape[-2:])


def residual_certificate(known: Tensors, v: torch.Tensor, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Certified ``max |v - V*|`` of any v from its state-action values q, and the part owed to rounding, [n] each."""
    raw = q.amax(-1)
    rounding = _rounding(v, raw, v, known)
    return residual_bound(raw - v, known.gamma).double() + rounding, rounding


def _rounding(v: torch.Tensor, raw: torch.Tensor, value: torch.Tensor, known: Tensors) -> torch.Tensor:
    size = torch.stack([x.abs().amax(-1) for x in (v, raw, value)]).amax(0).double()
    change = (raw - v).abs().amax(-1).double()
    gamma, reward = (x.double() if isinstance(x, torch.Tensor) else x for x in (known.gamma, known.reward))
    return rounding_bound(size, reward, change, gamma=gamma, terms=known.terms, row_gap=known.row_gap, unit=known.unit)


def certified(bound: torch.Tensor, rounding: torch.Tensor, tol: float) -> bool:
    """True when every replica has ``bound <= tol``. Raises `NotSolvedError` when one never will."""
    left = ~(bound <= tol)
    if not bool(left.any()):
        return True
    stuck = left & (bound - rounding <= rounding)
    if bool(stuck.any()):
        i = int(torch.argmax(stuck.int()))
        raise NotSolvedError(
            f"tol = {tol:.3g} cannot be certified in this precision: replica {i} has bound {float(bound[i]):.3g}, of which "
            f"rounding is {float(rounding[i]):.3g}; ask for tol >= {3 * float(rounding[i]):.1g}, or use float64"
        )
    return False


def info(state: Any) -> dict[str, Any]:
    """What a step logs: ``bound``, ``rounding`` [n], ``sweeps``."""
    return {"bound": state.bound.cpu().numpy(), "rounding": state.rounding.cpu().numpy(), "sweeps": state.sweeps}
