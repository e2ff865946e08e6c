"""Incremental worst-case search in torch [zouitine2024]; the theorems stand in the reference.

The search is deterministic, so that replicas of one model are alike: they share the kernels found, and carry a leading
axis for the common interface. Planning, nature's replies and the static evaluation of all kernels are batched.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch

from polytheory._typing import Float, Int
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.models.ambiguity import Ambiguity, Scenarios, TotalVariation, ambiguity, check_search
from polytheory.scaled.planning.certificate import check_discounted, check_settings
from polytheory.scaled.robust.bellman import robust_policy_sweep, robust_sweep
from polytheory.scaled.robust.certificate import RobustPolicies, RobustState, certify
from polytheory.scaled.robust.deep_iwocs import DeepIwocs as DeepIwocs
from polytheory.scaled.robust.deep_iwocs import DeepTraining as DeepTraining
from polytheory.scaled.robust.policy_iteration import RobustPolicyIteration, nature_iteration
from polytheory.scaled.robust.problem import Problem, dense, problems

SAME = 1e-12  # kernels nearer than this are one kernel


@dataclass(eq=False)
class IwocsState:
    """The reference's state with a leading replica axis: ``kernels`` [n, k, S, A, S], ``q`` [n, S, A], ``pi``, ``best``
    [n, S], ``lower``, ``upper`` [n], ``inner``, ``status``, ``iterations``."""

    kernels: Float[torch.Tensor, "n k S A S"]
    q: Float[torch.Tensor, "n S A"]
    inner: RobustState
    pi: Int[torch.Tensor, "n S"]
    best: Int[torch.Tensor, "n S"]
    lower: Float[torch.Tensor, " n"]
    upper: Float[torch.Tensor, " n"]
    status: str
    iterations: int


@dataclass(frozen=True)
class Iwocs:
    """Incremental worst-case search; fields ``ambiguity``, ``variant``, ``worst``, ``off_policy_rows``, ``tol`` as in
    the reference."""

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
        n, S, A, place = (
            access.replicas,
            access.spec.S,
            access.spec.A,
            {"device": access.device, "dtype": torch.float64},
        )
        nothing = torch.zeros(n, S, dtype=torch.int64, device=access.device)
        inner = RobustPolicyIteration(tol=self.tol / 100).init(access)
        infinite = torch.full((n,), torch.inf, **place)
        q = torch.full((n, S, A), torch.inf, **place)
        kernels = torch.zeros(n, 0, S, A, S, **place)
        return IwocsState(kernels, q, inner, nothing, nothing, -infinite, infinite, "running", 0)

    def step(self, state: IwocsState, access: Any) -> tuple[IwocsState, Info]:
        """Plan on the newest kernel for one step, or search for the next one."""
        problem = dense(problems(access, torch.float64)[0], "the search")
        n = access.replicas
        if not state.kernels.shape[1]:
            state = replace(state, kernels=problem.p.expand(n, 1, *problem.p.shape).clone())
        found = state.kernels[0] if self.variant == "hull" else state.kernels[0, -1:]
        seen = Scenarios(found.cpu().numpy())
        planner = RobustPolicyIteration(seen, tol=self.tol / 100)
        if not planner.done(state.inner):
            state = replace(state, inner=planner.step(state.inner, access)[0])
        elif state.status == "running":
            state = self._search(state, access, problem, seen)
            access.meter.add("backups", access.spec.S * access.spec.A)
        return state, {
            "lower": state.lower.cpu().numpy(), "upper": state.upper.cpu().numpy(), "iterations": state.iterations,
            "kernels": state.kernels.shape[1], "inner": state.inner.bound.cpu().numpy(),
        }  # fmt: skip

    def _search(self, state: IwocsState, access: Any, problem: Problem, seen: Scenarios) -> IwocsState:
        mu = torch.tensor(access.model.mu, device=access.device)
        found = robust_sweep(seen, problem, state.inner.v).q
        q = combined(state.q, found) if self.variant == "paper" else found
        pi = q.argmax(-1)
        upper = q.amax(-1) @ mu + problem.gamma * state.inner.bound
        kernel, value = worst_kernel(ambiguity(self.ambiguity), access, problem, pi, self)
        better = value > state.lower
        lower, best = torch.where(better, value, state.lower), torch.where(better[:, None], pi, state.best)
        status, kernels = "running", state.kernels
        if bool((upper - lower <= self.tol).all()):
            status = "certified"
        elif known(kernel[0], kernels[0]):
            status = "stuck"
        else:
            kernels = torch.cat([kernels, kernel[:, None]], 1)
        inner = state.inner if status != "running" else RobustPolicyIteration(tol=self.tol / 100).init(access)
        return IwocsState(
            kernels, q, inner, pi, best, lower, torch.minimum(upper, state.upper), status, state.iterations + 1
        )

    def policy(self, state: IwocsState) -> RobustPolicies:
        """The candidates with the largest guaranteed value."""
        return RobustPolicies(torch.nn.functional.one_hot(state.best, state.q.shape[-1]).double())

    def done(self, state: IwocsState) -> bool:
        """True when the bracket is closed or the search is stuck; ``status`` says which."""
        return state.status != "running"


def combined(q: Float[torch.Tensor, "*n S A"], newest: Float[torch.Tensor, "*n S A"]) -> Float[torch.Tensor, "*n S A"]:
    """The smaller of the action values found before and those of the newest kernel: never rises."""
    return torch.minimum(q, newest)


def known(kernel: Float[torch.Tensor, "S A S"], kernels: Float[torch.Tensor, "k S A S"]) -> bool:
    """True when the kernel is one of those found before."""
    return bool(((kernels - kernel).abs().amax((1, 2, 3)) <= SAME).any())


def worst_kernel(
    ball: Ambiguity, access: Any, problem: Problem, pi: Int[torch.Tensor, "n S"], search: Any
) -> tuple[Float[torch.Tensor, "n S A S"], Float[torch.Tensor, " n"]]:
    """The kernel of the set that is worst for deterministic policies from the start, and certified lower bounds on what
    it leaves."""
    model = access.model
    mu = torch.tensor(model.mu, device=access.device)
    if search.worst == "static":
        kernels = torch.tensor(ball.kernels, device=access.device)  # type: ignore[attr-defined]
        returns = static_values(kernels, problem, pi) @ mu  # [n, N]
        value, worst = returns.min(-1)
        return kernels[worst], value
    table = torch.nn.functional.one_hot(pi, problem.fixed.shape[-1]).double()
    tolerance = torch.full_like(mu[:1], search.tol / 100 * (1 - problem.gamma) / 4).expand(len(pi))
    v, _ = nature_iteration(ball, access, table, torch.zeros_like(pi, dtype=torch.float64), tolerance)
    sweep = robust_policy_sweep(ball, problem, table, v)
    v, bound, _ = certify(v, sweep, problem, model, stop="span")
    kernel = robust_policy_sweep(ball, problem, table, v).law
    if search.off_policy_rows == "nominal":
        kernel = torch.where(table[..., None] > 0, kernel, problem.p)
    return kernel, v @ mu - bound


def static_values(
    kernels: Float[torch.Tensor, "N S A S"], problem: Problem, pi: Int[torch.Tensor, "n S"]
) -> Float[torch.Tensor, "n N S"]:
    """Values of every policy under every kernel: one batched linear solve."""
    states = torch.arange(pi.shape[1], device=pi.device)
    P = kernels[:, states, pi].movedim(0, 1)  # [n, N, S, S]
    r = problem.fixed[states, pi]
    system = torch.eye(len(states), dtype=P.dtype, device=P.device) - problem.gamma * P
    return torch.linalg.solve(system, r[:, None, :, None].expand(*P.shape[:-1], 1))[..., 0]
