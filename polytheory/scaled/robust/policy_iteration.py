"""Partial policy iteration over replicas: nature's own decision problem is solved with one linear system per round."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory._typing import Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError
from polytheory.models.ambiguity import Ambiguity, SharedBudget, TotalVariation, ambiguity
from polytheory.scaled.planning.certificate import certified, check_settings
from polytheory.scaled.robust.bellman import Sweep, robust_policy_sweep
from polytheory.scaled.robust.certificate import RobustPolicies, RobustState, info, inner_rounding, start, swept
from polytheory.scaled.robust.problem import problems

ROUNDS = 10_000


@dataclass(frozen=True)
class RobustPolicyIteration:
    """Partial policy iteration [ho2021]; see the reference.

    Fields: ``ambiguity`` by (s, a), ``speed``, ``tol``, ``stop`` as in the reference; ``dtype`` "float64" or "float32".
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    speed: float = 2.0
    tol: float = 1e-6
    stop: str = "span"
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, self.stop, self.dtype)
        if isinstance(ambiguity(self.ambiguity), SharedBudget):
            raise SettingError(
                "RobustPolicyIteration with a shared budget is in the reference; here use RobustValueIteration"
            )
        if not self.speed > 1:
            raise SettingError(
                f"speed = {self.speed}; the evaluation must get better faster than gamma: take more than 1, try 2"
            )

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> RobustState:
        """Zero values."""
        return start(access, "RobustPolicyIteration", self.dtype)

    def step(self, state: RobustState, access: Any) -> tuple[RobustState, Info]:
        """Evaluate the policies of the last sweep, then one sweep, which improves and certifies."""
        ball, v, gamma = ambiguity(self.ambiguity), state.v, access.spec.gamma
        if state.sweeps:
            tolerance = state.bound * (1 - gamma) * gamma ** (self.speed * state.sweeps)
            v, sweeps = nature_iteration(ball, access, state.pi, v, tolerance)
            access.meter.add("backups", sweeps * access.spec.S * access.spec.A)
        after = swept(ball, access, v, state.sweeps + 1, self.stop)
        access.meter.add("backups", access.spec.S * access.spec.A)
        return after, info(after)

    def policy(self, state: RobustState) -> RobustPolicies:
        """The policies of the last sweep."""
        return RobustPolicies(state.pi)

    def done(self, state: RobustState) -> bool:
        """True when every ``bound <= tol``; `NotSolvedError` when this precision can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)


def nature_iteration(
    ball: Ambiguity,
    access: Any,
    pi: Float[torch.Tensor, "n S A"],
    v: Float[torch.Tensor, "n S"],
    tolerance: Float[torch.Tensor, " n"],
) -> tuple[Float[torch.Tensor, "n S"], int]:
    """Nature's policy iteration against ``pi``; a replica that has reached its tolerance waits for the others."""
    problem = problems(access, v.dtype)[0]
    for i in range(1, ROUNDS):
        sweep = robust_policy_sweep(ball, problem, pi, v)
        floor = 4 * (sweep.gap.double() + inner_rounding(access.model, problem, v, sweep.v)) / (1 - problem.gamma)
        near = (sweep.v - v).abs().amax(-1).double() <= torch.maximum(tolerance, floor)
        if bool(near.all()):
            return sweep.v, i
        v = torch.where(near[:, None], v, value_under(pi, sweep, v, problem.gamma))
    return v, ROUNDS


def value_under(
    pi: Float[torch.Tensor, "n S A"], sweep: Sweep, v: Float[torch.Tensor, "n S"], gamma: float
) -> Float[torch.Tensor, "n S"]:
    """The policies' values under the kernel of ``sweep = L_pi v``: what it adds to ``gamma P v`` is paid at once."""
    n, S = v.shape
    weighed = pi[..., None] * sweep.law
    if sweep.index is None:
        P = weighed.sum(2)
    else:
        P = torch.zeros(n, S, S, dtype=v.dtype, device=v.device)
        P.scatter_add_(-1, sweep.index.reshape(n, S, -1), weighed.reshape(n, S, -1))
    paid = sweep.v - gamma * (P @ v[..., None])[..., 0]
    return torch.linalg.solve(torch.eye(S, dtype=v.dtype, device=v.device) - gamma * P, paid)
