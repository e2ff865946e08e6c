"""What the batched robust planners know after a sweep; derived in the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch

from polytheory._typing import Float
from polytheory.models.ambiguity import Ambiguity
from polytheory.policies import Memoryless
from polytheory.scaled.planning.bellman import UNIT, midpoint_correction, span_bound, sup_norm_bound
from polytheory.scaled.planning.certificate import DTYPES, check_discounted
from polytheory.scaled.planning.tensors import model_facts
from polytheory.scaled.robust.bellman import Sweep, robust_sweep
from polytheory.scaled.robust.problem import Problem, problems


@dataclass(eq=False)
class RobustState:
    """The reference's state with a leading replica axis: ``v`` [n, S], ``pi`` [n, S, A], ``bound``, ``rounding``, ``gap`` [n]
    (float64), ``sweeps``."""

    v: Float[torch.Tensor, "n S"]
    pi: Float[torch.Tensor, "n S A"]
    bound: Float[torch.Tensor, " n"]
    rounding: Float[torch.Tensor, " n"]
    gap: Float[torch.Tensor, " n"]
    sweeps: int


@dataclass(frozen=True, eq=False)
class RobustPolicies(Memoryless):
    """One policy per replica, ``pi`` [n, S, A] or by stage [n, H, S, A]."""

    pi: Float[torch.Tensor, "n *H S A"]

    def probs(self, m: Any, h: int, s: torch.Tensor) -> torch.Tensor:
        """Action probabilities [rows, A] in states ``s`` [rows], replica-major."""
        table = self.pi if self.pi.ndim == 3 else self.pi[:, h]
        rows = s.reshape(table.shape[0], -1)
        wide = rows[..., None].expand(*rows.shape, table.shape[-1])
        return table.gather(1, wide).reshape(-1, table.shape[-1]).double()


def start(access: Any, who: str, dtype: str) -> RobustState:
    """Zero values."""
    spec, n = access.spec, access.replicas
    check_discounted(spec, who)
    scale = max(abs(x) for x in spec.reward_range) / (1 - spec.gamma) * (1 + 4 * 2.0**-53)
    place: dict[str, Any] = {"device": access.device}
    return RobustState(
        torch.zeros(n, spec.S, dtype=DTYPES[dtype], **place),
        torch.full((n, spec.S, spec.A), 1 / spec.A, dtype=DTYPES[dtype], **place),
        torch.full((n,), scale, dtype=torch.float64, **place), torch.zeros(n, dtype=torch.float64, **place),
        torch.zeros(n, dtype=torch.float64, **place), 0,
    )  # fmt: skip


def swept(ball: Ambiguity, access: Any, v: Float[torch.Tensor, "n S"], sweeps: int, stop: str) -> RobustState:
    """One robust sweep from ``v``, and what it certifies."""
    problem = problems(access, v.dtype)[0]
    sweep = robust_sweep(ball, problem, v)
    value, bound, rounding = certify(v, sweep, problem, access.model, stop=stop)
    return RobustState(value, sweep.policy, bound, rounding, sweep.gap.double(), sweeps)


def certify(
    v: Float[torch.Tensor, "n S"], sweep: Sweep, problem: Problem, model: Any, *, stop: str
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Value, certified error and its rounding part after ``sweep = L v``."""
    gamma = problem.gamma
    if stop == "span":
        value, analytic = midpoint_correction(v, sweep.v, gamma), span_bound(v, sweep.v, gamma)
    else:
        value, analytic = sweep.v, sup_norm_bound(v, sweep.v, gamma)
    rounding = (sweep.gap.double() + inner_rounding(model, problem, v, value)) / (1 - gamma)
    return value, analytic.double() + rounding, rounding


def inner_rounding(model: Any, problem: Problem, *values: Float[torch.Tensor, "n S"]) -> Float[torch.Tensor, " n"]:
    """What rounding may add to an entry of a sweep beside the gap, [n] in float64."""
    unit = UNIT[problem.p.dtype]
    size = torch.stack([v.abs().amax(-1).double() for v in values]).amax(0)
    reward = max(abs(x) for x in model.reward_range)
    terms = problem.p.shape[-1] + (problem.index is not None)  # one more outcome where the worst state is added
    return (8 * (terms + 4) * unit + row_gap(model, unit)) * (reward + problem.gamma * size)


_GAPS: WeakKeyDictionary[Any, dict[float, float]] = WeakKeyDictionary()


def row_gap(model: Any, unit: float) -> float:
    """How far the sum of a nominal row may be from 1, storage and the sum itself included; computed once."""
    known = _GAPS.setdefault(model, {})
    if unit not in known:
        known[unit] = model_facts(model, unit)[1]
    return known[unit]


def info(state: Any) -> dict[str, Any]:
    """What a step logs."""
    logged = {name: getattr(state, name).cpu().numpy() for name in ("bound", "rounding", "gap")}
    return {**logged, "sweeps": state.sweeps}
