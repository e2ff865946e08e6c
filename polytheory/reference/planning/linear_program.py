"""Planning as a linear program, with a primal-dual pair that is solved again from HiGHS' basis."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, ClassVar

import numpy as np
import scipy.sparse as sp

from polytheory._typing import Float, Int
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import NotSolvedError
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.bellman import q_values, restrict
from polytheory.reference.planning.certificate import (
    PlanningState,
    certified,
    check_settings,
    greedy_policy,
    info,
    residual_certificate,
    start,
)
from polytheory.reference.planning.evaluation import solve_linear
from polytheory.reference.planning.policy_iteration import PolicyState, feigned_gain, improve
from polytheory.reference.planning.rational import exact_optimum


@dataclass(frozen=True, eq=False)
class ProgramState(PlanningState):
    """`PlanningState` and the primal-dual pair.

    Fields:
        actions: [S] the optimal basis: one action per state (int64).
        occupancy: [S, A] dual solution, discounted visits from uniform start states; sums to ``1 / (1 - gamma)``.
        gap: primal value of a feasible point minus dual value, in units of the average value over states.
        pivots: improvements that HiGHS' basis still needed.
    """

    actions: Int[np.ndarray, " S"]
    occupancy: Float[np.ndarray, "S A"]
    gap: float
    pivots: int


@dataclass(frozen=True)
class LinearProgram:
    """Minimise ``alpha . v`` subject to ``v >= r + gamma P v``; the dual variables are occupancies.

    Setting: finite discounted MDP; ``alpha`` is uniform, so that every state is visited and the optimal v is unique.
    Guarantee: basic dual solutions are deterministic policies [puterman2005, Thm. 6.9.1 and 6.9.4]. HiGHS works to
    1e-7, which is worth 1e-7 / (1 - gamma) here, so only its *basis* is taken: the policy's v and occupancy are solved
    from it by LU, or over the rationals, and repaired by simplex pivots (policy improvements) if it was not optimal.

    Fields:
        exact: rational arithmetic (at most 24 states): ``bound`` is then the rounding of v to doubles.
        tol: wanted ``max |v - V*|``, >= 0, in units of the value.
    """

    exact: bool = False
    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> ProgramState:
        """Zero values, no visits."""
        zero = start(access, "LinearProgram")
        actions = np.zeros(zero.v.size, dtype=np.int64)
        return ProgramState(**vars(zero), actions=actions, occupancy=np.zeros_like(zero.q), gap=zero.bound, pivots=0)

    def step(self, state: ProgramState, access: Any) -> tuple[ProgramState, Info]:
        """Solve the whole program."""
        model = access.model
        basis = highs_basis(model)
        after = _solve_rational(model, basis) if self.exact else _solve_float(model, basis)
        access.meter.add("backups", model.S * model.A * after.pivots)
        return after, info(after) | {"gap": after.gap, "pivots": after.pivots}

    def policy(self, state: ProgramState) -> TabularPolicy:
        """Greedy in ``q``: loses at most ``2 * state.bound``."""
        return greedy_policy(state.q)

    def done(self, state: ProgramState) -> bool:
        """True when ``bound <= tol``; `NotSolvedError` when float64 can never certify ``tol``."""
        return certified(state.bound, state.rounding, self.tol, final=state.sweeps > 0)


def highs_basis(model: TabularMDP) -> Int[np.ndarray, " S"]:
    """The action that HiGHS' dual solution puts most weight on, for every state.

    Raises `NotSolvedError` with HiGHS' own words when it fails.
    """
    from scipy.optimize import linprog

    S, A = model.S, model.A
    P: Any = model.P_at()
    rows = sp.csr_matrix(P if sp.issparse(P) else P.reshape(S * A, S))
    state_of_row = sp.csr_matrix((np.ones(S * A), np.repeat(np.arange(S), A), np.arange(S * A + 1)), shape=(S * A, S))
    found = linprog(
        np.full(S, 1 / S), A_ub=model.gamma * rows - state_of_row, b_ub=-model.r_at().ravel(), bounds=(None, None),
        method="highs",
    )  # fmt: skip
    if found.status != 0:
        raise NotSolvedError(f"HiGHS did not solve the program of {model.name}: {found.message}")
    return np.argmax(-found.ineqlin.marginals.reshape(S, A), axis=1)


def _solve_float(model: TabularMDP, actions: Int[np.ndarray, " S"]) -> ProgramState:
    P, r, gamma, S = model.P_at(), model.r_at(), model.gamma, model.S
    pivots = 0
    while True:
        P_pi, r_pi = restrict(P, r, actions)
        v = solve_linear(P_pi, r_pi, gamma=gamma)
        q = q_values(P, r, v, gamma=gamma)
        bound, rounding = residual_certificate(model, v, q)
        pivots += 1
        before = PolicyState(v, q, bound, rounding, pivots, actions, settled=False)
        better = improve(q, actions, gain=feigned_gain(model, before))
        if np.array_equal(better, actions):
            break
        actions = better
    visits = solve_linear(P_pi, np.full(S, 1 / S), gamma=gamma, transpose=True)
    x = np.where(np.arange(model.A) == actions[:, None], visits[:, None], 0.0)
    gap = duality_gap(v, q, x, r, gamma=gamma)
    return ProgramState(v, q, bound, rounding, pivots, actions, x, gap, pivots - 1)


def duality_gap(
    v: Float[np.ndarray, " S"], q: Float[np.ndarray, "S A"], x: Float[np.ndarray, "S A"], r: Float[np.ndarray, "S A"],
    *, gamma: float,
) -> float:  # fmt: skip
    """Primal minus dual value: v is lifted by a constant until ``v >= q`` holds everywhere, which makes it feasible."""
    lift = max(0.0, float(np.max(np.max(q, axis=-1) - v))) / (1 - gamma)
    return float(np.mean(v) + lift - np.sum(x * r))


def _solve_rational(model: TabularMDP, basis: Int[np.ndarray, " S"]) -> ProgramState:
    S, A = model.S, model.A
    found = exact_optimum(model, np.full(S, 1 / S), basis)
    v = np.array([float(x) for x in found.v])
    error = max(abs(Fraction(float(y)) - x) for x, y in zip(found.v, v, strict=True))
    bound = float(np.nextafter(float(error), np.inf)) if error else 0.0  # rounded up: a bound must not round down
    visits = np.array([float(x) for x in found.occupancy])
    x = np.where(np.arange(A) == found.actions[:, None], visits[:, None], 0.0)
    q = np.array([[float(y - z) for z in row] for y, row in zip(found.v, found.slack, strict=True)])
    primal = sum((Fraction(1 / S) * y for y in found.v), Fraction(0))
    dual = sum((z * Fraction(float(model.r_at()[s, a])) for s, (z, a) in
                enumerate(zip(found.occupancy, found.actions, strict=True))), Fraction(0))  # fmt: skip
    return ProgramState(v, q, bound, bound, found.pivots, found.actions, x, float(primal - dual), found.pivots - 1)
