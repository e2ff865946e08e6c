"""Policy iteration over replicas or many models, with exact evaluation by batched LU."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from polytheory._typing import Bool, Float, Int
from polytheory.access import Grant
from polytheory.algorithm import Info
from polytheory.errors import NotSolvedError
from polytheory.scaled.planning.bellman import Rows, along, greedy_actions, q_values, sweep_rounding
from polytheory.scaled.planning.certificate import (
    DTYPES,
    GreedyPolicies,
    PlanningState,
    batched,
    certified,
    check_settings,
    info,
    residual_certificate,
    start,
)
from polytheory.scaled.planning.tensors import Tensors, restrict, tensors


@dataclass(eq=False)
class PolicyState(PlanningState):
    """`PlanningState`, ``actions`` [n, S], the deterministic policies of which ``v`` is the value, and ``settled`` [n],
    True where the last improvement changed no action.
    """

    actions: Int[torch.Tensor, "n S"]
    settled: Bool[torch.Tensor, " n"]


@dataclass(frozen=True)
class PolicyIteration:
    """Evaluate the policies exactly, improve them greedily, repeat; see the reference for the theorem.

    Sparse transitions are made dense for the linear solve, one ``[n, S, S]``: for large models use
    `ModifiedPolicyIteration`.

    Fields: ``tol`` and ``dtype`` as in `ValueIteration`.
    """

    tol: float = 1e-6
    dtype: str = "float64"

    requires: ClassVar[frozenset[Grant]] = frozenset({Grant.MODEL})

    def __post_init__(self) -> None:
        check_settings(self.tol, dtype=self.dtype)

    def init(self, access: Any, seed: int = 0, replica: int = 0) -> PolicyState:
        """Zero values, no policy yet (action 0 everywhere)."""
        zero = start(access, "PolicyIteration", self.dtype)
        return PolicyState(**vars(zero), actions=torch.zeros_like(zero.v, dtype=torch.int64), settled=zero.bound < 0)

    def step(self, state: PolicyState, access: Any) -> tuple[PolicyState, Info]:
        """Improve the policies by the last ``q`` (the first ones are greedy in r), then evaluate them exactly."""
        known = tensors(access, DTYPES[self.dtype])
        P, r = batched(known, state.v)
        if state.sweeps:
            actions = improve(state.q, state.actions, gain=feigned_gain(known, state))
        else:
            actions = greedy_actions(r).expand(state.v.shape)
        v = solve_linear(*restrict(P, r, actions, known.rows), gamma=known.gamma)
        q = q_values(P, r, v, gamma=known.gamma)
        bound, rounding = residual_certificate(known, v, q)
        access.meter.add("backups", access.spec.S * access.spec.A)
        switches = (actions != state.actions).sum(-1)
        settled = (switches == 0) & bool(state.sweeps)
        after = PolicyState(v, q, bound, rounding, state.sweeps + 1, actions, settled)
        return after, info(after) | {"switches": switches.double().cpu().numpy()}

    def policy(self, state: PolicyState) -> GreedyPolicies:
        """Greedy in the last ``q``: loses at most ``2 * state.bound``."""
        return GreedyPolicies(state.q)

    def done(self, state: PolicyState) -> bool:
        """True when every ``bound <= tol``; `NotSolvedError` when this precision can never certify ``tol``."""
        done = certified(state.bound, state.rounding, self.tol)
        stuck = state.settled & ~(state.bound <= self.tol)
        if bool(stuck.any()):
            worst = float(state.bound[stuck].max())
            raise NotSolvedError(
                f"tol = {self.tol:.3g} cannot be certified in this precision: a policy has settled with bound {worst:.3g}; "
                f"ask for tol >= {2 * worst:.1g}"
            )
        return done


def solve_linear(P_pi: Any, b: Float[torch.Tensor, "n S"], *, gamma: Any) -> Float[torch.Tensor, "n S"]:
    """Solve ``(I - gamma P_pi) x = b`` for every replica."""
    S = b.shape[-1]
    if isinstance(P_pi, Rows):
        dense = torch.zeros(*b.shape, S, dtype=b.dtype, device=b.device)
        P_pi = dense.scatter_add_(-1, P_pi.index, P_pi.prob)
    eye = torch.eye(S, dtype=b.dtype, device=b.device)
    return torch.linalg.solve(eye - along(gamma, P_pi) * P_pi, b)


def improve(
    q: Float[torch.Tensor, "n S A"], actions: Int[torch.Tensor, "n S"], *, gain: Float[torch.Tensor, " n"]
) -> Int[torch.Tensor, "n S"]:
    """The greedy policies of q, which keep an action unless another one is better by more than ``gain``."""
    kept = torch.gather(q, -1, actions.unsqueeze(-1)).squeeze(-1)
    return torch.where(q.amax(-1) > kept + gain.to(q.dtype).unsqueeze(-1), greedy_actions(q), actions)


def feigned_gain(known: Tensors, state: PolicyState) -> Float[torch.Tensor, " n"]:
    """The largest advantage of an action that rounding alone could produce in ``state.q``; derived in the reference."""
    size = state.v.abs().amax(-1).double()
    gamma, reward = (x.double() if isinstance(x, torch.Tensor) else x for x in (known.gamma, known.reward))
    local = sweep_rounding(size, reward, gamma=gamma, terms=known.terms, unit=known.unit)
    own = torch.gather(state.q, -1, state.actions.unsqueeze(-1)).squeeze(-1)
    residual = (own - state.v).abs().amax(-1).double() + local
    return 2 * local + 2 * gamma * residual / (1 - gamma)
