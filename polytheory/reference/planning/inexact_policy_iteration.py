"""Policy iteration with an inexact Krylov solver inside, for large sparse models."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Array, Float
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import SettingError, UnknownNameError
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import greedy_actions, q_values, restrict
from polytheory.reference.planning.certificate import (
    PlanningState,
    certified,
    check_settings,
    greedy_policy,
    info,
    start,
    swept,
)

SOLVERS = ("gmres", "bicgstab")


@dataclass(frozen=True)
class InexactPolicyIteration:
    """Evaluate each greedy policy only as well as the current error deserves, by GMRES or BiCGSTAB.

    Setting: finite discounted MDP, typically large and slowly mixing, where sweeps are slow and LU fills in.
    Update: find v with ``|r_pi + gamma P_pi v - v| <= forcing * |r_pi + gamma P_pi v_0 - v_0|`` (2-norm) from the
    current v_0, then one greedy sweep [gargiani2024].
    Guarantee: the sweep certifies the result like any other. A Krylov result is kept only when its certified interval
    is at most ``gamma`` times the last one; otherwise the solve goes on to ``forcing^2``, then ``forcing^3``, and at
    last the step is a plain sweep, which achieves that. So the interval shrinks by ``gamma`` or better at every step,
    whatever the inner solver does.

    Fields:
        forcing: relative accuracy of the inner solve, in (0, 1). Too loose a solve of a slowly mixing chain misleads the
            next policy, and the fallback sweeps are slow.
        inner: largest number of inner iterations, >= 1.
        solver: "bicgstab", or "gmres" (restarted every 30), which never diverges but may stall where drift dominates.
        tol: wanted ``max |v - V*|``, >= 0, in units of the value.
    """

    forcing: float = 0.001
    inner: int = 2000
    solver: str = "bicgstab"
    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol)
        if not 0 < self.forcing < 1:
            raise SettingError(f"forcing = {self.forcing}; it must lie in (0, 1)")
        if int(self.inner) != self.inner or self.inner < 1:
            raise SettingError(f"inner = {self.inner}; it must be a whole number >= 1")
        if self.solver not in SOLVERS:
            raise UnknownNameError("inner solver", self.solver, SOLVERS)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PlanningState:
        """Zero values."""
        return start(access, "InexactPolicyIteration")

    def step(self, state: PlanningState, access: Any) -> tuple[PlanningState, Info]:
        """Solve roughly for the last greedy policy's value, then sweep; fall back on a sweep where that gains less."""
        model, sweeps, products = access.model, state.sweeps, 0
        wanted = model.gamma * (state.bound - state.rounding)
        after, v = None, state.v
        if state.sweeps:
            P_pi, r_pi = restrict(model.P_at(), model.r_at(), greedy_actions(state.q))
            for accuracy in (self.forcing, self.forcing**2, self.forcing**3):
                v, applied = krylov_evaluation(
                    P_pi, r_pi, state.v, v, gamma=model.gamma, forcing=accuracy, inner=self.inner, solver=self.solver
                )
                sweeps, products = sweeps + 1, products + applied
                after = swept(model, v, sweeps)
                if after.bound - after.rounding <= wanted:
                    break
                after = None
        if after is None:
            after = swept(model, state.v, sweeps + 1)
        access.meter.add("backups", model.S * (model.A * (after.sweeps - state.sweeps) + products))
        return after, info(after) | {"inner": float(products)}

    def policy(self, state: PlanningState) -> TabularPolicy:
        """Greedy in the last sweep: loses at most ``2 * state.bound``."""
        return greedy_policy(state.q)

    def done(self, state: PlanningState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol)


def krylov_evaluation(
    P_pi: Array,
    r_pi: Float[np.ndarray, " S"],
    base: Float[np.ndarray, " S"],
    v: Float[np.ndarray, " S"],
    *,
    gamma: float,
    forcing: float,
    inner: int,
    solver: str,
) -> tuple[Float[np.ndarray, " S"], int]:
    """An approximate solution of ``(I - gamma P_pi) x = r_pi`` from ``v``, and the products with ``P_pi`` it took.

    Solves for the correction ``x - v``, whose right-hand side is the policy's Bellman residual at v, down to
    ``forcing`` times the residual at ``base`` (2-norms).
    """
    from scipy.sparse.linalg import LinearOperator, bicgstab, gmres

    applied = 0

    def apply(x: np.ndarray) -> np.ndarray:
        nonlocal applied
        applied += 1
        return x - gamma * (P_pi @ x)

    residual = q_values(P_pi, r_pi, v, gamma=gamma) - v
    goal = forcing * float(np.linalg.norm(q_values(P_pi, r_pi, base, gamma=gamma) - base))
    linear_operator: Any = LinearOperator
    operator = linear_operator((v.size, v.size), matvec=apply, dtype=np.float64)
    if solver == "gmres":
        cycle = min(30, v.size)
        correction, _ = gmres(operator, residual, rtol=0.0, atol=goal, restart=cycle, maxiter=-(-inner // cycle))
    else:
        correction, _ = bicgstab(operator, residual, rtol=0.0, atol=goal, maxiter=inner)
    # a broken-down solver may return anything; what it returns is judged by the sweep that follows
    return v + np.where(np.isfinite(correction), correction, 0.0), applied
