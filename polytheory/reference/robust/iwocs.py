"""Incremental worst-case search: a robust problem as a sequence of ordinary ones [zouitine2024].

Setting: a known finite discounted MDP and a set of kernels; nature picks one kernel and keeps it.

Update: solve the newest kernel; act greedily in the smallest of the action values found so far; ask for the kernel that
is worst for that policy; add it. Guarantee: the value of every candidate under its worst kernel and the smallest action
values of the start bracket the robust value, so that they certify it when they meet. They need not meet: the search can
be *stuck*, with the worst kernel already in the set. The hull variant plans against the rectangular hull of the kernels
seen in place of the smallest action values; on finite sets by (s, a) it always ends certified, since a step that does
not certify adds a row.

References: [zouitine2024] Zouitine, Geist and Rachelson, Solving robust MDPs as a sequence of static RL problems,
arXiv:2410.06212.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from polytheory._typing import Float, Int
from polytheory.access import Grant, KnownModel
from polytheory.algorithm import Info
from polytheory.models.ambiguity import Ambiguity, Scenarios, TotalVariation, ambiguity, check_search
from polytheory.models.tabular import TabularMDP
from polytheory.policies import TabularPolicy
from polytheory.reference.planning.certificate import check_discounted, check_settings
from polytheory.reference.robust.bellman import robust_policy_sweep, robust_sweep
from polytheory.reference.robust.certificate import RobustState
from polytheory.reference.robust.evaluation import robust_evaluate
from polytheory.reference.robust.policy_iteration import RobustPolicyIteration

SAME = 1e-12  # kernels nearer than this are one kernel


@dataclass(frozen=True, eq=False)
class IwocsState:
    """State of the search.

    Fields:
        kernels: [k, S, A, S] the kernels found so far, the nominal one first.
        q: [S, A] smallest optimal action values of the kernels solved (variant "hull": robust ones of their hull).
        inner: state of the planner on the newest kernel.
        pi: [S] the candidate's actions. best: [S] the candidate with the largest guaranteed value.
        lower: largest value that a candidate is certified to reach from the start against every kernel of the set.
        upper: what no policy exceeds: certified for sets by (s, a), and for deterministic policies for any set.
        status: "running", "certified" (``upper - lower <= tol``) or "stuck".
        iterations: candidates examined.
    """

    kernels: Float[np.ndarray, "k S A S"]
    q: Float[np.ndarray, "S A"]
    inner: RobustState
    pi: Int[np.ndarray, " S"]
    best: Int[np.ndarray, " S"]
    lower: float
    upper: float
    status: str
    iterations: int


@dataclass(frozen=True)
class Iwocs:
    """Incremental worst-case search [zouitine2024, Algorithm 1], and its hull variant.

    One step is one step of the planner on the newest kernel, or, when that is done, one search for the worst kernel.

    Fields:
        ambiguity: a set by (s, a), or its text; with ``worst = "static"`` a list of kernels (`Scenarios`).
        variant: "paper", or "hull", which cannot be stuck on finite sets by (s, a).
        worst: "rectangular": nature chooses for every (s, a); "static": one kernel of the list for all.
        off_policy_rows: of a rectangular worst kernel: "best-response" to the candidate's value, or "nominal". What the
        candidate does not play
            decides how often the search is stuck.
        tol: wanted ``upper - lower`` at the start distribution, > 0, in units of the value; planner and evaluation work
        to a hundredth.

    Raises `SettingError`, `UnknownNameError`.
    """

    ambiguity: Ambiguity | str = TotalVariation(0.1)  # noqa: RUF009 - sets are frozen
    variant: str = "paper"
    worst: str = "rectangular"
    off_policy_rows: str = "best-response"
    tol: float = 1e-6

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol)
        check_search(ambiguity(self.ambiguity), self.variant, self.worst, self.off_policy_rows, self.tol)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> IwocsState:
        """Nothing solved yet. Raises `DiscountError` for a model with a horizon."""
        check_discounted(access.spec, "Iwocs")
        S, A = access.spec.S, access.spec.A
        nothing = np.zeros(S, dtype=np.int64)
        inner = RobustPolicyIteration(tol=self.tol / 100).init(access)
        return IwocsState(
            np.zeros((0, S, A, S)), np.full((S, A), np.inf), inner, nothing, nothing, -np.inf, np.inf, "running", 0
        )

    def step(self, state: IwocsState, access: Any) -> tuple[IwocsState, Info]:
        """Plan on the newest kernel for one step, or search for the next one."""
        model = access.model
        if not len(state.kernels):
            state = replace(state, kernels=np.stack([dense(model)]))
        seen = state.kernels if self.variant == "hull" else state.kernels[-1:]
        planner = RobustPolicyIteration(Scenarios(seen), tol=self.tol / 100)
        if not planner.done(state.inner):
            inside = KnownModel(model)
            inner, _ = planner.step(state.inner, inside)
            access.meter.add("backups", inside.meter.total("backups"))
            state = replace(state, inner=inner)
        elif state.status == "running":
            state = self._search(state, model, Scenarios(seen), access)
        return state, {
            "lower": state.lower, "upper": state.upper, "iterations": state.iterations, "kernels": len(state.kernels),
            "inner": state.inner.bound,
        }  # fmt: skip

    def _search(self, state: IwocsState, model: TabularMDP, seen: Scenarios, access: Any) -> IwocsState:
        found = robust_sweep(seen, model, state.inner.v).q
        q = combined(state.q, found) if self.variant == "paper" else found
        pi = q.argmax(-1)
        upper = float(model.mu @ q.max(-1)) + model.gamma * state.inner.bound
        kernel, value = worst_kernel(ambiguity(self.ambiguity), model, pi, self)
        better = value > state.lower
        lower, best = (value, pi) if better else (state.lower, state.best)
        access.meter.add("backups", model.S * model.A)
        status = "running"
        kernels = state.kernels
        if upper - lower <= self.tol:
            status = "certified"
        elif known(kernel, kernels):
            status = "stuck"
        else:
            kernels = np.concatenate([kernels, np.ascontiguousarray(kernel)[None]])
        inner = (
            state.inner if status != "running" else RobustPolicyIteration(tol=self.tol / 100).init(KnownModel(model))
        )
        return IwocsState(kernels, q, inner, pi, best, lower, min(upper, state.upper), status, state.iterations + 1)

    def policy(self, state: IwocsState) -> TabularPolicy:
        """The candidate with the largest guaranteed value."""
        return TabularPolicy.deterministic(state.best, state.q.shape[-1])

    def done(self, state: IwocsState) -> bool:
        """True when the bracket is closed or the search is stuck; ``status`` says which."""
        return state.status != "running"


def combined(q: Float[np.ndarray, "S A"], newest: Float[np.ndarray, "S A"]) -> Float[np.ndarray, "S A"]:
    """The smaller of the action values found before and those of the newest kernel: never rises."""
    return np.minimum(q, newest)


def known(kernel: Float[np.ndarray, "S A S"], kernels: Float[np.ndarray, "k S A S"]) -> bool:
    """True when the kernel is one of those found before."""
    return bool((np.abs(kernels - kernel).max((1, 2, 3)) <= SAME).any())


def worst_kernel(
    ball: Ambiguity, model: TabularMDP, pi: Int[np.ndarray, " S"], search: Any
) -> tuple[Float[np.ndarray, "S A S"], float]:
    """The kernel of the set that is worst for a deterministic policy from the start, and a certified lower bound on the
    value it leaves."""
    table = np.eye(model.A)[pi]
    if search.worst == "static":
        values = [_value(model, kernel, pi) for kernel in ball.kernels]  # type: ignore[attr-defined]
        worst = int(np.argmin([model.mu @ v for v in values]))
        return np.asarray(ball.kernels[worst]), float(model.mu @ values[worst])  # type: ignore[attr-defined]
    found = robust_evaluate(model, TabularPolicy(table), ball, tol=search.tol / 100)
    kernel = robust_policy_sweep(ball, model, table, found.v).kernel
    if search.off_policy_rows == "nominal":
        kernel = np.where(table[..., None] > 0, kernel, dense(model))
    return kernel, float(model.mu @ found.v) - found.bound


def _value(model: TabularMDP, kernel: Float[np.ndarray, "S A S"], pi: Int[np.ndarray, " S"]) -> Float[np.ndarray, " S"]:
    states = np.arange(model.S)
    return np.linalg.solve(np.eye(model.S) - model.gamma * kernel[states, pi], model.r_at()[states, pi])


def dense(model: TabularMDP) -> Float[np.ndarray, "S A S"]:
    """The nominal kernel as an array."""
    P = model.P_at()
    return np.asarray(P if isinstance(P, np.ndarray) else P.toarray()).reshape(model.S, model.A, model.S)
